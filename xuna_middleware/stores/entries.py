"""What the store in memory holds, each until it ends, and no more of it than it may."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final, TypeAlias

from xuna_middleware.stores.counting import Counts
from xuna_middleware.stores.protocol import Note, Region, StoreError

#: The heap is made anew when it has more than this of what was removed, and that is half of it.
_FEW: Final = 64


class Value:
    """Hold a value until it ends."""

    __slots__ = ("ends", "region", "value")

    def __init__(self, value: bytes, ends: int, region: Region) -> None:
        self.value, self.ends, self.region = value, ends, region


class Noted:
    """Hold a note until it ends."""

    __slots__ = ("ends", "note")

    def __init__(self, note: Note, ends: int) -> None:
        self.note, self.ends = note, ends


class Leased:
    """Hold a live conversation: what it is about, the marks of its slots, whether it is to end."""

    __slots__ = ("about", "ends", "is_ended", "marks")

    def __init__(self, ends: int) -> None:
        self.ends, self.is_ended, self.about = ends, False, ""
        self.marks: Sequence[int] = ()


class Revoked:
    """Hold up to when somebody's credentials are revoked."""

    __slots__ = ("at", "ends")

    def __init__(self, at: float, ends: int) -> None:
        self.at, self.ends = at, ends


class Principal:
    """Hold what somebody took, by the limits' fields, or who they turned out to be."""

    __slots__ = ("ends", "fields", "moved_to", "notes")

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.fields: dict[str, Counts] = {}
        #: The names of open reservations, the oldest first.
        self.notes: dict[str, None] = {}
        self.moved_to: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing any more."""
        return not self.fields and not self.notes and self.moved_to is None

    def has_taken(self, now: int) -> bool:
        """Tell whether anything is still taken."""
        return any(ends > now for counts in self.fields.values() for ends in counts)


Entry: TypeAlias = Value | Noted | Leased | Revoked | Principal
#: Where entries are kept, by their keys.
Place: TypeAlias = dict[str, Any]


class Entries:
    """Know when each entry ends, and how many of each region there are.

    One that lives on when its time has come goes back in with its later end. What was removed
    before its end makes room at once; the heap forgets it later, and never has more of those than
    of what is there (or 64).
    """

    def __init__(self, most: Mapping[Region, int]) -> None:
        self.most = most
        self._held = dict.fromkeys(most, 0)
        #: The soonest first: the end, a number so that entries are never compared, and what it is.
        self._ends: list[tuple[int, int, Region, Place, str, Entry]] = []
        self._entered = self._removed = 0

    def held(self, region: Region) -> int:
        """Return how many entries a region has."""
        return self._held[region]

    def check_room(self, region: Region, wanted: int = 1) -> None:
        """Raise `StoreError` where there isn't room for so many more."""
        if self._held[region] + wanted > self.most[region]:
            raise StoreError(
                f"the store in memory is full of {region.value}: "
                f"MemoryStore(most=…, regions={{Region.{region.name}: …}}) or a RedisStore has room"
            )

    def keep(self, region: Region, place: Place, key: str, entry: Entry) -> None:
        """Put an entry where it is kept until it ends, in the place of one that has its key."""
        if key in place:
            self.remove(region, place, key)
        place[key] = entry
        self._held[region] += 1
        self._enter(region, place, key, entry)

    def remove(self, region: Region, place: Place, key: str) -> Any:
        """Remove an entry before its end, and return it; None where there is none."""
        entry = place.pop(key, None)
        if entry is not None:
            self._held[region] -= 1
            self._removed += 1
            if self._removed > _FEW and 2 * self._removed > len(self._ends):
                self._ends = [item for item in self._ends if item[3].get(item[4]) is item[5]]
                heapify(self._ends)
                self._removed = 0
        return entry

    def forget_ended(self, now: int) -> None:
        """Remove what has ended from where it is kept."""
        while self._ends and self._ends[0][0] <= now:
            _, _, region, place, key, entry = heappop(self._ends)
            if place.get(key) is not entry:
                self._removed -= 1
            elif entry.ends > now:
                self._enter(region, place, key, entry)
            else:
                del place[key]
                self._held[region] -= 1

    def _enter(self, region: Region, place: Place, key: str, entry: Entry) -> None:
        self._entered += 1
        heappush(self._ends, (entry.ends, self._entered, region, place, key, entry))
