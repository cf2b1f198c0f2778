"""Strict JSON (RFC 8259) for what strangers send: one reading of it, or none.

Refused beyond what `json` refuses: duplicate members, NaN and Infinity, numbers that overflow,
anything but UTF-8, a BOM, lone surrogates, NUL, more than 32 levels of nesting, a top level that is
no object. Two parsers must never read two different things out of one token.
"""

import json
import re
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 32

#: An escaped NUL, and not the text that an escaped backslash begins.
_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class StrictJSONError(ValueError):
    """Say that a text is not the strict JSON described above. Holds nothing of the text."""


def strict_object(raw: bytes) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        StrictJSONError: for everything else, whatever the parser raised.
    """
    try:
        value = _read(raw.decode("utf-8"))
        if b"\\" in raw and b"\\u" in raw:  # one byte is found far faster than two
            _refuse_odd_escapes(raw, value)
    except (ValueError, RecursionError):
        raise StrictJSONError("not a strict JSON object") from None
    if type(value) is not dict or (_brackets(raw) > MAX_DEPTH and _depth(value) > MAX_DEPTH):
        raise StrictJSONError("not a strict JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("number overflows")
    return number


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
)


def _read(text: str) -> Any:
    if text[:1] == "{":
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)  # the same with white space around it, at some cost


def _refuse_odd_escapes(raw: bytes, value: Any) -> None:
    """Refuse escaped NUL, and escaped surrogates that form no pair (they have no UTF-8)."""
    if _NUL.search(raw):
        raise ValueError("NUL")
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def _brackets(raw: bytes) -> int:
    """Count what opens a level. Finding the last one is cheap, and little precedes it in audio."""
    end = max(raw.rfind(b"{"), raw.rfind(b"[")) + 1
    return raw.count(b"{", 0, end) + raw.count(b"[", 0, end)


def _depth(value: Any) -> int:
    """Count levels without recursion, so that the count itself can't overflow."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [child for node in level for child in _children(node)]
    return depth


def _children(node: Any) -> list[Any]:
    members = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in members if isinstance(child, dict | list)]
