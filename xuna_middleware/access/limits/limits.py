"""Limits on how often, how many at once, and how long, as their author writes them. Pure values.

All three are checked when they are built. `reservations.py` defines what they count, `keys.py`
defines the principals.
"""

import re
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final, Literal, TypeAlias

from xuna_middleware.access.limits.keys import Per, PerLike, as_per
from xuna_middleware.errors import ConfigurationError

#: The behaviour of a limit while the store can't be reached.
OnUnavailable: TypeAlias = Literal["deny", "allow", "local"]

_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_PERIOD: Final = f"(?:({'|'.join(_PERIODS)})s?)"
_RATE: Final = re.compile(rf"([0-9]{{1,9}}) *(?:/|per) *(?:([0-9]{{1,4}}) +)?{_PERIOD}")
_BUDGET: Final = re.compile(
    rf"([0-9]{{1,9}}) +{_PERIOD} *(?:/|per) *(?:([0-9]{{1,4}}) +)?{_PERIOD}"
)
_LONGEST: Final = 366 * 86_400
_MOST_SLOTS: Final = 1_000_000
#: Characters that an RFC 9651 string may hold without an escape; names go into headers.
_NAME: Final = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}")


@dataclass(frozen=True, slots=True)
class Limit:
    """Limit how often credentials are issued: `Limit("10/minute", per="subject")`.

    The window begins with its first use, by the store's clock: at most the limit is issued in one
    window, and at most twice as many across the boundary of two.

    Attributes:
        rate: "10/minute", "100 per day", "50/5 minutes"; second, minute, hour, day or week.
        per: the principal: "subject", "client", "address", "agent", "all" (everybody together),
            `claim(…)`, a function of `(identity)` or `(identity, connection)` that returns a text,
            number or boolean, or a tuple of these, counted together. Values that describe the
            caller count within their issuer. The address is that of the connection, or of a listed
            proxy's X-Forwarded-For; by subscriber, IPv6 by /64.
        name: the name in `RateLimit-Policy`; made of rate and per by default. Two limits at one
            place that count the same way need names.
        on_unavailable: `"deny"` refuses with 503, `"allow"` doesn't count, `"local"` counts in
            this process alone.

    Raises:
        ConfigurationError: one of these is invalid; the text says how to write it.
    """

    rate: str
    _: KW_ONLY
    per: PerLike = "subject"
    name: str | None = None
    on_unavailable: OnUnavailable = "deny"
    most: int = field(init=False, repr=False)
    seconds: int = field(init=False, repr=False)
    counted: Per = field(init=False, repr=False)

    def __post_init__(self) -> None:
        most, seconds = _rate(self.rate)
        _settle(self, "Limit", most=most, seconds=seconds)

    @property
    def title(self) -> str:
        return self.name or f"{' '.join(self.rate.split())} per {self.counted.name}"

    @property
    def counts_like(self) -> str:
        """The text that distinguishes it from others at the same place or with another window."""
        return _windowed(self)


@dataclass(frozen=True, slots=True)
class Concurrent:
    """Limit how many conversations there are at once: `Concurrent(2, per="subject")`.

    Only the relay sees a conversation's end as it happens. For a credential given to the client,
    the slot is held until the platform reports the end of the conversation, at most for as long as
    it can start and then last (`Agent(max_duration=…)`, 600 s without one), and up to 2 % longer.

    Attributes:
        conversations: the maximum number.
        per, name, on_unavailable: as in `Limit`.

    Raises:
        ConfigurationError: one of these is invalid; the text says how to write it.
    """

    conversations: int
    _: KW_ONLY
    per: PerLike = "subject"
    name: str | None = None
    on_unavailable: OnUnavailable = "deny"
    counted: Per = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if type(self.conversations) is not int or not 1 <= self.conversations <= _MOST_SLOTS:
            raise ConfigurationError(
                "Concurrent takes a whole number of conversations, 1 or more: Concurrent(2)"
            )
        _settle(self, "Concurrent")

    @property
    def most(self) -> int:
        return self.conversations

    @property
    def title(self) -> str:
        return self.name or f"{self.conversations} at once per {self.counted.name}"

    @property
    def counts_like(self) -> str:
        """The text that distinguishes it from others at the same place."""
        return self.name or self.counted.name


