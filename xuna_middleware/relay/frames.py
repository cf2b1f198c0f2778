"""Frames of a conversation, as far as the gate has to read them. Pure: no I/O, no clock.

A frame is one JSON object in a WebSocket text message, with its kind in `type`. Of a client's
frames only the first is rewritten; later ones pass unchanged. Each is parsed as strict JSON first,
except audio in one of the shapes that clients send: such a frame has one member, whose value is
base64, so it can be read in only one way.

A platform may be more tolerant than its documentation. So names and kinds are folded before they
are compared with those of a first frame, and the fold equates all that any parser could take for
the same word: letters and digits alone, compatibility forms resolved (NFKD), without marks,
without case.
"""

import re
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from xuna_middleware._core.strict_json import (
    SMALL,
    Bounds,
    OddEscapesError,
    StrictJSONError,
    strict_object,
)
from xuna_middleware._core.text_fold import fold
from xuna_middleware.relay.close_codes import (
    FIRST_FRAME_EXPECTED,
    INVALID_JSON,
    MEMBER_NOT_OPEN,
    PLATFORM_ERROR,
    ConversationClosedError,
)

FIRST: Final = "conversation_initiation_client_data"
METADATA: Final = "conversation_initiation_metadata"
#: A frame for the gate itself: `{"type": "xuna_gate_refresh", "token": "…"}`.
REFRESH: Final = "xuna_gate_refresh"
PONG: Final = "pong"
AUDIO: Final = "audio"
#: The member that makes a frame without a kind audio.
_CHUNK: Final = "user_audio_chunk"
#: A client's audio as npm's `@elevenlabs/client`, PyPI's `elevenlabs` and XUNA AI's documentation
#: write it: the text before and after the base64.
_PLAIN_AUDIO: Final = (
    ('{"user_audio_chunk":"', '"}'),
    ('{"user_audio_chunk": "', '"}'),
    ('{"type":"audio","audio_event":{"audio_base_64":"', '"}}'),
    ('{"type": "audio", "audio_event": {"audio_base_64": "', '"}}'),
)
_BASE64: Final = (string.ascii_letters + string.digits + "+/=").encode()

#: The longest name or kind that is folded, in characters; documented ones have 42 at most.
_LONGEST_NAME: Final = 128
#: The most non-ASCII characters in the names and kinds of one frame; documented ones have none.
_MOST_WIDE: Final = 256
#: The most members in one frame of a client; no documented one has more than six.
_MOST_MEMBERS: Final = 64
_WIDE: Final = re.compile(r"[^\x00-\x7f]")
_NEITHER_LETTER_NOR_DIGIT: Final = re.compile("[^a-z0-9]+")
#: Folded names, and parts of them.
_KIND: Final = "type"
_FIRST: Final = "conversationinitiationclientdata"
_REFRESH: Final = "xunagaterefresh"
_OF_FIRST: Final = frozenset(
    {"dynamicvariables", "conversationconfigoverride", "customllmextrabody"}
)
_OF_AUDIO: Final = frozenset({"useraudiochunk", "audioevent"})
_MEMBERS: Final = frozenset(
    {"type", "dynamic_variables", "conversation_config_override", "user_id", "source_info"}
)
_CONVERSATION: Final = "conversation_initiation_metadata_event"
_TURN: Final = "agent_response"
_QUOTED_TURN: Final = f'"{_TURN}"'
#: How audio usually begins: nothing later in such a frame changes its kind, so no search is needed.
_AUDIO: Final = ('{"type":"audio"', '{"type": "audio"')
_MOST_SOURCE: Final = 8
_LONGEST_SOURCE: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstFrame:
    """Describe what a client's first frame asks for, unchecked; `repr()` omits the values.

    `source_info` names the client library, as the library describes itself.
    """

    dynamic_variables: Any = field(default=None, repr=False)
    overrides: Any = field(default=None, repr=False)
    source_info: Mapping[str, str] | None = None


class OddTextError(ConversationClosedError):
    """Report a frame that is valid except for escapes of non-characters; see `OddEscapesError`."""


def read_first(text: str, bounds: Bounds = SMALL) -> FirstFrame:
    """Read a client's first frame. Its `user_id` is left out: only the server's counts.

    Raises:
        ConversationClosedError: it is not a first frame, or has members that no client may send.
    """
    members = read_frame(text, bounds)
    if members.get("type") != FIRST:
        raise ConversationClosedError(FIRST_FRAME_EXPECTED)
    if not _MEMBERS.issuperset(members):
        raise ConversationClosedError(MEMBER_NOT_OPEN)
    return FirstFrame(
        dynamic_variables=members.get("dynamic_variables"),
        overrides=members.get("conversation_config_override"),
        source_info=_source(members.get("source_info")),
    )


def read_frame(text: str, bounds: Bounds = SMALL) -> dict[str, Any]:
    """Read a frame as strict JSON, which can be read in only one way.

    Raises:
        ConversationClosedError: it isn't a strict JSON object, or exceeds `bounds`; an OddTextError
            if only its escapes are wrong.
    """
    try:
        return strict_object(text.encode("utf-8", "surrogatepass"), bounds)
    except OddEscapesError:
        raise OddTextError(INVALID_JSON) from None
    except StrictJSONError:
        raise ConversationClosedError(INVALID_JSON) from None


