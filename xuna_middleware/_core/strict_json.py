"""Parse untrusted input as strict JSON (RFC 8259), unambiguously and at a bounded cost.

In addition to what `json` refuses, this refuses duplicate members, NaN and Infinity, numbers that
overflow or have more than 64 digits (40 characters with a fraction, 26 with an exponent), anything
but UTF-8, a BOM, lone surrogates, NUL, more than 32 levels of nesting, and a top level that is not
an object. Two parsers must never read one token differently.

The cost of a text depends on its content more than on its length: 64 KiB of `{},` take 25 times as
long as 64 KiB of one string. So objects, lists and values are counted before anything is parsed;
counting bytes is cheap. `Bounds` limits their number for each use.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

MAX_DEPTH: Final = 32
#: Of one number. Python's own bound is 4,300, and an integer's cost is quadratic.
MAX_DIGITS: Final = 64
#: Characters of a number with an exponent: a double takes 24, and more digits cost up to 10 µs a
#: number. Without an exponent, other languages write longer decimals, and these cost little.
MAX_FLOAT: Final = 26
MAX_DECIMAL: Final = 40

#: In bytes: the largest text parsed in the event loop; larger ones are parsed in a worker thread.
_AT_ONCE: Final = 64 * 1024

T = TypeVar("T")


class Bounds(NamedTuple):
    """Say how much one JSON text may hold.

    Attributes:
        size: bytes.
        containers: objects and lists.
        values: of all kinds, including objects and lists.
        escapes: backslashes.
    """

    size: int
    containers: int = 1_000
    values: int = 4_000
    escapes: int = 64 * 1024


#: Tokens, request bodies, frames, answers about tokens: all input that strangers can write.
SMALL: Final = Bounds(size=64 * 1024)
#: Key sets and metadata of a provider: long texts, such as certificates, in few members.
DOCUMENT: Final = Bounds(size=512 * 1024, values=2_500, escapes=16 * 1024)
#: The platform's record of a whole conversation. Parsed in a worker thread if it is large.
TRANSCRIPT: Final = Bounds(size=4 * 1024 * 1024, containers=30_000, values=60_000, escapes=200_000)


class StrictJSONError(ValueError):
    """Report that a text is not the strict JSON described above. Contains no part of the text."""


class OddEscapesError(StrictJSONError):
    """Report that a text is strict JSON except for escapes that are no character: NUL, or half a
    surrogate pair. JavaScript writes these where a text was cut inside an emoji.
    """


def strict_object(raw: bytes, bounds: Bounds = SMALL) -> dict[str, Any]:
    """Parse one JSON object.

    Raises:
        StrictJSONError: for everything else, whatever the parser raised; an OddEscapesError where
            only such escapes are wrong.
    """
    try:
        if len(raw) > bounds.containers and is_beyond(raw, bounds):
            raise ValueError("too much")
        value = _read(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise StrictJSONError("not a strict JSON object") from None
    if type(value) is not dict or (_opened(raw) > MAX_DEPTH and _depth(value) > MAX_DEPTH):
        raise StrictJSONError("not a strict JSON object")
    if b"\\" in raw and b"\\u" in raw:  # searching one byte is far faster than two
        _refuse_odd_escapes(raw, value)
    return value


def is_beyond(raw: bytes, bounds: Bounds) -> bool:
    """Return whether a text exceeds its bounds, without parsing it.

    Each value except the first of an object or list has a comma before it. Brackets and commas in
    strings are text: they are excluded where the quick count is too high.
    """
    if len(raw) > bounds.size or raw.count(b"\\") > bounds.escapes:
        return True
    if not _holds_more(raw, bounds):
        return False
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 4 * (bounds.values + 1):
        return True  # a value has at most two strings, its name and itself
    return _holds_more(b"".join(unescaped.split(b'"')[::2]), bounds)


async def read_aside(read: Callable[[bytes], T], raw: bytes) -> T:
    """Call a reader with a text, in a worker thread if the text is large.

    The reader's Python functions let the event loop continue between two values.
    """
    return read(raw) if len(raw) <= _AT_ONCE else await asyncio.to_thread(read, raw)


def _holds_more(raw: bytes, bounds: Bounds) -> bool:
    opened = _opened(raw)
    return opened > bounds.containers or opened + raw.count(b",") > bounds.values


def _opened(raw: bytes) -> int:
    """Count the brackets and braces that open a level."""
    return raw.count(b"{") + raw.count(b"[")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _no_constant(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("number too long")
    return int(text)


def _finite(text: str) -> float:
    if len(text) > (MAX_FLOAT if "e" in text or "E" in text else MAX_DECIMAL):
        raise ValueError("number too long")
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("number overflows")
    return number


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_whole
)


def _read(text: str) -> Any:
    if text[:1] == "{":
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    return _decoder.decode(text)  # also accepts white space around it, but is slower


def _refuse_odd_escapes(raw: bytes, value: dict[str, Any]) -> None:
    """Refuse escaped NUL, and escaped surrogates that form no pair (they have no UTF-8).

    `value` is the parsed text. A pair of backslashes is one literal backslash.
    """
    bare = raw.replace(b"\\\\", b"") if b"\\\\" in raw else raw
    if b"\\u0000" in bare:
        raise OddEscapesError("not a strict JSON object")
    if b"\\ud" in bare or b"\\uD" in bare:
        try:
            for text in _texts_in(value):
                text.encode()
        except UnicodeEncodeError:
            raise OddEscapesError("not a strict JSON object") from None


def _texts_in(value: Any) -> Iterator[str]:
    """Yield all texts that are not ASCII, including member names."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each
            left += each.values()
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str) and not each.isascii():
            yield each


def _depth(value: Any) -> int:
    """Count levels without recursion, so that counting can't overflow the stack."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [child for node in level for child in _children(node)]
    return depth


def _children(node: Any) -> list[Any]:
    members = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [child for child in members if isinstance(child, dict | list)]
