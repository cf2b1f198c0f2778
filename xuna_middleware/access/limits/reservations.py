"""Reservations: take from all limits at once, or from none, and give back what wasn't used.

A reservation is made before anything is issued. A later failure releases it; once the actual
length of the conversation is known, it is settled; without a settlement it counts in full. A
diagram is in docs/limits.md.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeAlias

from xuna_middleware.access.limits.budgets import BoundLimit, Budget, milliseconds
from xuna_middleware.access.limits.keys import (
    LimitContext,
    subject_principal,
)
from xuna_middleware.access.limits.limits import Concurrent, TalkTime
from xuna_middleware.errors import (
    InvalidTokenError,
    LimitReachedError,
    UnavailableError,
)
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.stores.protocol import (
    Charge,
    Kind,
    MergeUsage,
    PendingSettlement,
    QuotaStatus,
    ReserveResult,
    RevocationCheck,
    Store,
    StoreBusyError,
    StoreError,
    Wanted,
    taken_parts,
    unused,
)

logger = logging.getLogger("xuna_middleware")

EVERY_KIND: Final[tuple[Kind, ...]] = ("rate", "time", "slot")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Say how much of one limit is left for a caller, in its unit, and in how many seconds some of
    it comes back (0 where nothing was taken).
    """

    limit: str
    unit: str
    most: int
    left: int
    seconds: int

    def to_dict(self) -> dict[str, str | int]:
        """Return the JSON of the `/agents` route."""
        return {
            "limit": self.limit,
            "unit": self.unit,
            "most": self.most,
            "left": self.left,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Hold the charges for one credential, until they are released or settled, once.

    Attributes:
        limits: the titles of the limits that counted it.
        uncounted: the titles of the limits that the operator leaves open while the store is down.
    """

    limits: tuple[str, ...] = ()
    uncounted: tuple[str, ...] = ()
    store: Store | None = field(default=None, repr=False)
    wanted: Sequence[Wanted] = field(default=(), repr=False)
    reserved: ReserveResult | None = field(default=None, repr=False)

    @property
    def parts(self) -> tuple[Charge, ...]:
        return () if self.reserved is None else taken_parts(self.wanted, self.reserved)

    @property
    def milliseconds(self) -> int | None:
        """The time that was reserved, 0 where only slots were; None where neither was."""
        metered = [part for part in self.parts if part.kind != "rate"]
        times = [part.amount for part in metered if part.kind == "time"]
        return max(times, default=0) if metered else None

    async def release(self, kinds: Sequence[Kind] = EVERY_KIND) -> bool:
        """Give all of these kinds back, since nothing was used; return whether that succeeded."""
        return await self._give_back([part for part in self.parts if part.kind in kinds])

    async def give_back_time(self, seconds: float) -> None:
        """Give back the time that a conversation of this length did not use."""
        timed = [part for part in self.parts if part.kind == "time"]
        await self._give_back(unused(timed, milliseconds(seconds)))

    async def _give_back(self, parts: Sequence[Charge]) -> bool:
        if self.store is None or not parts:
            return False
        try:
            await self.store.give_back(parts)
        except StoreError as error:
            logger.warning("what a reservation took could not be given back: %s", error)
            return False
        return True

    @property
    def slots(self) -> tuple[Charge, ...]:
        """The slots that a lease renews."""
        return tuple(part for part in self.parts if part.kind == "slot")

    async def remember(
        self,
        conversation_id: str,
        about: str,
        seconds: float,
        kinds: Sequence[Kind] = ("time", "slot"),
    ) -> bool:
        """Keep a note with which any process can settle the reservation, once; return whether
        there is one.
        """
        parts = tuple([part for part in self.parts if part.kind in kinds])
        if self.store is None or not parts:
            return False
        try:
            await self.store.remember(PendingSettlement(conversation_id, parts, about, seconds))
        except StoreError as error:
            logger.warning(
                "a reservation counts in full, unless this process sees the end: %s", error
            )
            return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Hold the stores that count limits: the shared one, and this process's while that is down."""

    shared: Store
    fallback: Store

    @property
    def all(self) -> tuple[Store, Store]:
        return self.shared, self.fallback


async def reserve(
    budget: Budget, context: LimitContext, stores: Stores, move: MergeUsage | None = None
) -> Reservation:
    """Take from all limits, or from none, and check in the same step that the caller isn't revoked.

    Raises:
        InvalidTokenError: the caller's token or sign-in was revoked.
        LimitReachedError: one of the limits has too little left.
        UnavailableError: the store can't be reached, and a limit fails closed, or there is none.
        AccessDeniedError: the caller can't be counted; see `principal()`.
    """
    wanted = await budget.quotas_for(context)
    standing = standing_of(context.identity)
    try:
        reserved = await stores.shared.reserve(wanted, move, standing)
    except StoreError as error:
        return await _reserve_without_store(budget.counted, wanted, standing, stores, error)
    _check(budget.counted, reserved)
    return Reservation(limits=budget.titles, store=stores.shared, wanted=wanted, reserved=reserved)


async def ensure_not_revoked(
    identity: Identity, store: Store, *, is_operator: bool = False
) -> None:
    """Refuse a caller who was revoked, and take nothing. Operators don't wait for other callers.

    Raises:
        InvalidTokenError: the caller's token or sign-in was revoked.
        UnavailableError: the store gives no answer.
    """
    try:
        is_revoked = await _is_revoked(identity, store, is_operator=is_operator)
    except StoreError as error:
        raise _unavailable(error) from None
    if is_revoked:
        raise revoked()


async def look_again(
    reservation: Reservation, budget: Budget, identity: Identity, stores: Stores
) -> None:
    """Refuse a caller who was revoked since the reservation, and take nothing. While the store is
    down, the revocations known to this process count, if every limit allows it (`on_unavailable`).

    Raises:
        InvalidTokenError: the caller's token or sign-in was revoked.
        UnavailableError: the store gives no answer, and a limit fails closed, or there is none; or
            the store isn't down but gets too many requests.
    """
    try:
        is_revoked = await _is_revoked(identity, reservation.store or stores.shared)
    except StoreError as error:
        limits = [one.limit for one in budget.counted]
        is_closed = not limits or any(limit.on_unavailable == "deny" for limit in limits)
        if is_closed or isinstance(error, StoreBusyError):
            raise _unavailable(error) from None
        is_revoked = await _is_revoked(identity, stores.fallback)
    if is_revoked:
        raise revoked()


async def _is_revoked(identity: Identity, store: Store, *, is_operator: bool = False) -> bool:
    standing = standing_of(identity)._replace(is_operator=is_operator)
    return (await store.reserve((), None, standing)).is_revoked


def _unavailable(error: StoreError) -> UnavailableError:
    retry_after = 1 if isinstance(error, StoreBusyError) else 5
    return UnavailableError(cause=f"store: {error}", retry_after=retry_after)


def standing_of(identity: Identity) -> RevocationCheck:
    """Return the caller's principal, and when their token was issued (claim `iat`)."""
    issued_at = identity.claims.get("iat")
    if type(issued_at) not in (int, float):
        issued_at = None
    return RevocationCheck(subject_principal(identity), issued_at)


def revoked() -> InvalidTokenError:
    return InvalidTokenError(cause="revoked: gate.revoke() named this caller, after their sign-in")


async def check_left(
    budget: Budget, context: LimitContext, stores: Stores
) -> tuple[Remaining, ...]:
    """Return what is left if it is enough for one more conversation. Takes nothing.

    Raises:
        LimitReachedError: one of the limits has too little left.
        AccessDeniedError: the caller can't be counted; see `principal()`. Otherwise as
            `remaining()`.
    """
    wanted = await budget.quotas_for(context) if budget.counted else ()
    ((counted, levels),) = await _levels([(budget.counted, wanted)], stores)
    if any(stands.left < one.quota.amount for one, stands in zip(counted, levels, strict=True)):
        raise _limit_reached(counted, levels, ())
    return tuple(map(_remaining, counted, levels))


async def remaining(
    asked: Sequence[tuple[Budget, Sequence[Wanted]]], stores: Stores
) -> list[tuple[Remaining, ...]]:
    """Return what is left of each limit of each of these budgets, for the quotas that
    `quotas_for()` returned. Takes nothing, and asks the store once.

    Raises:
        UnavailableError: the store can't be reached, and a limit fails closed.
    """
    found = await _levels([(budget.counted, wanted) for budget, wanted in asked], stores)
    return [tuple(map(_remaining, *each)) for each in found]


_Levels: TypeAlias = tuple[Sequence[BoundLimit], Sequence[QuotaStatus]]


async def _levels(
    asked: Sequence[tuple[Sequence[BoundLimit], Sequence[Wanted]]], stores: Stores
) -> list[_Levels]:
    """Return for each budget the limits that can be read now, and their status."""
    wanted = [each for _, quotas in asked for each in quotas]
    if not wanted:
        return [((), ()) for _ in asked]
    try:
        levels = iter(await stores.shared.look(wanted))
    except StoreError as error:
        return [await _levels_in_memory(*each, stores, error) for each in asked]
    return [(counted, tuple(islice(levels, len(quotas)))) for counted, quotas in asked]


async def _levels_in_memory(
    counted: Sequence[BoundLimit], wanted: Sequence[Wanted], stores: Stores, error: StoreError
) -> _Levels:
    if not counted:
        return (), ()
    counted, wanted = _in_memory(counted, wanted, error)
    return counted, await stores.fallback.look(wanted)


async def _reserve_without_store(
    counted: Sequence[BoundLimit],
    wanted: Sequence[Wanted],
    standing: RevocationCheck,
    stores: Stores,
    error: StoreError,
) -> Reservation:
    in_memory, wanted_there = _in_memory(counted, wanted, error)
    try:
        reserved = await stores.fallback.reserve(wanted_there, None, standing)
    except StoreError as full:
        raise UnavailableError(cause=f"store: {full}") from None
    _check(in_memory, reserved)
    uncounted = tuple(one.title for one in counted if one.limit.on_unavailable == "allow")
    return Reservation(
        limits=tuple(one.title for one in in_memory),
        uncounted=uncounted,
        store=stores.fallback,
        wanted=wanted_there,
        reserved=reserved,
    )


def _in_memory(
    counted: Sequence[BoundLimit], wanted: Sequence[Wanted], error: StoreError
) -> tuple[Sequence[BoundLimit], Sequence[Wanted]]:
    """Return the limits that this process counts now. Refuse where one limit fails closed, and
    where the store isn't down but gets too many requests: otherwise a flood would open limits.
    """
    if isinstance(error, StoreBusyError) or not counted:  # no limits: only to read a revocation
        raise _unavailable(error)
    closed = [one.title for one in counted if one.limit.on_unavailable == "deny"]
    if closed:
        raise UnavailableError(
            cause=f'store: {error}; failing closed (on_unavailable="deny"): {", ".join(closed)}'
        )
    pairs = [
        pair
        for pair in zip(counted, wanted, strict=True)
        if pair[0].limit.on_unavailable == "local"
    ]
    return [one for one, _ in pairs], [each for _, each in pairs]


def _check(counted: Sequence[BoundLimit], reserved: ReserveResult) -> None:
    """Refuse where nothing was taken."""
    if reserved.is_revoked:
        raise revoked()
    if not reserved.taken:
        raise _limit_reached(counted, reserved.levels, reserved.open_notes)


def _limit_reached(
    counted: Sequence[BoundLimit], levels: Sequence[QuotaStatus], open_notes: tuple[str, ...]
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


def _policy(one: BoundLimit) -> str:
    """Return one item of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
    if isinstance(one.limit, Concurrent):
        return f'"{one.title}";q={one.limit.most};qu="concurrent-requests"'
    unit = ';qu="seconds"' if isinstance(one.limit, TalkTime) else ""
    return f'"{one.title}";q={one.limit.most};w={one.limit.seconds}{unit}'


def _remaining(one: BoundLimit, stands: QuotaStatus) -> Remaining:
    return Remaining(
        limit=one.title,
        unit=one.unit,
        most=one.limit.most,
        left=one.shown(stands.left),
        seconds=_whole(stands.seconds),
    )


def _whole(seconds: float) -> int:
    return math.ceil(seconds)
