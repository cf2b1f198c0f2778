"""What was said: conversations as the platform remembers them, at most 1,000."""

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from xuna_middleware.sandbox.agents import Scalar

MAX_CONVERSATIONS: Final = 1_000
MAX_LINES: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a transcript; `time` is seconds since the epoch."""

    role: Literal["user", "agent"]
    text: str
    time: float


@dataclass(slots=True, kw_only=True)
class Conversation:
    """Hold one conversation for inspection; it grows while it runs. The repr shows no content.

    Attributes:
        id: `conv_…`.
        admitted_by: `public`, `signed_url` or `token`.
        started_at, ended_at: seconds since the epoch; None while it runs.
        dynamic_variables: all that filled it: what was attached at token creation, which wins, and
            what the client sent. `overrides`: the same, by path.
        attached: names of variables and overrides that came from token creation, not the client.
        transcript: the last 500 lines. `context`: the last 500 contextual updates.
        feedback: the last 500 scores.
        user_id: what the client called its user.
        audio_bytes: how much PCM audio came in; nothing listens to it.
        latency_ms: of the last ping that was answered.
        close_code: 1000 is an ordinary end. `close_reason`: why, where there is a why.
        ended_by: `user` (the client closed) or `agent` (the platform did).
        error: the `error_type` that ended it, or `override_error` where it ended in silence.
    """

    id: str
    agent_id: str
    agent_name: str
    admitted_by: Literal["public", "signed_url", "token"]
    started_at: float
    ended_at: float | None = None
    dynamic_variables: Mapping[str, Scalar] = field(default_factory=dict, repr=False)
    overrides: Mapping[str, Any] = field(default_factory=dict, repr=False)
    attached: frozenset[str] = frozenset()
    transcript: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES), repr=False)
    context: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_LINES), repr=False)
    feedback: deque[str | None] = field(default_factory=lambda: deque(maxlen=MAX_LINES), repr=False)
    user_id: str | None = field(default=None, repr=False)
    audio_bytes: int = 0
    latency_ms: int | None = None
    close_code: int | None = None
    close_reason: str = ""
    ended_by: Literal["user", "agent"] | None = None
    error: str | None = None

    @property
    def live(self) -> bool:
        """Say whether it still runs."""
        return self.ended_at is None

    @property
    def duration(self) -> float | None:
        """Return seconds from start to end; None while it runs."""
        return None if self.ended_at is None else self.ended_at - self.started_at


class Records:
    """Keep conversations by id. When it is full, the oldest that has ended goes."""

    def __init__(self, *, limit: int = MAX_CONVERSATIONS) -> None:
        self._limit = limit
        self._kept: OrderedDict[str, Conversation] = OrderedDict()

    def __iter__(self) -> Iterator[Conversation]:
        return iter(tuple(self._kept.values()))

    def get(self, conversation_id: str) -> Conversation | None:
        return self._kept.get(conversation_id)

    def full(self) -> bool:
        """Say whether everything that is kept still runs, so that no more can start."""
        return sum(1 for record in self._kept.values() if record.live) >= self._limit

    def live(self, agent_id: str) -> int:
        """Count the conversations that an agent holds right now."""
        return sum(1 for kept in self._kept.values() if kept.live and kept.agent_id == agent_id)

    def add(self, record: Conversation) -> None:
        while len(self._kept) >= self._limit:
            del self._kept[next(kept.id for kept in self if not kept.live)]
        self._kept[record.id] = record

    def remove(self, conversation_id: str) -> bool:
        return self._kept.pop(conversation_id, None) is not None
