"""A store in this process's memory: enough for one process, and for tests."""

import logging
import time
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from threading import Lock
from typing import Any, Final, TypeAlias

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.counting import (
    Counts,
    alive,
    give_back,
    level,
    merge,
    take,
)
from xuna_middleware.stores.protocol import (
    Level,
    Move,
    Note,
    Part,
    Quota,
    Reserved,
    StoreError,
    Wanted,
    unused,
)
from xuna_middleware.stores.siblings import has_siblings

logger = logging.getLogger("xuna_middleware")

#: Of one principal; older ones are no longer told of.
_MOST_NOTES: Final = 8


class MemoryStore:
    """Keep values and counts in memory. Another process knows nothing of them.

    Args:
        most: how many values and principals there may be at once. A full store refuses
            (`StoreError`): forgetting a used proof would let it be used again, forgetting a count
            would let it be spent again.
        monotonic: the clock, in seconds.

    Raises:
        ConfigurationError: `most` is no number of values.
    """

    def __init__(
        self, most: int = 100_000, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if type(most) is not int or most < 1:
            raise ConfigurationError("MemoryStore(most=…) must be a whole number, 1 or more")
        self._most = most
        self._now = monotonic
        self._kept: dict[str, _Value] = {}
        self._notes: dict[str, _Noted] = {}
        self._principals: dict[str, _Principal] = {}
        #: When each entry ends, the soonest first. A taken value stays here until then; a principal
        #: who lives on by then comes back in with a later end.
        self._ends: list[tuple[int, int, str, _Entry]] = []
        self._entered = 0
        self._lock = Lock()  # held for no await: threads may run event loops of their own

    def __repr__(self) -> str:
        return f"MemoryStore(most={self._most})"

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless the key is there; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            if key in self._kept:
                return False
            self._check_room(1)
            self._kept[key] = kept = _Value(value, now + max(1, round(seconds * 1000)))
            self._enter(key, kept)
            return True

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; see `Store`."""
        with self._lock:
            kept = self._kept.pop(key, None)
            return kept.value if kept is not None and self._milliseconds() < kept.ends else None

    async def reserve(self, wanted: Sequence[Wanted], move: Move | None = None) -> Reserved:
        """Take of every quota or of none; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            if move is not None:
                self._move(move, now)
            found = [self._found(principal, quota, now) for principal, quota in wanted]
            for (_, _, left), (_, quota) in zip(found, wanted, strict=True):
                if left < quota.amount:
                    return self._refused(wanted, found, now)
            return self._taken(wanted, found, now)

    async def look(self, wanted: Sequence[Wanted]) -> tuple[Level, ...]:
        """Return where quotas stand; see `Store`."""
        with self._lock:
            now = self._milliseconds()
            return tuple(
                level(self._found(principal, quota, now)[1], quota, now)
                for principal, quota in wanted
            )

    async def give_back(self, parts: Sequence[Part]) -> None:
        """Give back what was taken; see `Store`."""
        with self._lock:
            self._give_back(parts, self._milliseconds())

    async def remember(self, note: Note) -> None:
        """Keep a note; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            self._check_room(1)
            self._notes[note.name] = noted = _Noted(note, now + round(note.seconds * 1000))
            self._enter(note.name, noted)
            for principal in {part.principal for part in note.parts}:
                entry = self._entry(principal)
                if entry is not None:
                    entry.notes = [*entry.notes, note.name][-_MOST_NOTES:]

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            noted = self._notes.pop(name, None)
            if noted is None:
                return None
            self._give_back(unused(noted.note.parts, milliseconds), now)
            for principal in {part.principal for part in noted.note.parts}:
                entry = self._entry(principal)
                if entry is not None and name in entry.notes:
                    entry.notes.remove(name)
            return noted.note.about

    def start(self) -> None:
        """Say so where another worker of this service runs, which counts by itself."""
        if has_siblings():
            logger.warning(
                "another worker of this service runs: each counts limits, used proofs and tickets "
                "by itself, so several workers issue several times as much; share them: "
                'XunaGate(store=RedisStore("redis://…"))'
            )

    async def aclose(self) -> None:
        """Do nothing: there is no connection, and what was used stays used."""

    def _give_back(self, parts: Sequence[Part], now: int) -> None:
        for part in parts:
            entry = self._entry(part.principal)
            if entry is not None and part.field in entry.fields:
                give_back(entry.fields[part.field], part.mark, part.amount, now)

    def _refused(self, wanted: Sequence[Wanted], found: list["_Found"], now: int) -> Reserved:
        pairs = list(zip(found, wanted, strict=True))
        metered = [
            entry
            for (entry, _, left), (_, quota) in pairs
            if left < quota.amount and quota.kind != "rate" and entry is not None
        ]
        names = dict.fromkeys(name for entry in metered for name in entry.notes)
        levels = tuple(level(counts, quota, now) for (_, counts, _), (_, quota) in pairs)
        return Reserved(False, levels, open_notes=tuple(names))

    def _taken(self, wanted: Sequence[Wanted], found: list["_Found"], now: int) -> Reserved:
        if any(stands[0] is None for stands in found):
            self._check_room(len({who for who, _ in wanted if self._entry(who) is None}))
        levels, marks = [], []
        for (entry, counts, left), (principal, quota) in zip(found, wanted, strict=True):
            mark = take(counts, quota, now)
            marks.append(mark)
            if counts:
                if entry is None:
                    entry = self._entry(principal) or self._new(principal, mark)
                entry.fields[quota.field] = counts
                if mark > entry.ends:
                    entry.ends = mark
            soonest = min(counts) - now if counts else 0
            levels.append(Level(left - quota.amount, soonest / 1000))
        return Reserved(True, tuple(levels), tuple(marks))

    def _move(self, move: Move, now: int) -> None:
        visitor = self._principals.get(move.visitor)
        if visitor is None or visitor.moved_to is not None or not visitor.has_taken(now):
            return
        person = self._entry(move.person)
        if person is None:
            self._check_room(1)
            person = self._new(move.person, visitor.ends)
        for field, counts in visitor.fields.items():
            merge(person.fields.setdefault(field, {}), counts)
        person.ends = max(person.ends, visitor.ends)
        person.notes = [*person.notes, *visitor.notes][-_MOST_NOTES:]
        visitor.fields, visitor.notes, visitor.moved_to = {}, [], move.person
        visitor.ends = max(visitor.ends, now + round(move.seconds * 1000))

    def _found(self, principal: str, quota: Quota, now: int) -> "_Found":
        entry = self._entry(principal)
        counts = None if entry is None else entry.fields.get(quota.field)
        if not counts:
            return entry, {}, quota.most
        counts = alive(counts, quota, now)
        return entry, counts, quota.most - sum(counts.values())

    def _entry(self, principal: str) -> "_Principal | None":
        entry = self._principals.get(principal)
        if entry is not None and entry.moved_to is not None:
            return self._principals.get(entry.moved_to)
        return entry

    def _new(self, principal: str, ends: int) -> "_Principal":
        known = self._principals.get(principal)
        if known is not None and known.moved_to is not None:  # the person's own entry has ended
            principal = known.moved_to
        self._principals[principal] = entry = _Principal(ends)
        self._enter(principal, entry)
        return entry

    def _check_room(self, wanted: int) -> None:
        if len(self._ends) + wanted > self._most:
            raise StoreError("the store in memory is full")

    def _enter(self, key: str, entry: "_Entry") -> None:
        self._entered += 1  # so that entries themselves are never compared
        heappush(self._ends, (entry.ends, self._entered, key, entry))

    def _forget_ended(self) -> int:
        now = self._milliseconds()
        while self._ends and self._ends[0][0] <= now:
            _, _, key, entry = heappop(self._ends)
            if entry.ends > now:
                self._enter(key, entry)
                continue
            kept = self._where(entry)
            if kept.get(key) is entry:
                del kept[key]
        return now

    def _where(self, entry: "_Entry") -> dict[str, Any]:
        if isinstance(entry, _Value):
            return self._kept
        return self._principals if isinstance(entry, _Principal) else self._notes

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


class _Value:
    """Hold a value until it ends."""

    __slots__ = ("ends", "value")

    def __init__(self, value: bytes, ends: int) -> None:
        self.value, self.ends = value, ends


class _Noted:
    """Hold a note until it ends."""

    __slots__ = ("ends", "note")

    def __init__(self, note: Note, ends: int) -> None:
        self.note, self.ends = note, ends


class _Principal:
    """Hold what somebody took, by the limits' fields, or who they turned out to be."""

    __slots__ = ("ends", "fields", "moved_to", "notes")

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.fields: dict[str, Counts] = {}
        self.notes: list[str] = []
        self.moved_to: str | None = None

    def has_taken(self, now: int) -> bool:
        return any(ends > now for counts in self.fields.values() for ends in counts)


_Entry: TypeAlias = _Value | _Noted | _Principal
#: Where a quota stands before anything is taken: whose it is, what is, and what is left.
_Found: TypeAlias = tuple[_Principal | None, Counts, int]
