"""Budgets: all limits for conversations with one agent, combined once.

A budget holds the gate's limits, the agent's, and for visitors the visitors' limits, each as a
quota of a store.
"""

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.limits.keys import (
    LimitContext,
    Per,
    Reader,
    principal,
    readers_of,
)
from xuna_middleware.access.limits.limits import AnyLimit, Concurrent, Limit, TalkTime
from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.protocol import Quota, Region, Wanted, named

#: Seconds in which a credential can start a conversation; XUNA AI says "quickly", the ElevenLabs
#: API says 15 minutes.
START_WITHIN: Final = 900.0
#: The assumed length of a conversation in seconds if none is set; the ElevenLabs API's default.
_USUAL_DURATION: Final = 600.0
_MILLISECONDS: Final = 1000
#: Seconds for which any slot may be held: a week to start (`XunaPlatform(start_within=…)`) and a
#: day to last. The same for all gates with one name, whatever their `max_duration`: a store
#: assumes that a later end comes from a clock that went back, and moves it closer.
_LONGEST_SLOT: Final = 8 * 86_400.0
#: Seconds after its latest possible end in which a conversation can still be settled.
_LATE: Final = 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundLimit:
    """Hold one limit of an agent, ready to be counted.

    Attributes:
        title: the title that callers see, with the agent's name for a limit of the agent.
        quota: the quota that a store counts; talk time in milliseconds.
    """

    title: str
    limit: AnyLimit
    quota: Quota

    @property
    def unit(self) -> str:
        """The unit: "credentials", "conversations" at once, or "seconds" of talk."""
        if isinstance(self.limit, Limit):
            return "credentials"
        return "conversations" if isinstance(self.limit, Concurrent) else "seconds"

    def shown(self, amount: int) -> int:
        """Return an amount of the quota in `unit`."""
        amount = max(0, amount)
        return amount // _MILLISECONDS if isinstance(self.limit, TalkTime) else amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hold all limits that apply to one agent, the gate's and the agent's."""

    agent: str
    counted: tuple[BoundLimit, ...] = ()
    #: The distinct principals that they count, and their readers if no function has to be called;
    #: for each limit its index among these, and its quota.
    distinct: tuple[Per, ...] = ()
    readers: tuple[Reader, ...] | None = None
    places: tuple[tuple[int, Quota], ...] = ()
    titles: tuple[str, ...] = ()
    needs_connection: bool = False
    is_metered: bool = False
    #: Seconds in which the actual length of a conversation may become known.
    settled_within: float = 0.0
    #: Seconds after which all charges have come back.
    longest: float = 0.0
    #: The region of the counts, if it isn't the region of the callers themselves.
    region: Region | None = None

    async def quotas_for(self, context: LimitContext) -> list[Wanted]:
        """Return the principal of each limit, see `principal()`, and its quota."""
        if self.needs_connection and context.connection is None:
            raise ConfigurationError(
                f"Agent({self.agent!r}) has a limit by address, or by a function of (identity, "
                "connection): pass the request or WebSocket, as in gate.issue(identity, …, "
                "connection=request)"
            )
        if self.readers is not None:
            found = [read(context) for read in self.readers]
        else:
            found = [await principal(per, context) for per in self.distinct]
        if self.region is not None:
            found = [named(self.region, name) for name in found]
        return [(found[place], quota) for place, quota in self.places]


def make_budget(
    agent: Agent,
    gate_limits: Sequence[AnyLimit],
    start_within: float,
    visitors: Sequence[AnyLimit] | None = None,
    *,
    lease: float | None = None,
    longest: float | None = None,
) -> Budget:
    """Combine the limits that apply to one agent.

    `visitors` are the visitors' limits, for their budget. `lease` is the number of seconds for
    which a slot is held at first if its holder renews it; otherwise it is held for the whole time.
    `longest` is the longest time of a slot among all agents that share the limits of the gate and
    of visitors.

    Raises:
        ConfigurationError: talk time without `max_duration`, or less of it than one conversation.
    """
    whole = held_for(agent, start_within)
    held = lease or whole
    counted = [
        *(_counted(limit, agent, "gate", "", held) for limit in gate_limits),
        *(
            _counted(limit, agent, f"agent {agent.name}", f"{agent.name}: ", held)
            for limit in agent.limits
        ),
        *(_counted(limit, agent, "visitors", "visitors: ", held) for limit in visitors or ()),
    ]
    return _budget(
        agent.name, counted, settled_within=whole + _LATE, slots_last=max(longest or 0.0, whole)
    )


