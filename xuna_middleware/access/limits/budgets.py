"""What limits the conversations with one agent, put together once: what counts, and whom.

A budget holds the gate's limits, the agent's, and for visitors theirs, each as a quota of a store.
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

#: Seconds in which a conversation may start with a credential; XUNA AI says "quickly", 15 minutes
#: is the ElevenLabs API's figure.
START_WITHIN: Final = 900.0
#: Seconds for which a conversation is held to last where nobody said; the ElevenLabs API's default.
_USUAL_DURATION: Final = 600.0
_MILLISECONDS: Final = 1000
#: Seconds for which any slot may be held: a week to start (`XunaPlatform(start_within=…)`) and a
#: day to last. One figure for all gates of a name, with whatever `max_duration`: a store takes an
#: end that is later than this for the mark of a clock that went back, and brings it near.
_LONGEST_SLOT: Final = 8 * 86_400.0
#: Seconds after its latest end in which a conversation can still be settled.
_LATE: Final = 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundLimit:
    """Hold one limit of an agent, ready to be counted.

    Attributes:
        title: as callers read it, with the agent's name where it is the agent's own.
        quota: what a store counts; talk time in milliseconds.
    """

    title: str
    limit: AnyLimit
    quota: Quota

    @property
    def unit(self) -> str:
        """What is counted: "credentials", "conversations" at once, or "seconds" of talk."""
        if isinstance(self.limit, Limit):
            return "credentials"
        return "conversations" if isinstance(self.limit, Concurrent) else "seconds"

    def shown(self, amount: int) -> int:
        """Return an amount of the quota in `unit`."""
        amount = max(0, amount)
        return amount // _MILLISECONDS if isinstance(self.limit, TalkTime) else amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hold all limits that apply to one agent, the gate's and its own."""

    agent: str
    counted: tuple[BoundLimit, ...] = ()
    #: Whom they count, each once, and how they are read where no function has to be asked; for each
    #: limit its place among these, and what a store counts.
    distinct: tuple[Per, ...] = ()
    readers: tuple[Reader, ...] | None = None
    places: tuple[tuple[int, Quota], ...] = ()
    titles: tuple[str, ...] = ()
    needs_connection: bool = False
    is_metered: bool = False
    #: Seconds in which the true length of a conversation may become known.
    settled_within: float = 0.0
    #: Seconds after which nothing that was taken is left.
    longest: float = 0.0
    #: Where the counts are kept, if not where those of the same callers are.
    region: Region | None = None

    async def quotas_for(self, context: LimitContext) -> list[Wanted]:
        """Return whom each limit counts, see `principal()`, and what it takes."""
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
    """Put together what applies to one agent.

    `visitors` are limits of visitors, for their budget. `lease` are the seconds for which a slot is
    held at first, where whoever takes it renews it; otherwise it is held for the whole time.
    `longest` is how long any agent's is held that shares the limits of the gate and of visitors.

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
    """Return what bounds tickets; its counts stand in the region of the tickets themselves."""
    counted = [
        BoundLimit(title=limit.title, limit=limit, quota=_rate_quota("tickets", limit))
        for limit in limits
    ]
    budget = _budget("(tickets)", counted, region=region)
    # Where the server tells no address, all such requests count as one: a ticket needs none.
    readers = tuple(map(_lenient, budget.distinct))
    return replace(budget, readers=readers, needs_connection=False)


def _lenient(per: Per) -> Reader:
    if per.parts != ("address",):
        return per.readers[0]
    return lambda context: f"address:{context.address()}"


def _rate_quota(name: str, limit: Limit) -> Quota:
    return Quota(field=name, most=limit.most, amount=1, seconds=limit.seconds, kind="rate")


def held_for(agent: Agent, start_within: float) -> float:
    """Return for how many seconds a slot is held where nobody tells when a conversation ends."""
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
    """Return eight letters: there are few limits, and each counted person's hash holds them."""
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
    """Return whole milliseconds, rounded up: what a conversation counts."""
    return math.ceil(seconds * _MILLISECONDS)


#: What bounds one-time tickets, beside all limits: each is kept for a minute.
TICKETS: Final = _tickets(
    Region.TICKETS,
    Limit("300/minute", name="tickets"),
    Limit("3000/minute", per="address", name="tickets per address"),
)
#: Anybody can be a visitor, and ask for one.
VISITORS_TICKETS: Final = _tickets(
    Region.VISITORS_TICKETS, Limit("30/minute", per="address", name="tickets")
)
