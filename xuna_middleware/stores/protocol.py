"""What a store does: keep a value for a while, tell who was first, count what was taken, hold the
leases of live conversations, and know who is revoked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as derived
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

#: How something is counted: so often, so long, or so many at once.
Kind: TypeAlias = Literal["rate", "time", "slot"]

#: In how many steps the length of a slot is divided.
_STEPS: Final = 50
#: How many leases `leases()` tells of.
MOST_TOLD: Final = 10_000


class Region(StrEnum):
    """Name what an entry is kept for.

    A store whose memory has a bound gives each region a bound of its own, so that what fills one
    leaves room in the others. The docs say who can write to which, and how much (docs/budgets.md).
    """

    #: One-time tickets, and the counts of them. Those of visitors are apart: strangers make them.
    TICKETS = "tickets"
    VISITORS_TICKETS = "visitors_tickets"
    #: DPoP proofs that were used, and solved proof-of-work puzzles, with the counts of each.
    PROOFS = "proofs"
    PUZZLES = "puzzles"
    #: Webhooks that were received.
    DELIVERIES = "deliveries"
    #: What limits count: of callers, of visitors, and of everybody together.
    CALLERS = "callers"
    VISITORS = "visitors"
    COMMON = "common"
    #: Visitors who signed in.
    DEPARTED = "departed"
    #: What operators say: that visitors are turned away, and who is revoked.
    SWITCHES = "switches"
    REVOCATIONS = "revocations"
    #: Reservations that can be settled, and live conversations.
    NOTES = "notes"
    LEASES = "leases"


_REGIONS: Final = {region.value: region for region in Region}


def named(region: Region, name: str) -> str:
    """Return the name of a principal whose counts are kept in this region."""
    return f"{region.value}/{name}"


def region_of(principal: str) -> Region:
    """Return the region in which a principal's counts are kept; callers' where none is named."""
    return _REGIONS.get(principal.partition("/")[0], Region.CALLERS)


class StoreError(Exception):
    """Say that the store can't answer now, in fixed words. Whoever asked refuses: never open."""


class StoreBusyError(StoreError):
    """Say that this process asks the store too much at once. The store isn't down, so whoever asked
    refuses, whatever `on_unavailable` says.
    """


