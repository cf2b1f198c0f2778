"""What the store in memory holds, each until it ends, and no more of it than it may."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Any, TypeAlias

from xuna_middleware.stores.counting import Counts
from xuna_middleware.stores.protocol import Note, StoreError


class Value:
    """Hold a value until it ends."""

    __slots__ = ("ends", "value")

    def __init__(self, value: bytes, ends: int) -> None:
        self.value, self.ends = value, ends


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

    def has_taken(self, now: int) -> bool:
        """Tell whether anything is still taken."""
        return any(ends > now for counts in self.fields.values() for ends in counts)


Entry: TypeAlias = Value | Noted | Leased | Revoked | Principal
#: Where entries are kept, by their keys.
Place: TypeAlias = dict[str, Any]


class Entries:
    """Know when each entry ends. One that lives on by then comes back in with a later end; one that
    was taken before stays counted until then.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        #: The soonest first: the end, a number so that entries are never compared, and what it is.
        self._ends: list[tuple[int, int, Place, str, Entry]] = []
        self._entered = 0

    def check_room(self, wanted: int) -> None:
        """Raise `StoreError` where there isn't room for so many more."""
        if len(self._ends) + wanted > self.most:
            raise StoreError("the store in memory is full")

    def keep(self, place: Place, key: str, entry: Entry) -> None:
        """Put an entry where it is kept until it ends."""
        place[key] = entry
        self._enter(place, key, entry)

    def forget_ended(self, now: int) -> None:
        """Remove what has ended from where it is kept."""
        while self._ends and self._ends[0][0] <= now:
            _, _, place, key, entry = heappop(self._ends)
            if entry.ends > now:
                self._enter(place, key, entry)
            elif place.get(key) is entry:
                del place[key]

    def _enter(self, place: Place, key: str, entry: Entry) -> None:
        self._entered += 1
        heappush(self._ends, (entry.ends, self._entered, place, key, entry))
