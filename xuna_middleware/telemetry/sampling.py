"""Decide which events an audit log writes, so that a flood of requests can't fill a disk. No I/O.

Issued credentials and operators' actions are always written. Intermediate steps and refusals are
written up to a number in a minute: for all unverified callers together, for each verified caller,
and for all verified callers together. Any more are counted by kind.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from xuna_middleware import ConfigurationError, Event, Identity

#: Seconds of one count.
INTERVAL: Final = 60.0
#: These are written, however many they are: limits, providers and operators bound them.
KEPT: Final = frozenset(
    {
        "issued",
        "conversation_started",
        "conversation_ended",
        "settled",
        "settlement_expired",
        "revoked",
        "keys_rotated",
        "provider_down",
        "webhook_received",
    }
)
#: Kinds that are told apart; codes are those of the gate, and of the user's rules.
_MOST_KINDS: Final = 100
_FURTHER: Final = "further"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Say how many steps and refusals are written in a minute."""

    unverified: int
    per_caller: int
    verified: int

    def __post_init__(self) -> None:
        for name in ("unverified", "per_caller", "verified"):
            if type(number := getattr(self, name)) is not int or number < 1:
                option = f"{name}_per_minute"
                raise ConfigurationError(f"AuditLog({option}={number!r}): whole, 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Say what was not written between two moments: how many of each kind."""

    since: float
    until: float
    unverified: Mapping[str, int]
    verified: Mapping[str, int]


class Sampler:
    """Count events in intervals. Holds as many callers as may write in one, and no more.

    Not for several threads at once.
    """

    def __init__(self, rates: Rates, clock: Callable[[], float]) -> None:
        self._rates = rates
        self._clock = clock
        self._begins = clock()
        self._unverified = self._verified = 0
        self._callers: dict[tuple[str | None, str | None], int] = {}
        self._left_out = _Counts()

    @property
    def is_leaving_out(self) -> bool:
        """Return whether something was left out that `taken()` has not returned yet."""
        return self._left_out.any

    def admit(self, event: Event) -> bool:
        """Return whether to write an event; one that isn't written is counted."""
        if event.name in KEPT:
            return True
        now = self._clock()
        if not self._begins <= now < self._begins + INTERVAL:
            self._begins = now
            self._unverified = self._verified = 0
            self._callers.clear()
        if event.subject is None or _is_visitors(event.issuer or ""):
            self._unverified += 1
            if self._unverified <= self._rates.unverified:
                return True
            self._left_out.add(self._left_out.unverified, event, now)
            return False
        if self._admit_caller((event.issuer, event.subject)):
            return True
        self._left_out.add(self._left_out.verified, event, now)
        return False

    def taken(self) -> LeftOut:
        """Return the events left out since the last call, and restart the count."""
        counts, self._left_out = self._left_out, _Counts()
        return LeftOut(
            since=counts.since,
            until=self._clock(),
            unverified=dict(counts.unverified),
            verified=dict(counts.verified),
        )

    def put_back(self, left_out: LeftOut) -> None:
        """Add counts that were taken but could not be written to the current ones."""
        self._left_out.since = left_out.since
        self._left_out.unverified.update(left_out.unverified)
        self._left_out.verified.update(left_out.verified)

    def _admit_caller(self, caller: tuple[str | None, str | None]) -> bool:
        written = self._callers.get(caller, 0)
        if written >= self._rates.per_caller or self._verified >= self._rates.verified:
            return False
        self._callers[caller] = written + 1
        self._verified += 1
        return True


class _Counts:
    """Count what is left out, by name and code."""

    __slots__ = ("since", "unverified", "verified")

    def __init__(self) -> None:
        self.since = 0.0
        self.unverified: Counter[str] = Counter()
        self.verified: Counter[str] = Counter()

    @property
    def any(self) -> bool:
        return bool(self.unverified or self.verified)

    def add(self, counts: Counter[str], event: Event, now: float) -> None:
        if not self.any:
            self.since = now
        kind = event.name if event.code is None else f"{event.name} {event.code}"
        if kind not in counts and len(counts) >= _MOST_KINDS:
            kind = _FURTHER
        counts[kind] += 1


@lru_cache(maxsize=64)
def _is_visitors(issuer: str) -> bool:
    """Return whether an issuer stands for callers who presented nothing."""
    return Identity(subject="x", issuer=issuer).is_anonymous