class OverBudgetError(StoreError):
    """Say that a value was not kept, since somebody has as many as they may have.

    `place` is that of the quota among those that `put()` was given, and `seconds` is when some of
    what was taken comes back.
    """

    def __init__(self, place: int, seconds: float) -> None:
        super().__init__("there are as many of one owner as there may be")
        self.place, self.seconds = place, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Say how one limit is counted, and what one reservation takes of it.

    Attributes:
        field: the limit's name, the same in every process, and different from that of every other
            limit that counts the same principals.
        most: how much there is.
        amount: how much one reservation takes; 0 only looks whether anything is over.
        seconds: how long a window lasts from its first use, or how long one slot is held.
        kind: what is taken of a "rate", or of "time" in milliseconds, comes back all together at
            the end of its window; each "slot" comes back by itself, at most 2 % later.
        held: for how many seconds one reservation of a slot is held at first, where that is shorter
            than `seconds`: a lease, see `Store.hold()`.
    """

    field: str
    most: int
    amount: int
    seconds: float
    kind: Kind
    held: float | None = None
    #: In milliseconds: its time, and how far apart the ends of slots lie (a fiftieth of it), 0 for
    #: what ends with a window. The same of what one reservation is held for. Read from the rest,
    #: once.
    length: int = derived(init=False, repr=False)
    step: int = derived(init=False, repr=False)
    held_length: int = derived(init=False, repr=False)
    held_step: int = derived(init=False, repr=False)

    def __post_init__(self) -> None:
        length = whole(self.seconds)
        is_slot = self.kind == "slot"
        held = length if self.held is None or not is_slot else min(length, whole(self.held))
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "step", step_of(length) if is_slot else 0)
        object.__setattr__(self, "held_length", held)
        object.__setattr__(self, "held_step", step_of(held) if is_slot else 0)


def whole(seconds: float) -> int:
    """Return whole milliseconds, one at least."""
    return max(1, round(seconds * 1000))


def step_of(length: int) -> int:
    """Return how far apart the ends of slots lie that are held for so many milliseconds."""
    return max(1, length // _STEPS)


#: Whom to count (issuer and all), and how.
Wanted: TypeAlias = tuple[str, Quota]


class QuotaStatus(NamedTuple):
    """Say how much of a quota is left, below 0 where more was used, and in how many seconds some
    of what was taken comes back (0 where nothing was).
    """

    left: int
    seconds: float


class ReserveResult(NamedTuple):
    """Say whether all was taken or nothing, and for each quota where it stands afterwards.

    `marks` say when each comes back, in milliseconds of the store's clock: by them it is given
    back before that; there are none where nothing was taken. Then `open_notes` name reservations
    of the same principals whose conversations may have ended by now, the oldest first. Where a
    revocation is why nothing was taken, `is_revoked` says so, and there are no levels.
    """

    taken: bool
    levels: tuple[QuotaStatus, ...]
    marks: tuple[int, ...] = ()
    open_notes: tuple[str, ...] = ()
    is_revoked: bool = False


class Charge(NamedTuple):
    """Name a taken amount, or as much of it as is to be given back; below 0 it takes more."""

    principal: str
    field: str
    mark: int
    amount: int
    kind: Kind


class PendingSettlement(NamedTuple):
    """Remember a reservation by a name until somebody settles it, for so many seconds.

    `about` is the writer's own, one line.
    """

    name: str
    parts: tuple[Charge, ...]
    about: str
    seconds: float


def unused(parts: Sequence[Charge], milliseconds: int) -> tuple[Charge, ...]:
    """Return what is to be given back after a conversation of this length: slots, and the time that
    it did not use. That credentials were issued stays counted.
    """
    slots = [part for part in parts if part.kind == "slot"]
    time = [part for part in parts if part.kind == "time"]
    return (*slots, *(part._replace(amount=part.amount - milliseconds) for part in time))


def taken_parts(wanted: Sequence[Wanted], reserved: ReserveResult) -> tuple[Charge, ...]:
    """Return all that a reservation took."""
    pairs = zip(wanted, reserved.marks, strict=True)
    return tuple(
        Charge(principal, quota.field, mark, quota.amount, quota.kind)
        for (principal, quota), mark in pairs
        if quota.amount
    )


class MergeUsage(NamedTuple):
    """Say that a visitor turned out to be a person, and how many seconds that is remembered once
    what the visitor took is the person's; see `Store.move()`.
    """

    visitor: str
    person: str
    seconds: float


class RevocationCheck(NamedTuple):
    """Say who asks, and when their credential was issued: its `iat`, in seconds since the epoch;
    None where it has none.
    """

    principal: str
    issued_at: float | None

    def is_covered(self, mark: float) -> bool:
        """Tell whether what was revoked at `mark` includes this credential."""
        return self.issued_at is None or self.issued_at <= mark


class Lease(NamedTuple):
    """Hold one live conversation: what must be renewed, or it ends by itself.

    Attributes:
        name: the session's id, up to 64 letters, digits, "-" and "_".
        about: one line of the writer's own, which `leases()` shows.
        seconds: how long it lasts without being held again.
        slots: its parts of kind "slot", with the marks of the last answer.
        standing: whose revocation ends it, if anybody's.
    """

    name: str
    about: str
    seconds: float
    slots: tuple[Charge, ...]
    standing: RevocationCheck | None


class LeaseStatus(NamedTuple):
    """Return a lease's parts with their new marks, and the word on it: "" is to go on."""

    slots: tuple[Charge, ...]
    word: Literal["", "ended", "revoked"]


