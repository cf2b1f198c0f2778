"""The store protocol: keep values for a limited time, decide which caller was first, count usage,
hold the leases of live conversations, and record revocations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as derived
from enum import StrEnum
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

#: How something is counted: how often, for how long, or how many at once.
Kind: TypeAlias = Literal["rate", "time", "slot"]

#: The number of steps into which the length of a slot is divided.
_STEPS: Final = 50
#: How many leases `leases()` returns at most.
MOST_TOLD: Final = 10_000


class Region(StrEnum):
    """Name the purpose of a store entry.

    A store with bounded memory gives each region a separate bound, so that a full region leaves
    room in the others. docs/budgets.md says who can write to which region, and how much.
    """

    #: One-time tickets and their counts. Visitors' tickets are separate: anybody can create them.
    TICKETS = "tickets"
    VISITORS_TICKETS = "visitors_tickets"
    #: Used DPoP proofs and solved proof-of-work puzzles, with the counts of each.
    PROOFS = "proofs"
    PUZZLES = "puzzles"
    #: Received webhooks.
    DELIVERIES = "deliveries"
    #: The counts of limits: for callers, for visitors, and for everybody together.
    CALLERS = "callers"
    VISITORS = "visitors"
    COMMON = "common"
    #: Visitors who signed in.
    DEPARTED = "departed"
    #: Operators' settings: whether visitors are refused, and who is revoked.
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
    """Return the region of a principal's counts; the callers' region where it names none."""
    return _REGIONS.get(principal.partition("/")[0], Region.CALLERS)


class StoreError(Exception):
    """Report that the store can't answer now, in a fixed text. The code that called it must refuse
    the request and never fail open.
    """


class StoreBusyError(StoreError):
    """Report that this process sends the store too many requests at once. The store isn't down, so
    the caller's request is refused, whatever `on_unavailable` says.
    """


class OverBudgetError(StoreError):
    """Report that a value was not kept because its owner already has the maximum number.

    `place` is the index of the quota in the `within` argument of `put()`; `seconds` is the time
    until some of the quota comes back.
    """

    def __init__(self, place: int, seconds: float) -> None:
        super().__init__("there are as many of one owner as there may be")
        self.place, self.seconds = place, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """Describe how one limit is counted, and how much one reservation takes of it.

    Attributes:
        field: the limit's name, the same in every process, and different from the name of every
            other limit that counts the same principals.
        most: the total amount.
        amount: how much one reservation takes; 0 only checks whether anything is over.
        seconds: how long a window lasts from its first use, or how long one slot is held.
        kind: a "rate", or "time" in milliseconds, comes back all together at the end of its
            window; each "slot" comes back separately, at most 2 % later.
        held: how many seconds one reservation of a slot is held at first, where that is shorter
            than `seconds`: a lease, see `Store.hold()`.
    """

    field: str
    most: int
    amount: int
    seconds: float
    kind: Kind
    held: float | None = None
    #: In milliseconds: the quota's length, and the distance between the ends of slots (a fiftieth
    #: of the length; 0 for kinds with a window). The same two values for `held`. Computed once
    #: from the other fields.
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
    """Return whole milliseconds, at least one."""
    return max(1, round(seconds * 1000))


def step_of(length: int) -> int:
    """Return the distance between the ends of slots that are held for `length` milliseconds."""
    return max(1, length // _STEPS)


#: The principal to count (with its issuer), and how.
Wanted: TypeAlias = tuple[str, Quota]


class QuotaStatus(NamedTuple):
    """Say how much of a quota is left (below 0 where more was used), and in how many seconds some
    of it comes back (0 where nothing was taken).
    """

    left: int
    seconds: float


class ReserveResult(NamedTuple):
    """Say whether everything was taken or nothing, and the status of each quota afterwards.

    `marks` say when each charge comes back, in milliseconds of the store's clock; `give_back()`
    needs them to return it earlier. Where nothing was taken, there are no marks, and `open_notes`
    names reservations of the same principals whose conversations may have ended, the oldest first.
    Where nothing was taken because of a revocation, `is_revoked` is True and `levels` is empty.
    """

    taken: bool
    levels: tuple[QuotaStatus, ...]
    marks: tuple[int, ...] = ()
    open_notes: tuple[str, ...] = ()
    is_revoked: bool = False


class Charge(NamedTuple):
    """Name a taken amount, or the part of it to give back; an amount below 0 takes more."""

    principal: str
    field: str
    mark: int
    amount: int
    kind: Kind


class PendingSettlement(NamedTuple):
    """Remember a reservation under a name until it is settled, for at most `seconds`.

    `about` is one line that only the writer interprets.
    """

    name: str
    parts: tuple[Charge, ...]
    about: str
    seconds: float


def unused(parts: Sequence[Charge], milliseconds: int) -> tuple[Charge, ...]:
    """Return the charges to give back after a conversation of this length: its slots, and the time
    that it did not use. The number of issued credentials stays counted.
    """
    slots = [part for part in parts if part.kind == "slot"]
    time = [part for part in parts if part.kind == "time"]
    return (*slots, *(part._replace(amount=part.amount - milliseconds) for part in time))


def taken_parts(wanted: Sequence[Wanted], reserved: ReserveResult) -> tuple[Charge, ...]:
    """Return everything that a reservation took."""
    pairs = zip(wanted, reserved.marks, strict=True)
    return tuple(
        Charge(principal, quota.field, mark, quota.amount, quota.kind)
        for (principal, quota), mark in pairs
        if quota.amount
    )


class MergeUsage(NamedTuple):
    """Say that a visitor has signed in as a person, and how many seconds the store remembers that
    after it has moved the visitor's usage to the person; see `Store.move()`.
    """

    visitor: str
    person: str
    seconds: float


class RevocationCheck(NamedTuple):
    """Name the caller, and when their credential was issued: its `iat`, in seconds since the epoch,
    or None without one. `is_operator` says that an operator calls, who must not wait for callers.
    """

    principal: str
    issued_at: float | None
    is_operator: bool = False

    def is_covered(self, mark: float) -> bool:
        """Return whether a revocation at `mark` includes this credential."""
        return self.issued_at is None or self.issued_at <= mark


class Lease(NamedTuple):
    """Describe the lease of one live conversation. It runs out unless it is renewed.

    Attributes:
        name: the session's id, up to 64 letters, digits, "-" and "_".
        about: one line that only the writer interprets; `leases()` returns it.
        seconds: how long it lasts without renewal.
        slots: its charges of kind "slot", with the marks of the last answer.
        standing: the caller whose revocation ends it, or None.
        is_new: whether its conversation begins now, so callers cause it; otherwise a heartbeat
            renews it, and no caller may delay that.
    """

    name: str
    about: str
    seconds: float
    slots: tuple[Charge, ...]
    standing: RevocationCheck | None
    is_new: bool = False


class LeaseStatus(NamedTuple):
    """Give a lease's charges with their new marks, and its state: "" means that it goes on."""

    slots: tuple[Charge, ...]
    word: Literal["", "ended", "revoked"]


