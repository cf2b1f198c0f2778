"""Frames of a conversation, as far as the gate has to read them. Pure: no I/O, no clock.

A frame is one JSON object in a WebSocket text message, its kind in `type`. Of a client's frames
only the first is rewritten. All later ones pass as they came, so what must not pass has to be seen
in any spelling: a frame that neither holds the letters of a kind nor a backslash, by which they
could be escaped, is not of that kind (RFC 8259 section 7).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from xuna_middleware._json import StrictJSONError, strict_object
from xuna_middleware.conversation.endings import (
    FIRST_FRAME_EXPECTED,
    MEMBER_NOT_OPEN,
    NO_JSON,
    PLATFORM_ERROR,
    EndedError,
)

FIRST: Final = "conversation_initiation_client_data"
METADATA: Final = "conversation_initiation_metadata"
#: A frame for the gate itself: `{"type": "xuna_gate_refresh", "token": "…"}`.
REFRESH: Final = "xuna_gate_refresh"
PONG: Final = "pong"
AUDIO: Final = "audio"
#: The member by which a frame without a kind is audio.
_CHUNK: Final = "user_audio_chunk"

_LONGEST_KIND: Final = max(len(FIRST), len(REFRESH))
_MEMBERS: Final = frozenset(
    {"type", "dynamic_variables", "conversation_config_override", "user_id", "source_info"}
)
_CONVERSATION: Final = "conversation_initiation_metadata_event"
_TURN: Final = "agent_response"
_QUOTED_TURN: Final = f'"{_TURN}"'
#: How audio usually begins: nothing later in a frame makes it another kind, and it needs no search.
_AUDIO: Final = ('{"type":"audio"', '{"type": "audio"')
_MOST_SOURCE: Final = 8
_LONGEST_SOURCE: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFrame:
    """Hold what a client's first frame asks for, unchecked; in no rendering.

    `source_info` is which client library this is, in its own words.
    """

    dynamic_variables: Any = field(default=None, repr=False)
    overrides: Any = field(default=None, repr=False)
    source_info: Mapping[str, str] | None = None


def read_first(text: str) -> FirstFrame:
    """Read a client's first frame. Its `user_id` is left out: the server's is the one that counts.

    Raises:
        EndedError: it is none, or has members that aren't open to anybody.
    """
    members = read_frame(text)
    if members.get("type") != FIRST:
        raise EndedError(FIRST_FRAME_EXPECTED)
    if not _MEMBERS.issuperset(members):
        raise EndedError(MEMBER_NOT_OPEN)
    return FirstFrame(
        dynamic_variables=members.get("dynamic_variables"),
        overrides=members.get("conversation_config_override"),
        source_info=_source(members.get("source_info")),
    )


def read_frame(text: str) -> dict[str, Any]:
    """Read a frame strictly: one reading of it, or none.

    Raises:
        EndedError: it is no strict JSON object.
    """
    try:
        return strict_object(text.encode("utf-8", "surrogatepass"))
    except StrictJSONError:
        raise EndedError(NO_JSON) from None


def hides_nothing(text: str) -> bool:
    """Tell whether a client's frame can be neither a first frame nor one for the gate.

    Both kinds have an underscore, and base64 has none: of audio little more than the head is read.
    """
    worded = text[: text.rfind("_") + _LONGEST_KIND]
    return "\\" not in text and FIRST not in worded and REFRESH not in worded


def is_first(members: Mapping[str, Any]) -> bool:
    """Tell whether a frame is a first one, to whoever reads names without regard to case, too."""
    return any(
        name.strip().casefold() == "type"
        and isinstance(kind, str)
        and kind.strip().casefold() == FIRST
        for name, kind in members.items()
    )


def kind_of(members: Mapping[str, Any]) -> Any:
    """Return a client's frame's kind. Audio comes without one."""
    return members.get("type", AUDIO if has_audio(members) else None)


def has_audio(members: Mapping[str, Any]) -> bool:
    """Tell whether a client's frame holds what would be audio without a kind."""
    return _CHUNK in members


def conversation_of(frame: str | bytes) -> str | None:
    """Return the conversation's id from the platform's first frame, where that tells it.

    Raises:
        EndedError: it is no frame at all.
    """
    if isinstance(frame, bytes):
        raise EndedError(PLATFORM_ERROR)
    try:
        members = strict_object(frame.encode("utf-8", "surrogatepass"))
    except StrictJSONError:
        raise EndedError(PLATFORM_ERROR) from None
    about = members.get(_CONVERSATION)
    found = about.get("conversation_id") if isinstance(about, dict) else None
    return found if isinstance(found, str) and members.get("type") == METADATA else None


def is_turn(text: str) -> bool:
    """Tell whether a frame of the platform's is a turn of the agent's: `agent_response`."""
    if text.startswith(_AUDIO) or _QUOTED_TURN not in text:
        return False
    try:
        return strict_object(text.encode("utf-8", "surrogatepass")).get("type") == _TURN
    except StrictJSONError:
        return False


def _source(told: Any) -> Mapping[str, str] | None:
    if told is None:
        return None
    fits = isinstance(told, dict) and len(told) <= _MOST_SOURCE
    if not fits or not all(_is_short(part) for pair in told.items() for part in pair):
        raise EndedError(MEMBER_NOT_OPEN)
    source: dict[str, str] = told
    return source


def _is_short(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= _LONGEST_SOURCE and text.isprintable()