def _budget(
    agent: str,
    counted: Sequence[BoundLimit],
    settled_within: float = 0.0,
    region: Region | None = None,
    slots_last: float = 0.0,
) -> Budget:
    last = [slots_last if one.quota.kind == "slot" else one.quota.seconds for one in counted]
    distinct: list[Per] = []
    for one in counted:
        if one.limit.counted not in distinct:
            distinct.append(one.limit.counted)
    return Budget(
        agent=agent,
        counted=tuple(counted),
        distinct=tuple(distinct),
        places=tuple((distinct.index(one.limit.counted), one.quota) for one in counted),
        readers=readers_of(distinct),
        titles=tuple(one.title for one in counted),
        needs_connection=any(one.limit.counted.needs_connection for one in counted),
        is_metered=any(not isinstance(one.limit, Limit) for one in counted),
        settled_within=settled_within,
        longest=max(last, default=0.0),
        region=region,
    )


def _tickets(region: Region, *limits: Limit) -> Budget:
    """Return the budget of tickets; its counts are kept in the region of the tickets."""
    counted = [
        BoundLimit(title=limit.title, limit=limit, quota=_rate_quota("tickets", limit))
        for limit in limits
    ]
    budget = _budget("(tickets)", counted, region=region)
    # If the server gives no address, all such requests count as one: a ticket needs none.
    readers = tuple(map(_lenient, budget.distinct))
    return replace(budget, readers=readers, needs_connection=False)


def _lenient(per: Per) -> Reader:
    if per.parts != ("address",):
        return per.readers[0]
    return lambda context: f"address:{context.address()}"


def _rate_quota(name: str, limit: Limit) -> Quota:
    return Quota(field=name, most=limit.most, amount=1, seconds=limit.seconds, kind="rate")


def held_for(agent: Agent, start_within: float) -> float:
    """Return how many seconds a slot is held if nobody reports the end of the conversation."""
    return start_within + (agent.max_duration or _USUAL_DURATION)


def _counted(limit: AnyLimit, agent: Agent, place: str, prefix: str, held: float) -> BoundLimit:
    kind = type(limit).__name__
    digest = hashlib.sha256(f"{place}/{kind}/{limit.counts_like}".encode()).digest()
    return BoundLimit(
        title=prefix + limit.title,
        limit=limit,
        quota=_quota(limit, agent, _short(digest), held),
    )


def _short(digest: bytes) -> str:
    """Return eight letters: limits are few, and each counted person's hash repeats the name."""
    return base64.urlsafe_b64encode(digest[:6]).decode()


def _quota(limit: AnyLimit, agent: Agent, name: str, held: float) -> Quota:
    if isinstance(limit, Limit):
        return _rate_quota(name, limit)
    if isinstance(limit, Concurrent):
        return Quota(
            field=name,
            most=limit.most,
            amount=1,
            seconds=max(_LONGEST_SLOT, held),
            kind="slot",
            held=held,
        )
    if agent.max_duration is None:
        raise ConfigurationError(
            f"Agent({agent.name!r}): {limit.title!r} counts time, so the longest conversation must "
            "be known: max_duration=600"
        )
    if agent.max_duration > limit.most:
        raise ConfigurationError(
            f"Agent({agent.name!r}): {limit.title!r} is less than one conversation of max_duration="
            f"{agent.max_duration:g} s, so nobody could ever talk: shorten that, or give more time"
        )
    return Quota(
        field=name,
        most=limit.most * _MILLISECONDS,
        amount=milliseconds(agent.max_duration),
        seconds=limit.seconds,
        kind="time",
    )


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, rounded up, as they count for a conversation."""
    return math.ceil(seconds * _MILLISECONDS)


#: The budget of one-time tickets, independent of all limits: each is kept for a minute.
TICKETS: Final = _tickets(
    Region.TICKETS,
    Limit("300/minute", name="tickets"),
    Limit("3000/minute", per="address", name="tickets per address"),
)
#: Anybody can be a visitor, and request one.
VISITORS_TICKETS: Final = _tickets(
    Region.VISITORS_TICKETS, Limit("30/minute", per="address", name="tickets")
)
