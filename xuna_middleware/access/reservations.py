"""How often and how long: take of all limits at once, or of none, and give back what wasn't used.

A reservation is made before anything is issued. What fails afterwards releases it; when the true
length of the conversation is known, it is settled; what nobody settles counts in full. In one
picture: docs/limits.md.
"""

import base64
import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from xuna_middleware.access.agents import Agent
from xuna_middleware.access.limits import AnyLimit, Concurrent, Limit, TalkTime
from xuna_middleware.access.principals import (
    Circumstances,
    Per,
    PerLike,
    Reader,
    principal,
    readers_of,
    subject_principal,
)
from xuna_middleware.errors import (
    ConfigurationError,
    InvalidTokenError,
    LimitReachedError,
    UnavailableError,
)
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.stores.protocol import (
    Kind,
    Level,
    Move,
    Note,
    Part,
    Quota,
    Reserved,
    Standing,
    Store,
    StoreError,
    Wanted,
    taken_parts,
    unused,
)

logger = logging.getLogger("xuna_middleware")

#: Seconds in which a conversation may start with a credential; XUNA AI says "quickly", 15 minutes
#: is the ElevenLabs API's figure.
START_WITHIN: Final = 900.0
#: Seconds for which a conversation is held to last where nobody said; the ElevenLabs API's default.
_USUAL_DURATION: Final = 600.0
_MILLISECONDS: Final = 1000
_EVERY: Final[tuple[Kind, ...]] = ("rate", "time", "slot")
#: Seconds after its latest end in which a conversation can still be settled.
_LATE: Final = 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
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
class Remaining:
    """Say how much of one limit is left for a caller, in its unit, and in how many seconds some of
    what was taken comes back (0 where nothing was).
    """

    limit: str
    unit: str
    most: int
    left: int
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Hold all limits that apply to one agent, the gate's and its own."""

    agent: str
    counted: tuple[Counted, ...] = ()
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

    @property
    def longest(self) -> float:
        """Seconds after which nothing that was taken is left."""
        return max((one.quota.seconds for one in self.counted), default=0.0)

    async def wanted(self, asked: Circumstances) -> list[Wanted]:
        """Return whom each limit counts, see `principal()`, and what it takes."""
        if self.needs_connection and asked.connection is None:
            raise ConfigurationError(
                f"Agent({self.agent!r}) has a limit by address, or by a function of (identity, "
                "connection): pass the request or WebSocket, as in gate.issue(identity, …, "
                "connection=request)"
            )
        if self.readers is not None:
            found = [read(asked) for read in self.readers]
        else:
            found = [await principal(per, asked) for per in self.distinct]
        return [(found[place], quota) for place, quota in self.places]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Hold what was taken for one credential, until it is released or settled, once.

    Attributes:
        limits: the titles of the limits that counted it.
        uncounted: those that the operator leaves open while the store is down.
    """

    limits: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    store: Store | None = field(default=None, repr=False)
    wanted: Sequence[Wanted] = field(default=(), repr=False)
    reserved: Reserved | None = field(default=None, repr=False)

    @property
    def parts(self) -> tuple[Part, ...]:
        return () if self.reserved is None else taken_parts(self.wanted, self.reserved)

    @property
    def milliseconds(self) -> int | None:
        """The time that was reserved, 0 where only slots were; None where neither was."""
        metered = [part for part in self.parts if part.kind != "rate"]
        times = [part.amount for part in metered if part.kind == "time"]
        return max(times, default=0) if metered else None

    async def release(self, kinds: Sequence[Kind] = _EVERY) -> bool:
        """Give all of these kinds back, since nothing was used; tell whether that is done."""
        return await self._give_back([part for part in self.parts if part.kind in kinds])

    async def give_back_time(self, seconds: float) -> None:
        """Give back the time that a conversation of this length did not use."""
        timed = [part for part in self.parts if part.kind == "time"]
        await self._give_back(unused(timed, milliseconds(seconds)))

    async def _give_back(self, parts: Sequence[Part]) -> bool:
        if self.store is None or not parts:
            return False
        try:
            await self.store.give_back(parts)
        except StoreError as error:
            logger.warning("what a reservation took could not be given back: %s", error)
            return False
        return True

    @property
    def slots(self) -> tuple[Part, ...]:
        """What a lease renews."""
        return tuple(part for part in self.parts if part.kind == "slot")

    async def remember(
        self,
        conversation_id: str,
        about: str,
        seconds: float,
        kinds: Sequence[Kind] = ("time", "slot"),
    ) -> bool:
        """Keep a note by which the reservation can be settled in any process, once; tell whether
        there is one.
        """
        parts = tuple([part for part in self.parts if part.kind in kinds])
        if self.store is None or not parts:
            return False
        try:
            await self.store.remember(Note(conversation_id, parts, about, seconds))
        except StoreError as error:
            logger.warning("a reservation can't be settled by others: %s", error)
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Hold where limits are counted: the shared store, and this process while that is down."""

    shared: Store
    fallback: Store

    @property
    def all(self) -> tuple[Store, Store]:
        return self.shared, self.fallback


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
    held = _Held(longest=whole, here=lease or whole)
    shared = _Held(longest=longest or whole, here=lease or whole)
    counted = [
        *(_counted(limit, agent, "gate", "", shared) for limit in gate_limits),
        *(
            _counted(limit, agent, f"agent {agent.name}", f"{agent.name}: ", held)
            for limit in agent.limits
        ),
        *(_counted(limit, agent, "visitors", "visitors: ", shared) for limit in visitors or ()),
    ]
    return _budget(agent.name, counted, settled_within=whole + _LATE)


