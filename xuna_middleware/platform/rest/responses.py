"""Check the platform's answers before anything uses them. Pure functions.

A flaw is returned, not raised: a frame that reads a credential must not be in a traceback.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from xuna_middleware._core.strict_json import SMALL, Bounds, StrictJSONError, strict_object

#: A LiveKit token is a JWT of some hundred bytes.
_TOKEN: Final = re.compile(r"[!-~]{1,8192}", re.ASCII)
#: Goes into logs and events, so only letters, digits and harmless punctuation.
_CONVERSATION_ID: Final = re.compile(r"conv_[A-Za-z0-9_.:-]{1,250}", re.ASCII)
#: 201 because creating a token may well return it.
_GOOD: Final = (200, 201)

#: Returns a value's flaw; None if it has none.
Check: TypeAlias = Callable[[object], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiResponse:
    """A credential that passed its check. Its repr masks it."""

    credential: str = field(repr=False)
    conversation_id: str | None


@dataclass(frozen=True, slots=True)
class Invalid:
    """The flaw of an answer, without quoting it."""

    reason: str


def read_answer(status: int, body: bytes, member: str, check: Check) -> ApiResponse | Invalid:
    """Read the credential in one member of a JSON object, and its `conversation_id`.

    Checks: the status, that the body is one strict JSON object (see `_json`), and the member, with
    `check`. A `conversation_id` of another shape than `conv_…` is dropped.
    Does not check: the content type, which servers get wrong, and unknown members.
    """
    if status not in _GOOD:
        return Invalid(f"status {status}")
    members = json_object(body)
    if members is None:
        return Invalid("not a JSON object")
    reason = check(members.get(member))
    if reason is not None:
        return Invalid(reason)
    return ApiResponse(
        credential=members[member],
        conversation_id=conversation_id(members.get("conversation_id")),
    )


def flaw_in_token(value: object) -> str | None:
    """Return the flaw of a conversation token; only its characters are checked."""
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return None
    return "token is missing, or not printable ASCII without white space of at most 8 KB"


def json_object(body: bytes, bounds: Bounds = SMALL) -> dict[str, Any] | None:
    """Read a strict JSON object; None if it is anything else."""
    try:
        return strict_object(body, bounds)
    except StrictJSONError:
        return None


def conversation_id(value: object) -> str | None:
    """Return a conversation's id; None if it doesn't look like `conv_…`."""
    return value if isinstance(value, str) and _CONVERSATION_ID.fullmatch(value) else None
