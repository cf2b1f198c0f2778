"""What a client may send once a conversation runs. Pure, but for the clock that it is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from xuna_middleware.access.relay_rules import RelayRules
from xuna_middleware.conversation.endings import (
    FRAME_NOT_OPEN,
    NO_JSON,
    SECOND_FIRST_FRAME,
    TOO_MANY_FRAMES,
    EndedError,
    Ending,
)
from xuna_middleware.conversation.frames import (
    AUDIO,
    PONG,
    REFRESH,
    has_audio,
    hides_nothing,
    is_first,
    kind_of,
    read_frame,
)

_ALWAYS: Final = frozenset({PONG})


@dataclass(frozen=True, slots=True)
class Refresh:
    """Hold a fresh token that a client sent for the gate; in no rendering."""

    token: str = field(repr=False)


#: None lets a frame pass.
Verdict: TypeAlias = Ending | Refresh | None


class Judge:
    """Judge the frames of one client, by the rules of its agent.

    `heard_at` is when the client last sent something other than `pong`, by the clock.
    """

    __slots__ = ("_count", "_kinds", "_listens", "_now", "_rate", "_second", "heard_at")

    def __init__(self, rules: RelayRules, now: Callable[[], float]) -> None:
        self._now = now
        self._rate = rules.frames_per_second
        self._kinds = None if rules.client_frames is None else _ALWAYS.union(rules.client_frames)
        self._listens = rules.idle_timeout is not None
        self._second, self._count = 0, 0
        self.heard_at = now()

    def __call__(self, text: str) -> Verdict:
        """Return what is to be done about a frame."""
        if self._rate is not None and self._is_too_fast(self._rate):
            return TOO_MANY_FRAMES
        if self._kinds is None and hides_nothing(text) and not self._may_be_pong(text):
            self.heard_at = self._now() if self._listens else 0.0
            return None
        try:
            return self._closely(text)
        except EndedError as error:
            return error.ending

    def _closely(self, text: str) -> Verdict:
        members = read_frame(text)
        kind = kind_of(members)
        if is_first(members):
            return SECOND_FIRST_FRAME
        if kind != PONG:
            self.heard_at = self._now()
        if kind == REFRESH:
            token = members.get("token")
            return Refresh(token) if isinstance(token, str) else NO_JSON
        return None if self._is_open(members, kind) else FRAME_NOT_OPEN

    def _is_open(self, members: Mapping[str, Any], kind: Any) -> bool:
        """Tell whether the agent opens a frame, by whichever of its members it is told."""
        if self._kinds is None:
            return True
        if AUDIO not in self._kinds and has_audio(members):
            return False
        return isinstance(kind, str) and kind in self._kinds

    def _may_be_pong(self, text: str) -> bool:
        return self._listens and PONG in text

    def _is_too_fast(self, rate: int) -> bool:
        second = int(self._now())
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        return self._count > rate