def _budget(agent: str, counted: Sequence[Counted], settled_within: float = 0.0) -> Budget:
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
    )


def _tickets(rate: str, per: PerLike) -> Budget:
    limit = Limit(rate, per=per, name="tickets")
    quota = Quota(field="tickets", most=limit.most, amount=1, seconds=limit.seconds, kind="rate")
    return _budget("(tickets)", [Counted(title=limit.title, limit=limit, quota=quota)])


#: What bounds one-time tickets, beside all limits: each is kept for a minute.
TICKETS: Final = _tickets("300/minute", "subject")
#: Anybody can be a visitor, and ask for one.
VISITORS_TICKETS: Final = _tickets("30/minute", "address")


def held_for(agent: Agent, start_within: float) -> float:
    """Return for how many seconds a slot is held where nobody tells when a conversation ends."""
    return start_within + (agent.max_duration or _USUAL_DURATION)


async def reserve(
    budget: Budget, asked: Circumstances, stores: Stores, move: Move | None = None
) -> Reservation:
    """Take of all limits, or of none, and see that the caller was not revoked, in one go.

    Raises:
        InvalidTokenError: what proved the caller was revoked.
        LimitReachedError: one of the limits has too little left.
        UnavailableError: the store can't be asked, and a limit is closed then, or there is none.
        AccessDeniedError: the caller can't be counted; see `principal()`.
    """
    wanted = await budget.wanted(asked)
    standing = standing_of(asked.identity)
    try:
        reserved = await stores.shared.reserve(wanted, move, standing)
    except StoreError as error:
        return await _reserve_without_store(budget.counted, wanted, standing, stores, error)
    _check(budget.counted, reserved)
    return Reservation(limits=budget.titles, store=stores.shared, wanted=wanted, reserved=reserved)


async def check_standing(identity: Identity, stores: Stores) -> None:
    """Refuse a caller who was revoked, and take nothing.

    Raises:
        InvalidTokenError: what proved the caller was revoked.
        UnavailableError: it can't be known.
    """
    try:
        reserved = await stores.shared.reserve((), None, standing_of(identity))
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None
    if reserved.is_revoked:
        raise revoked()


def standing_of(identity: Identity) -> Standing:
    """Return who this is to the store, and when what proves it was issued (claim `iat`)."""
    issued_at = identity.claims.get("iat")
    if type(issued_at) not in (int, float):
        issued_at = None
    return Standing(subject_principal(identity), issued_at)


def revoked() -> InvalidTokenError:
    return InvalidTokenError(cause="revoked: gate.revoke() named this caller, after their sign-in")


async def check_left(budget: Budget, asked: Circumstances, stores: Stores) -> tuple[Remaining, ...]:
    """Return what is left, where it is enough for one more conversation. Takes nothing.

    Raises:
        LimitReachedError: one of the limits has too little left. Else as `remaining()`.
    """
    counted, levels = await _levels(budget, asked, stores)
    if any(stands.left < one.quota.amount for one, stands in zip(counted, levels, strict=True)):
        raise _limit_reached(counted, levels, ())
    return tuple(map(_remaining, counted, levels))


async def remaining(budget: Budget, asked: Circumstances, stores: Stores) -> tuple[Remaining, ...]:
    """Return what is left of each limit for a caller. Takes nothing.

    Raises:
        UnavailableError: the store can't be asked, and a limit is closed then.
        AccessDeniedError: the caller can't be counted; see `principal()`.
    """
    return tuple(map(_remaining, *(await _levels(budget, asked, stores))))


async def _levels(
    budget: Budget, asked: Circumstances, stores: Stores
) -> tuple[Sequence[Counted], Sequence[Level]]:
    """Return the limits that can be looked at now, and where they stand."""
    if not budget.counted:
        return (), ()
    counted: Sequence[Counted] = budget.counted
    wanted: Sequence[Wanted] = await budget.wanted(asked)
    try:
        return counted, await stores.shared.look(wanted)
    except StoreError as error:
        counted, wanted = _in_memory(counted, wanted, error)
        return counted, await stores.fallback.look(wanted)