class Store(Protocol):
    """Keep small values and counts for a short time, the same for every process that shares it.

    All verbs are atomic: of any number of callers in any number of processes, one is first. Time is
    the store's own, so the clocks of those processes don't matter.
    """

    async def put(
        self,
        key: str,
        value: bytes,
        seconds: float,
        region: Region,
        within: Sequence[Wanted] = (),
    ) -> bool:
        """Keep a value for so many seconds unless the key is there; tell whether it was kept.

        Keys differ whatever their regions. With `within`, the value is kept only if all of these
        quotas (of kind "slot", each of another principal) can be taken, in the same step; a value
        that isn't kept takes nothing.

        Raises:
            OverBudgetError: one of the quotas has too little left. StoreError: it can't be known.
        """

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; None where there is none.

        Raises:
            StoreError: it can't be known.
        """

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None = None,
        standing: RevocationCheck | None = None,
    ) -> ReserveResult:
        """Take of every quota, or of none where one has too little left.

        With `move`, what the visitor took counts as if the person had taken it. Nothing moves by
        that: see `move()`.

        With `standing`, nothing is done at all where that is revoked; see `revoke()`. Nothing may
        be wanted besides.

        Whoever is cancelled or gets a `StoreError` has taken nothing that stays taken, except where
        the store can't be asked any more: then it comes back when the quota's time is over.

        Raises:
            StoreError: it can't be known.
        """

    async def move(self, move: MergeUsage, wanted: Sequence[Wanted]) -> ReserveResult:
        """Take of every quota, or of none; where all was taken, what the visitor took counts as
        the person's from then on, whichever of the two asks. That happens once.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        """Return where quotas stand, and take nothing.

        Raises:
            StoreError: it can't be known.
        """

    async def give_back(self, parts: Sequence[Charge]) -> None:
        """Give back what was taken, as far as its time isn't over.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def remember(self, note: PendingSettlement) -> None:
        """Keep a note, and tell of it when its principals are refused for want of time or slots.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def is_pending(self, name: str) -> bool:
        """Tell whether there is a note by this name that nobody settled yet.

        Raises:
            StoreError: it can't be known.
        """

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; return what the note is about.

        None where there is no such note, or no longer.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def hold(self, leases: Sequence[Lease]) -> tuple[LeaseStatus, ...]:
        """Let conversations go on, each for its seconds from now, and tell of each whether it may.

        A slot is taken anew where it is gone, since a server lost it or the beat came late: a
        conversation that runs is counted, never refused. One that somebody ended, or whose standing
        is revoked, is not held any longer: what it holds stays until it is let go or runs out.

        Does not check: that there is room in a quota.

        Raises:
            StoreError: it is not known which of them are held.
        """

    async def release_lease(self, name: str, slots: Sequence[Charge]) -> bool:
        """Forget a conversation that is over, and give its slots back, once; tell whether there
        was such a lease.

        Nothing is given back where nothing is held by this name: never, no longer, or let go
        before. Slots that are not held yet are given back with `give_back()`.

        Raises:
            StoreError: it is not known whether that was done; it runs out by itself.
        """

    async def leases(self) -> tuple[str, ...]:
        """Return what the live conversations are about, of all processes, in the order of their
        names; 10,000 of them at most.

        Raises:
            StoreError: it can't be known.
        """

    async def end(self, name: str) -> bool:
        """Ask that a conversation ends, of which `hold()` tells its holder; tell whether there is
        such a lease.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse, for so many seconds, whoever's credential was issued at `at` (seconds since the
        epoch) or before, or at no known time. What was revoked up to a later time, or for longer,
        stays so.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def wait_for_wakeup(self) -> None:
        """Wait until somebody, in any process, called `end()` or `revoke()` since the last call.

        It only makes things faster: it returns without a cause, too, and where nothing can be known
        it waits. One caller in each event loop. Raises nothing.
        """

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