def is_plain_audio(text: str) -> bool:
    """Return whether a client's frame is audio and nothing else, without parsing it.

    True only for what `read_frame` reads as one member with base64 in it.
    """
    for head, tail in _PLAIN_AUDIO:
        if text.startswith(head) and text.endswith(tail):
            inside = text[len(head) : -len(tail)]
            is_whole = len(text) >= len(head) + len(tail) and text.isascii()
            return is_whole and not inside.encode().translate(None, _BASE64)
    return False


class FrameNames:
    """Fold the names and kinds of a client's frame.

    Raises:
        ConversationClosedError: it has too many members, or too many characters outside ASCII in
            their names and kinds.
    """

    __slots__ = ("_kinds", "_members", "_names")

    def __init__(self, members: Mapping[str, Any]) -> None:
        if len(members) > _MOST_MEMBERS or _wide_characters(members) > _MOST_WIDE:
            raise ConversationClosedError(MEMBER_NOT_OPEN)
        self._members = members
        self._names = [_folded(name) for name in members]
        named = zip(self._names, members.values(), strict=True)
        kinds = [_texts_in(kind) for name, kind in named if name == _KIND]
        if _wide_characters(kinds) > _MOST_WIDE:
            raise ConversationClosedError(MEMBER_NOT_OPEN)
        self._kinds = [_folded(kind) for kind in kinds]

    @property
    def is_first(self) -> bool:
        """Return whether even the most tolerant parser could read this as a first frame.

        It counts as one by its kind, by a member that only first frames have, or by a name or kind
        that is too long to be folded.
        """
        if not _OF_FIRST.isdisjoint(self._names):
            return True
        return any(_FIRST in each for each in (*self._names, *self._kinds))

    @property
    def is_refresh(self) -> bool:
        """Return whether the frame is for the gate, in any spelling."""
        return any(_REFRESH in each for each in self._kinds)

    @property
    def has_kind(self) -> bool:
        """Return whether any member could be taken for the frame's kind."""
        return bool(self._kinds)

    @property
    def has_one_kind(self) -> bool:
        """Return whether no member except `type` could be taken for the frame's kind."""
        return len(self._kinds) == (1 if _KIND in self._members else 0)

    @property
    def has_audio(self) -> bool:
        """Return whether the frame contains audio, whatever its kind says."""
        return not _OF_AUDIO.isdisjoint(self._names)


def kind_of(members: Mapping[str, Any]) -> Any:
    """Return the kind of a client's frame. Audio may come without one."""
    return members.get("type", AUDIO if _CHUNK in members else None)


def conversation_of(frame: str | bytes) -> str | None:
    """Return the conversation's id from the platform's first frame; None if it has none.

    Raises:
        ConversationClosedError: it is not a frame.
    """
    if isinstance(frame, bytes):
        raise ConversationClosedError(PLATFORM_ERROR)
    try:
        members = strict_object(frame.encode("utf-8", "surrogatepass"))
    except StrictJSONError:
        raise ConversationClosedError(PLATFORM_ERROR) from None
    about = members.get(_CONVERSATION)
    found = about.get("conversation_id") if isinstance(about, dict) else None
    return found if isinstance(found, str) and members.get("type") == METADATA else None


def is_turn(text: str) -> bool:
    """Return whether a frame from the platform is a turn of the agent: `agent_response`."""
    if text.startswith(_AUDIO) or _QUOTED_TURN not in text:
        return False
    try:
        return strict_object(text.encode("utf-8", "surrogatepass")).get("type") == _TURN
    except StrictJSONError:
        return False


def _texts_in(value: Any) -> str:
    """Return a text, or all texts in a list or an object, joined in order."""
    if isinstance(value, str):
        return value
    texts, left = [], [value]
    while left:
        each = left.pop()
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, list):
            left += reversed(each)
        elif isinstance(each, dict):
            left += [text for pair in reversed(each.items()) for text in reversed(pair)]
    return "".join(texts)


def _wide_characters(texts: Iterable[str]) -> int:
    """Count the characters outside ASCII; texts that are too long to be folded don't count."""
    return sum(
        len(_WIDE.findall(text))
        for text in texts
        if not text.isascii() and len(text) <= _LONGEST_NAME
    )


def _folded(text: str) -> str:
    """Return the letters and digits of a name, as the most tolerant parser would compare them.

    A name that is too long for that counts as a first frame's name.
    """
    known = _KNOWN.get(text)
    if known is not None:
        return known
    if len(text) > _LONGEST_NAME:
        return _FIRST
    return _NEITHER_LETTER_NOR_DIGIT.sub("", fold(text))


def _source(told: Any) -> Mapping[str, str] | None:
    if told is None:
        return None
    fits = isinstance(told, dict) and len(told) <= _MOST_SOURCE
    if not fits or not all(_is_short(part) for pair in told.items() for part in pair):
        raise ConversationClosedError(MEMBER_NOT_OPEN)
    source: dict[str, str] = told
    return source


def _is_short(text: Any) -> bool:
    return isinstance(text, str) and len(text) <= _LONGEST_SOURCE and text.isprintable()


#: The folds of the most frequent names and kinds, which are read several times a second.
_KNOWN: Final = {
    name: name.replace("_", "")
    for name in (
        *("type", "text", "event_id", "score", "tool_call_id", "result", "is_error", "is_approved"),
        *("audio", "pong", "user_activity", "user_message", "contextual_update", "feedback"),
        *("client_tool_result", _CHUNK, "audio_event", "token"),
    )
}
