"""What a store does: keep a value for a while, tell who was first, and count what was taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as derived
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

#: How something is counted: so often, so long, or so many at once.
Kind: TypeAlias = Literal["rate", "time", "slot"]

#: In how many steps the length of a slot is divided.
_STEPS: Final = 50


class StoreError(Exception):
    """Say that the store can't answer now, in fixed words. Whoever asked refuses: never open."""


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
    """

    field: str
    most: int
    amount: int
    seconds: float
    kind: Kind
    #: In milliseconds: its time, and how far apart the ends of slots lie (a fiftieth of it), 0 for
    #: what ends with a window. Read from the rest, once.
    length: int = derived(init=False, repr=False)
    step: int = derived(init=False, repr=False)

    def __post_init__(self) -> None:
        length = max(1, round(self.seconds * 1000))
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "step", max(1, length // _STEPS) if self.kind == "slot" else 0)


#: Whom to count (issuer and all), and how.
Wanted: TypeAlias = tuple[str, Quota]


class Level(NamedTuple):
    """Say how much of a quota is left, below 0 where more was used, and in how many seconds some
    of what was taken comes back (0 where nothing was).
    """

    left: int
    seconds: float


class Reserved(NamedTuple):
    """Say whether all was taken or nothing, and for each quota where it stands afterwards.

    `marks` say when each comes back, in milliseconds of the store's clock: by them it is given
    back before that; there are none where nothing was taken. Then `open_notes` name reservations
    of the same principals whose conversations may have ended by now, the oldest first.
    """

    taken: bool
    levels: tuple[Level, ...]
    marks: tuple[int, ...] = ()
    open_notes: tuple[str, ...] = ()


class Part(NamedTuple):
    """Name a taken amount, or as much of it as is to be given back; below 0 it takes more."""

    principal: str
    field: str
    mark: int
    amount: int
    kind: Kind


class Note(NamedTuple):
    """Remember a reservation by a name until somebody settles it, for so many seconds.

    `about` is the writer's own, one line.
    """

    name: str
    parts: tuple[Part, ...]
    about: str
    seconds: float


def unused(parts: Sequence[Part], milliseconds: int) -> tuple[Part, ...]:
    """Return what is to be given back after a conversation of this length: slots, and the time that
    it did not use. That credentials were issued stays counted.
    """
    slots = [part for part in parts if part.kind == "slot"]
    time = [part for part in parts if part.kind == "time"]
    return (*slots, *(part._replace(amount=part.amount - milliseconds) for part in time))


def taken_parts(wanted: Sequence[Wanted], reserved: Reserved) -> tuple[Part, ...]:
    """Return all that a reservation took."""
    pairs = zip(wanted, reserved.marks, strict=True)
    return tuple(
        Part(principal, quota.field, mark, quota.amount, quota.kind)
        for (principal, quota), mark in pairs
        if quota.amount
    )


class Move(NamedTuple):
    """Say that a visitor turned out to be a person, and how many seconds that is remembered."""

    visitor: str
    person: str
    seconds: float


class Store(Protocol):
    """Keep small values and counts for a short time, the same for every process that shares it.

    All verbs are atomic: of any number of callers in any number of processes, one is first. Time is
    the store's own, so the clocks of those processes don't matter.
    """

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value for so many seconds unless the key is there; tell whether it was kept.

        Raises:
            StoreError: it can't be known.
        """

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; None where there is none.

        Raises:
            StoreError: it can't be known.
        """

    async def reserve(self, wanted: Sequence[Wanted], move: Move | None = None) -> Reserved:
        """Take of every quota, or of none where one has too little left.

        With `move`, what the visitor took counts as the person's from then on, whichever of the two
        asks; that happens once, and also where nothing is taken afterwards.

        Whoever is cancelled or gets a `StoreError` has taken nothing that stays taken, except where
        the store can't be asked any more: then it comes back when the quota's time is over.

        Raises:
            StoreError: it can't be known.
        """

    async def look(self, wanted: Sequence[Wanted]) -> tuple[Level, ...]:
        """Return where quotas stand, and take nothing.

        Raises:
            StoreError: it can't be known.
        """

    async def give_back(self, parts: Sequence[Part]) -> None:
        """Give back what was taken, as far as its time isn't over.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def remember(self, note: Note) -> None:
        """Keep a note, and tell of it when its principals are refused for want of time or slots.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; return what the note is about.

        None where there is no such note, or no longer.

        Raises:
            StoreError: it is not known whether that was done.
        """

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