async def _reserve_without_store(
    counted: Sequence[Counted],
    wanted: Sequence[Wanted],
    standing: Standing,
    stores: Stores,
    error: StoreError,
) -> Reservation:
    in_memory, wanted_there = _in_memory(counted, wanted, error)
    try:
        reserved = await stores.fallback.reserve(wanted_there, None, standing)
    except StoreError as full:
        raise UnavailableError(cause=f"store: {full}") from None
    _check(in_memory, reserved)
    uncounted = tuple(one.title for one in counted if one.limit.when_store_down == "open")
    return Reservation(
        limits=tuple(one.title for one in in_memory),
        uncounted=uncounted,
        store=stores.fallback,
        wanted=wanted_there,
        reserved=reserved,
    )


def _in_memory(
    counted: Sequence[Counted], wanted: Sequence[Wanted], error: StoreError
) -> tuple[Sequence[Counted], Sequence[Wanted]]:
    """Return what is counted in this process now, or refuse where one limit is closed."""
    if not counted:  # only a revocation was to be read
        raise UnavailableError(cause=f"store: {error}")
    closed = [one.title for one in counted if one.limit.when_store_down == "closed"]
    if closed:
        raise UnavailableError(
            cause=f"store: {error}; closed meanwhile, as when_store_down says: {', '.join(closed)}"
        )
    pairs = [
        pair
        for pair in zip(counted, wanted, strict=True)
        if pair[0].limit.when_store_down == "memory"
    ]
    return [one for one, _ in pairs], [each for _, each in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Say for how many seconds a slot is held here, the whole time or a lease that is renewed, and
    what is the longest for which anybody holds one of the same limit.
    """

    longest: float
    here: float


def _counted(limit: AnyLimit, agent: Agent, place: str, prefix: str, held: _Held) -> Counted:
    kind = type(limit).__name__
    digest = hashlib.sha256(f"{place}/{kind}/{limit.counts_like}".encode()).digest()
    return Counted(
        title=prefix + limit.title,
        limit=limit,
        quota=_quota(limit, agent, _short(digest), held),
    )


def _short(digest: bytes) -> str:
    """Return eight letters: there are few limits, and each counted person's hash holds them."""
    return base64.urlsafe_b64encode(digest[:6]).decode()


def _quota(limit: AnyLimit, agent: Agent, name: str, held: _Held) -> Quota:
    if isinstance(limit, Limit):
        return Quota(field=name, most=limit.most, amount=1, seconds=limit.seconds, kind="rate")
    if isinstance(limit, Concurrent):
        return Quota(
            field=name,
            most=limit.most,
            amount=1,
            seconds=held.longest,
            kind="slot",
            held=held.here,
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


def _check(counted: Sequence[Counted], reserved: Reserved) -> None:
    """Refuse where nothing was taken."""
    if reserved.is_revoked:
        raise revoked()
    if not reserved.taken:
        raise _limit_reached(counted, reserved.levels, reserved.open_notes)


def _limit_reached(
    counted: Sequence[Counted], levels: Sequence[Level], open_notes: tuple[str, ...]
) -> LimitReachedError:
    pairs = list(zip(counted, levels, strict=True))
    over = [pair for pair in pairs if pair[1].left < pair[0].quota.amount]
    titles = tuple(one.title for one, _ in over)
    wait = max(_whole(stands.seconds) for _, stands in over)
    return LimitReachedError(
        policies=titles,
        conversations=open_notes,
        cause=f"limit: {'; '.join(titles)}",
        headers={
            "Retry-After": str(max(1, wait)),
            "RateLimit-Policy": ", ".join(_policy(one) for one in counted),
            "RateLimit": ", ".join(
                f'"{one.title}";r={one.shown(stands.left)};t={_whole(stands.seconds)}'
                for one, stands in pairs
            ),
        },
    )


def _policy(one: Counted) -> str:
    """Return one item of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
    if isinstance(one.limit, Concurrent):
        return f'"{one.title}";q={one.limit.most};qu="concurrent-requests"'
    unit = ';qu="seconds"' if isinstance(one.limit, TalkTime) else ""
    return f'"{one.title}";q={one.limit.most};w={one.limit.seconds}{unit}'


def _remaining(one: Counted, stands: Level) -> Remaining:
    return Remaining(
        limit=one.title,
        unit=one.unit,
        most=one.limit.most,
        left=one.shown(stands.left),
        seconds=_whole(stands.seconds),
    )


def _whole(seconds: float) -> int:
    return math.ceil(seconds)
