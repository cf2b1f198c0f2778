"""The entries of the memory store, each kept until its end, within bounds per region."""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any, Final, TypeAlias

from xuna_middleware.stores.memory.counters import Counts
from xuna_middleware.stores.protocol import PendingSettlement, Region, StoreError

#: A heap is swept for removed items when it has more than this many, and they are half of the
#: heap. Each removal then sweeps this many items.
FEW: Final = 64
#: How many ended entries are processed at once; and how many where their region has no room
#: otherwise.
AT_ONCE: Final = 256
AT_ONCE_FOR_ROOM: Final = 4_096


class Value:
    """Hold a value until it ends."""

    __slots__ = ("ends", "region", "value")

    def __init__(self, value: bytes, ends: int, region: Region) -> None:
        self.value, self.ends, self.region = value, ends, region


class Noted:
    """Hold a note until it ends."""

    __slots__ = ("ends", "note")

    def __init__(self, note: PendingSettlement, ends: int) -> None:
        self.note, self.ends = note, ends


class Leased:
    """Hold a live conversation: its `about`, the marks of its slots, whether it should end."""

    __slots__ = ("about", "ends", "is_ended", "marks")

    def __init__(self, ends: int) -> None:
        self.ends, self.is_ended, self.about = ends, False, ""
        self.marks: Sequence[int] = ()


class Revoked:
    """Hold the time up to which a principal's credentials are revoked."""

    __slots__ = ("at", "ends")

    def __init__(self, at: float, ends: int) -> None:
        self.at, self.ends = at, ends


class Principal:
    """Hold a principal's usage, by the limits' fields, or the person whom a visitor became."""

    __slots__ = ("ends", "fields", "moved_to", "notes")

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.fields: dict[str, Counts] = {}
        #: The names of open reservations, the oldest first.
        self.notes: dict[str, None] = {}
        self.moved_to: str | None = None

    def until(self, ends: int) -> "Principal":
        """Return the same entry with another end."""
        other = Principal(ends)
        other.fields, other.notes, other.moved_to = self.fields, self.notes, self.moved_to
        return other

    @property
    def is_empty(self) -> bool:
        """Whether it holds no information any more."""
        return not self.fields and not self.notes and self.moved_to is None

    def has_taken(self, now: int) -> bool:
        """Return whether anything is still taken."""
        return any(ends > now for counts in self.fields.values() for ends in counts)


Entry: TypeAlias = Value | Noted | Leased | Revoked | Principal
#: A mapping of keys to entries.
Place: TypeAlias = dict[str, Any]
_Heap: TypeAlias = list[tuple[int, int, Place, str, Entry]]


class Entries:
    """Track when each entry ends, and how many entries each region has.

    An entry that lives on past its recorded end goes back in with its later end. An entry removed
    before its end makes room at once; the heap drops it later, some at a time, and holds at most
    about as many removed items as live ones (or 64). `get()` doesn't return ended entries. They are
    removed a few at a time, so that no request waits for all that ended since the last one; a full
    region removes its own first.
    """

    def __init__(self, most: Mapping[Region, int]) -> None:
        self.most = most
        self._held = dict.fromkeys(most, 0)
        #: The earliest first: the end, a number so that entries are never compared, and the entry.
        self._ends: dict[Region, _Heap] = {region: [] for region in most}
        #: The same, for live items that the current sweep has passed, until it is complete.
        self._swept: dict[Region, _Heap] = {region: [] for region in most}
        self._removed = dict.fromkeys(most, 0)
        self._entered = 0
        #: The time of the current operation, and when the next entry can be removed.
        self._now, self._next = 0, inf

    def held(self, region: Region) -> int:
        """Return how many entries a region has."""
        return self._held[region]

    def get(self, place: Place, key: str) -> Any:
        """Return an entry; None if there is none, or it has ended."""
        entry = place.get(key)
        return None if entry is None or entry.ends <= self._now else entry

    def check_room(self, region: Region, wanted: int = 1) -> None:
        """Raise `StoreError` if there isn't room for `wanted` more entries."""
        left = AT_ONCE_FOR_ROOM
        while self._lacks(region, wanted) and left and self._forget_first(region):
            left -= 1
        if self._held[region] + wanted > self.most[region]:
            raise StoreError(
                f"the store in memory is full of {region.value}: "
                f"MemoryStore(max_entries=…, regions={{Region.{region.name}: …}}), or a "
                "RedisStore, has room"
            )

    def _lacks(self, region: Region, wanted: int) -> bool:
        return self._held[region] > self.most[region] - wanted

    def keep(self, region: Region, place: Place, key: str, entry: Entry) -> None:
        """Keep an entry until it ends; it replaces one with the same key."""
        if key in place:
            self.remove(region, place, key)
        place[key] = entry
        self._held[region] += 1
        self._enter(region, place, key, entry)

    def remove(self, region: Region, place: Place, key: str) -> Any:
        """Remove an entry before its end, and return it; None if it no longer exists."""
        entry = place.pop(key, None)
        if entry is not None:
            self._held[region] -= 1
            self._removed[region] += 1
            self._sweep(region)
        return None if entry is None or entry.ends <= self._now else entry

    def forget_ended(self, now: int, at_once: float | None = None) -> None:
        """Advance to this time, and remove some of the ended entries."""
        self._now = now
        if now < self._next:
            return
        left = AT_ONCE if at_once is None else at_once
        for region in self._ends:
            while left > 0 and self._forget_first(region):
                left -= 1
        heaps = map(self._first_heap, self._ends)
        self._next = min((heap[0][0] for heap in heaps if heap), default=inf)

    def _sweep(self, region: Region) -> None:
        """Drop some removed items from a heap if they are half of it. A sweep that has begun goes
        on until it has passed through the whole heap.
        """
        heap, swept = self._ends[region], self._swept[region]
        removed = self._removed[region]
        if not swept and (removed <= FEW or removed <= self._held[region]):
            return
        for _ in range(min(FEW, len(heap))):
            item = heap.pop()  # the last item: the rest is still a heap
            if item[2].get(item[3]) is item[4]:
                heappush(swept, item)
            else:
                self._removed[region] -= 1
        if not heap:
            self._ends[region], self._swept[region] = swept, heap

    def _first_heap(self, region: Region) -> _Heap:
        """Return the heap with the earliest end, of the two that a region may have."""
        heap, swept = self._ends[region], self._swept[region]
        return swept if swept and (not heap or swept[0] < heap[0]) else heap

    def _forget_first(self, region: Region) -> bool:
        """Remove the first item of a heap if its time has come; return whether it has."""
        heap = self._first_heap(region)
        if not heap or heap[0][0] > self._now:
            return False
        _, _, place, key, entry = heappop(heap)
        if place.get(key) is not entry:
            self._removed[region] -= 1
        elif entry.ends > self._now:
            self._enter(region, place, key, entry)
        else:
            del place[key]
            self._held[region] -= 1
        return True

    def _enter(self, region: Region, place: Place, key: str, entry: Entry) -> None:
        self._entered += 1
        heappush(self._ends[region], (entry.ends, self._entered, place, key, entry))
        self._next = min(self._next, entry.ends)