class Store(Protocol):
    """Keep small values and counts for a short time, the same for every process that shares it.

    All methods are atomic: of any number of callers in any number of processes, one is first. The
    store uses its own clock, so the clocks of those processes don't matter.
    """

    async def put(
        self,
        key: str,
        value: bytes,
        seconds: float,
        region: Region,
        within: Sequence[Wanted] = (),
    ) -> bool:
        """Keep a value for `seconds` unless the key exists; return whether it was kept.

        Keys are unique across all regions. With `within`, the value is kept only if all of these
        quotas (of kind "slot", each of a different principal) can be taken in the same step; a
        value that isn't kept takes nothing.

        Raises:
            OverBudgetError: one of the quotas has too little left. StoreError: no answer.
        """

    async def take(self, key: str) -> bytes | None:
        """Return a value and delete it; None where there is none.

        Raises:
            StoreError: the store gives no answer.
        """

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None = None,
        standing: RevocationCheck | None = None,
    ) -> ReserveResult:
        """Take from every quota, or from none where one has too little left.

        With `move`, the visitor's usage counts as if it were the person's. That moves nothing:
        see `move()`.

        With `standing`, nothing is done at all where it is revoked; see `revoke()`. `wanted` may
        be empty then.

        After a cancellation or a `StoreError`, nothing stays taken, except where the store can't be
        reached any more: then it comes back when the quota's time is over.

        Raises:
            StoreError: the store gives no answer.
        """

    async def move(self, move: MergeUsage, wanted: Sequence[Wanted]) -> ReserveResult:
        """Take from every quota, or from none. Where all was taken, the visitor's usage counts as
        the person's from then on, whichever of the two asks. That happens once.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        """Return the status of quotas, and take nothing.

        Raises:
            StoreError: the store gives no answer.
        """

    async def give_back(self, parts: Sequence[Charge]) -> None:
        """Give back charges whose time isn't over yet.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def remember(self, note: PendingSettlement) -> None:
        """Keep a note, and list it when its principals are refused for lack of time or slots.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def is_pending(self, name: str) -> bool:
        """Return whether there is a note with this name that is not settled yet.

        Raises:
            StoreError: the store gives no answer.
        """

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back, once, what a noted reservation did not use; return the note's `about`.

        None where there is no such note, or no longer.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def hold(self, leases: Sequence[Lease]) -> tuple[LeaseStatus, ...]:
        """Renew leases, each for its `seconds` from now; return for each whether it may go on.

        A slot that is gone, because a server lost it or the renewal came late, is taken again: a
        running conversation is counted, never refused. A conversation that was ended, or whose
        standing is revoked, is not renewed: it keeps its slots until they are released or run out.

        Does not check: that there is room in a quota.

        Raises:
            StoreError: it is not known which of them are held.
        """

    async def release_lease(self, name: str, slots: Sequence[Charge]) -> bool:
        """Delete the lease of a finished conversation and give its slots back, once; return
        whether there was such a lease.

        Nothing is given back where there is no lease with this name: it never existed, ran out, or
        was released before. Slots without a lease yet are given back with `give_back()`.

        Raises:
            StoreError: it is not known whether that was done; it runs out by itself.
        """

    async def leases(self) -> tuple[str, ...]:
        """Return the `about` lines of the live conversations of all processes, in the order of
        their names; 10,000 at most.

        Raises:
            StoreError: the store gives no answer.
        """

    async def end(self, name: str) -> bool:
        """Ask for the end of a conversation; its holder learns that from `hold()`. Return whether
        there is such a lease.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse, for `seconds`, the principal's credentials that were issued at `at` (seconds
        since the epoch) or before, or at no known time. An earlier revocation that reaches a later
        time, or lasts longer, stays in force.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def wait_for_wakeup(self) -> None:
        """Wait until somebody, in any process, called `end()` or `revoke()` since the last call.

        It only makes things faster: it may return without a cause, and it waits where the store
        can't be reached. One caller in each event loop. Raises nothing.
        """

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
