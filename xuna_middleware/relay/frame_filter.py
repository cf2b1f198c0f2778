"""What a client may send once a conversation runs. Pure, except for the clock passed to it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from xuna_middleware._core.strict_json import SMALL
from xuna_middleware.access.relay_rules import ANY, CLIENT_FRAMES, RelayRules
from xuna_middleware.relay.close_codes import (
    FRAME_NOT_OPEN,
    INVALID_JSON,
    NON_AUDIO_FRAME_TOO_LARGE,
    SECOND_FIRST_FRAME,
    TOO_MANY_FRAMES,
    CloseReason,
    ConversationClosedError,
)
from xuna_middleware.relay.frames import (
    AUDIO,
    PONG,
    REFRESH,
    FrameNames,
    OddTextError,
    is_plain_audio,
    kind_of,
    read_frame,
)
from xuna_middleware.relay.usage import size_of

#: Kinds that may appear in a log.
_PLAIN_KIND: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True)
class Refresh:
    """Carry a fresh token that a client sent to the gate; `repr()` omits it."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Drop a frame instead of passing it on; `kind` describes it in words for a log.

    `is_odd_text`: the frame is dropped because of its text, whatever its kind.
    """

    kind: str
    is_odd_text: bool = False


#: The client cut a text inside an emoji. Two parsers may read it differently, and the platform may
#: reject it, so the frame is dropped; ending the conversation as well would help nobody.
ODD_TEXT: Final = Dropped("with half a character, or NUL, in its text", is_odd_text=True)


#: None lets a frame pass.
Verdict: TypeAlias = CloseReason | Refresh | Dropped | None


class FrameFilter:
    """Judge the frames of one client, by the rules of its agent.

    `heard_at` is the clock's time when the client last sent something other than `pong`.
    `has_parsed` says that the latest frame was parsed as JSON, which costs many times as much per
    byte as recognising audio.
    """

    __slots__ = (
        *("_bounds", "_count", "_kinds", "_now", "_rate", "_second"),
        *("has_parsed", "heard_at"),
    )

    def __init__(self, rules: RelayRules, now: Callable[[], float]) -> None:
        self._now = now
        self._rate = rules.frames_per_second
        self._kinds = (
            None if rules.client_frames is ANY else frozenset({PONG, *rules.client_frames})
        )
        self._bounds = SMALL._replace(size=rules.max_non_audio_frame)
        self._second, self._count = 0, 0
        self.has_parsed = False
        self.heard_at = now()

    def __call__(self, text: str) -> Verdict:
        """Return the verdict on a frame."""
        if self._rate is not None and self._is_too_fast(self._rate):
            return TOO_MANY_FRAMES
        self.has_parsed = not is_plain_audio(text)
        if not self.has_parsed:
            if self._kinds is not None and AUDIO not in self._kinds:
                return FRAME_NOT_OPEN
            self.heard_at = self._now()
            return None
        try:
            return self._closely(text)
        except OddTextError:
            return ODD_TEXT
        except ConversationClosedError as error:
            return error.ending

    def _closely(self, text: str) -> Verdict:
        if size_of(text) > self._bounds.size:
            return NON_AUDIO_FRAME_TOO_LARGE
        members = read_frame(text, self._bounds)
        names = FrameNames(members)
        if names.is_first:
            return SECOND_FIRST_FRAME
        kind = kind_of(members)
        if names.is_refresh:
            token = members.get("token")
            is_ours = kind == REFRESH and names.has_one_kind and isinstance(token, str)
            verdict: Verdict = Refresh(str(token)) if is_ours else INVALID_JSON
        else:
            verdict = self._by_list(kind, names)
        if kind != PONG and not isinstance(verdict, Dropped):
            self.heard_at = self._now()
        return verdict

    def _by_list(self, kind: Any, names: FrameNames) -> CloseReason | Dropped | None:
        """Return the verdict of the agent's list on a frame, whichever of its members is read.

        Undocumented kinds are dropped, so that a newer client that sends them for its own features
        keeps working. A documented kind that isn't in the agent's list ends the conversation.
        """
        if self._kinds is None:
            return None
        if not names.has_one_kind or (AUDIO not in self._kinds and names.has_audio):
            return FRAME_NOT_OPEN
        if not isinstance(kind, str) and names.has_kind:
            return FRAME_NOT_OPEN
        if kind in self._kinds:
            return None
        return FRAME_NOT_OPEN if kind in CLIENT_FRAMES else Dropped(_shown(kind))

    def _is_too_fast(self, rate: int) -> bool:
        second = int(self._now())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count > rate


def _shown(kind: str | None) -> str:
    if kind is None:
        return "without a type"
    return f"of the type {kind!r}" if _PLAIN_KIND.fullmatch(kind) else "of an odd type"