@dataclass(frozen=True, slots=True)
class TalkTime:
    """Limit the total length of conversations: `TalkTime("60 minutes/day", per="subject")`.

    A reservation takes the agent's `max_duration`, which therefore must be set; unused time is
    given back when the actual length is known. Without a settlement it counts in full.

    Attributes:
        budget: "60 minutes/day", "2 hours per week", "90 seconds/10 minutes".
        per, name, on_unavailable: as in `Limit`.

    Raises:
        ConfigurationError: one of these is invalid; the text says how to write it.
    """

    budget: str
    _: KW_ONLY
    per: PerLike = "subject"
    name: str | None = None
    on_unavailable: OnUnavailable = "deny"
    most: int = field(init=False, repr=False)
    seconds: int = field(init=False, repr=False)
    counted: Per = field(init=False, repr=False)

    def __post_init__(self) -> None:
        most, seconds = _budget(self.budget)
        _settle(self, "TalkTime", most=most, seconds=seconds)

    @property
    def title(self) -> str:
        return self.name or f"{' '.join(self.budget.split())} per {self.counted.name}"

    @property
    def counts_like(self) -> str:
        """The text that distinguishes it from others at the same place or with another window."""
        return _windowed(self)


AnyLimit: TypeAlias = Limit | Concurrent | TalkTime


def checked_limits(limits: Any) -> tuple[AnyLimit, ...]:
    """Return the limits of one place, checked, or raise ConfigurationError."""
    if not isinstance(limits, list | tuple):
        raise ConfigurationError('limits takes a list: limits=[Limit("10/minute")]')
    seen: set[tuple[type, str]] = set()
    titles: set[str] = set()
    for limit in limits:
        if not isinstance(limit, Limit | Concurrent | TalkTime):
            raise ConfigurationError(
                "limits holds Limit(…), Concurrent(…) and TalkTime(…) only, "
                f"not a {type(limit).__name__}"
            )
        if (type(limit), limit.counts_like) in seen:
            raise ConfigurationError(
                f"two limits count alike ({limit.title}): drop one, or give them names, "
                'as in Limit(…, name="burst")'
            )
        if limit.title in titles:
            raise ConfigurationError(
                f"two limits are called {limit.title!r}, and callers could not tell which they "
                "reached: give them different names"
            )
        seen.add((type(limit), limit.counts_like))
        titles.add(limit.title)
    return tuple(limits)


def _windowed(limit: Limit | TalkTime) -> str:
    which = limit.counted.name if limit.name is None else f"named {limit.name}"
    return f"{limit.seconds} {which}"


def _settle(limit: Any, kind: str, **values: Any) -> None:
    """Set the checked values that are computed from a limit's options."""
    if limit.name is not None and not _is_name(limit.name):
        raise ConfigurationError(
            f"{kind}: name is 1 to 64 printable ASCII characters without quotes and backslashes"
        )
    if limit.on_unavailable not in ("deny", "allow", "local"):
        raise ConfigurationError(f'{kind}: on_unavailable is "deny", "allow" or "local"')
    try:
        values["counted"] = as_per(limit.per)
    except ConfigurationError as error:
        raise ConfigurationError(f"{kind}: {error}") from None
    for name, value in values.items():
        object.__setattr__(limit, name, value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _rate(text: Any) -> tuple[int, int]:
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    most = int(match[1]) if match else 0
    if match is None or not most:
        raise ConfigurationError(
            f'Limit: {text!r:.80} is no rate; write "10/minute", "100 per day" or "50/5 minutes"'
        )
    return most, _window("Limit", match[2], match[3])


def _budget(text: Any) -> tuple[int, int]:
    match = _BUDGET.fullmatch(text) if isinstance(text, str) else None
    most = int(match[1]) * _PERIODS[match[2]] if match else 0
    if match is None or not most:
        raise ConfigurationError(
            f'TalkTime: {text!r:.80} is no budget; write "60 minutes/day" or "2 hours per week"'
        )
    return most, _window("TalkTime", match[3], match[4])


def _window(kind: str, times: str | None, period: str) -> int:
    seconds = int(times or 1) * _PERIODS[period]
    if not 1 <= seconds <= _LONGEST:
        raise ConfigurationError(f"{kind}: a window lasts from a second to 366 days")
    return seconds
