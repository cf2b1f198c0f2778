"""A store in this process's memory: enough for one process, and for tests."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from threading import Lock
from typing import Final, Literal, TypeAlias

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.memory.counters import (
    Counts,
    give_back,
    hold,
    merge,
    take,
    tally,
)
from xuna_middleware.stores.memory.entries import Entries, Leased, Noted, Principal, Revoked, Value
from xuna_middleware.stores.memory.workers import has_siblings
from xuna_middleware.stores.namespace import checked_namespace
from xuna_middleware.stores.pending import MOST_LISTED, told
from xuna_middleware.stores.protocol import (
    MOST_TOLD,
    Charge,
    Lease,
    LeaseStatus,
    MergeUsage,
    OverBudgetError,
    PendingSettlement,
    Quota,
    QuotaStatus,
    Region,
    ReserveResult,
    RevocationCheck,
    Wanted,
    region_of,
    unused,
    whole,
)
from xuna_middleware.stores.wakeup import Wakeup

logger = logging.getLogger("xuna_middleware")

#: How many entries a region has by default. Used proofs and callers' tickets, one per request and
#: short-lived, have more: the process can't verify as many before they end.
MOST: Final = 100_000
MOST_OF_REQUESTS: Final = 1_000_000
_DEFAULTS: Final = {
    **dict.fromkeys(Region, MOST),
    **dict.fromkeys((Region.PROOFS, Region.TICKETS), MOST_OF_REQUESTS),
}
_REFUSED_AS_REVOKED: Final = ReserveResult(False, (), is_revoked=True)


class MemoryStore:
    """Keep values and counts in memory, for this process only.

    Args:
        max_entries: the maximum number of entries of each region: tickets, used proofs, counted
            callers, … (see `Region`); by default 100,000, for used proofs and callers' tickets
            1,000,000. A full region doesn't affect the others. It refuses new entries
            (`StoreError`): if a used proof or a count were dropped, it could be used again.
        regions: a different bound for some regions.
        namespace: the gate's name, as in `RedisStore`; for gates that share
            XUNA_ANONYMOUS_SECRET or another secret, and must not accept each other's visitors.
        monotonic: the clock, in seconds.

    Raises:
        ConfigurationError: a bound is not a number of entries, or `namespace` not a name.
    """

    def __init__(
        self,
        max_entries: int | None = None,
        *,
        regions: Mapping[Region, int] | None = None,
        namespace: str = "",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        bounds = {
            **(_DEFAULTS if max_entries is None else dict.fromkeys(Region, max_entries)),
            **(regions or {}),
        }
        if not all(type(bound) is int and bound >= 1 for bound in bounds.values()):
            raise ConfigurationError(
                "MemoryStore(max_entries=…, regions=…) takes whole numbers, 1 or more"
            )
        if not set(Region).issuperset(bounds):
            raise ConfigurationError("MemoryStore(regions=…) names regions: {Region.PROOFS: 1000}")
        #: The gate's name, "" where it has none. Gates that share one MemoryStore are one gate.
        self.namespace = "" if namespace == "" else checked_namespace(namespace, "MemoryStore")
        self._now = monotonic
        self._most = MOST if max_entries is None else max_entries
        self._entries = Entries(bounds)
        self._kept: dict[str, Value] = {}
        self._notes: dict[str, Noted] = {}
        self._principals: dict[str, Principal] = {}
        self._leases: dict[str, Leased] = {}
        self._revoked: dict[str, Revoked] = {}
        self._bell = Wakeup(at_first=True)
        self._lock = Lock()  # never held across an await: threads may run separate event loops

    def __repr__(self) -> str:
        return f"MemoryStore(max_entries={self._most})"

    def held(self, region: Region) -> int:
        """Return how many entries a region has now."""
        with self._lock:
            self._entries.forget_ended(self._milliseconds(), inf)
            return self._entries.held(region)

    async def put(
        self,
        key: str,
        value: bytes,
        seconds: float,
        region: Region,
        within: Sequence[Wanted] = (),
    ) -> bool:
        """Keep a value unless the key exists; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            if self._entries.get(self._kept, key) is not None:
                return False
            found = [self._found(principal, quota, now) for principal, quota in within]
            for place, (_, quota, _, _, left, soonest) in enumerate(found):
                if left < quota.amount:
                    raise OverBudgetError(place, (soonest - now) / 1000)
            self._check_room(found, region)
            self._taken(found, now)
            kept = Value(value, now + whole(seconds), region)
            self._entries.keep(region, self._kept, key, kept)
            return True

    async def take(self, key: str) -> bytes | None:
        """Return a value and delete it; see `Store`."""
        with self._lock:
            self._forget_ended()
            kept: Value | None = self._entries.get(self._kept, key)
            if kept is None:
                return None
            self._entries.remove(kept.region, self._kept, key)
            return kept.value

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None = None,
        standing: RevocationCheck | None = None,
    ) -> ReserveResult:
        """Take from every quota or from none; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            if standing is not None and self._is_revoked(standing):
                return _REFUSED_AS_REVOKED
            found = [self._found(principal, quota, now) for principal, quota in wanted]
            brought = None
            if move is not None and (brought := self._visitor(move, now)) is not None:
                found = [_with(brought, move, one, now) for one in found]
            has_newcomers = False
            for _, quota, entry, _, left, _ in found:
                if left < quota.amount:
                    return self._refused(found, now, move, brought)
                has_newcomers = has_newcomers or entry is None
            if has_newcomers:
                self._check_room(found)
            return self._taken(found, now)

    async def move(self, move: MergeUsage, wanted: Sequence[Wanted]) -> ReserveResult:
        """Move a visitor's usage to a person, if all can be taken; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            found = [self._found(principal, quota, now) for principal, quota in wanted]
            if any(left < quota.amount for _, quota, _, _, left, _ in found):
                return ReserveResult(False, _levels(found, now))
            self._check_room(found)
            self._move(move, now)
            return self._taken(found, now)

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        """Return the status of quotas; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            return _levels([self._found(principal, quota, now) for principal, quota in wanted], now)

    async def give_back(self, parts: Sequence[Charge]) -> None:
        """Give back charges; see `Store`."""
        with self._lock:
            self._give_back(parts, self._forget_ended())

    async def remember(self, note: PendingSettlement) -> None:
        """Keep a note; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            self._entries.check_room(Region.NOTES, note.name not in self._notes)
            noted = Noted(note, now + whole(note.seconds))
            self._entries.keep(Region.NOTES, self._notes, note.name, noted)
            for principal in {part.principal for part in note.parts}:
                entry = self._entry(principal)
                if entry is not None:
                    self._list(entry, [note.name])

    async def is_pending(self, name: str) -> bool:
        """Return whether a reservation can be settled; see `Store`."""
        with self._lock:
            self._forget_ended()
            return self._entries.get(self._notes, name) is not None

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            noted: Noted | None = self._entries.remove(Region.NOTES, self._notes, name)
            if noted is None:
                return None
            for principal in {part.principal for part in noted.note.parts}:
                entry = self._entry(principal)
                if entry is not None:
                    entry.notes.pop(name, None)
            self._give_back(unused(noted.note.parts, milliseconds), now)
            return noted.note.about

    async def hold(self, leases: Sequence[Lease]) -> tuple[LeaseStatus, ...]:
        """Renew leases; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            for region, count in self._newcomers(leases).items():
                self._entries.check_room(region, count)
            return tuple([self._held(lease, now) for lease in leases])

    async def release_lease(self, name: str, slots: Sequence[Charge]) -> bool:
        """Delete the lease of a finished conversation; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            leased: Leased | None = self._entries.remove(Region.LEASES, self._leases, name)
            if leased is not None:
                self._give_back(_marked(slots, leased.marks), now)
            return leased is not None

    async def leases(self) -> tuple[str, ...]:
        """Return the `about` lines of the live conversations; see `Store`."""
        with self._lock:
            now = self._forget_ended()
            names = sorted(name for name, each in self._leases.items() if each.ends > now)
            return tuple([self._leases[name].about for name in names[:MOST_TOLD]])

    async def end(self, name: str) -> bool:
        """Ask for the end of a conversation; see `Store`."""
        with self._lock:
            self._forget_ended()
            leased: Leased | None = self._entries.get(self._leases, name)
            if leased is None:
                return False
            leased.is_ended = True
        self._bell.ring()
        return True

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse credentials issued up to a time; see `Store`."""
        with self._lock:
            ends = self._forget_ended() + whole(seconds)
            revoked: Revoked | None = self._entries.get(self._revoked, principal)
            if revoked is None:
                self._entries.check_room(Region.REVOCATIONS)
                revoked = Revoked(at, ends)
                self._entries.keep(Region.REVOCATIONS, self._revoked, principal, revoked)
            revoked.at, revoked.ends = max(revoked.at, at), max(revoked.ends, ends)
        self._bell.ring()

    async def wait_for_wakeup(self) -> None:
        """Wait until somebody called `end()` or `revoke()`; see `Store`."""
        await self._bell.wait()

    def start(self) -> None:
        """Log it if another worker of this service runs, since that one counts separately."""
        if has_siblings():
            logger.warning(
                "another worker of this service runs: each counts limits, used proofs and tickets "
                "by itself, so several workers issue several times as much; share them: "
                'XunaGate(store=RedisStore("redis://…", namespace="…"))'
            )

    async def aclose(self) -> None:
        """Do nothing: there is no connection, and used values stay used."""

    def _give_back(self, parts: Sequence[Charge], now: int) -> None:
        for part in parts:
            name = self._name(part.principal)
            entry: Principal | None = self._entries.get(self._principals, name)
            if entry is not None and part.field in entry.fields:
                counts = entry.fields[part.field]
                give_back(counts, part.mark, part.amount, now)
                if not counts:
                    del entry.fields[part.field]
            if entry is not None and entry.is_empty:
                self._entries.remove(region_of(name), self._principals, name)
            elif entry is not None:
                self._shorten(name, entry)

    def _shorten(self, name: str, entry: Principal) -> None:
        """Let a principal's entry end when the last of its charges does."""
        last = max((max(counts) for counts in entry.fields.values() if counts), default=entry.ends)
        if last < entry.ends and entry.moved_to is None:
            self._entries.keep(region_of(name), self._principals, name, entry.until(last))

    def _check_room(self, found: Sequence["_Found"], *more: Region) -> None:
        """Raise `StoreError` if there isn't room for principals that aren't counted yet."""
        newcomers = {self._name(who) for who, _, entry, _, _, _ in found if entry is None}
        regions = [*map(region_of, newcomers), *more]
        for region in regions:
            self._entries.check_room(region, 1 if len(regions) == 1 else regions.count(region))

    def _is_revoked(self, standing: RevocationCheck) -> bool:
        revoked: Revoked | None = self._entries.get(self._revoked, standing.principal)
        return revoked is not None and standing.is_covered(revoked.at)

    def _newcomers(self, leases: Sequence[Lease]) -> Counter[Region]:
        """Return how many new entries are needed to hold all of these."""
        whom = {self._name(part.principal) for lease in leases for part in lease.slots}
        new = {lease.name for lease in leases} - self._leases.keys()
        wanted = Counter(map(region_of, whom - self._principals.keys()))
        wanted[Region.LEASES] += len(new)
        return wanted

    def _held(self, lease: Lease, now: int) -> LeaseStatus:
        leased: Leased | None = self._entries.get(self._leases, lease.name)
        slots = lease.slots if leased is None else _marked(lease.slots, leased.marks)
        word = self._word(lease, leased)
        if word:
            return LeaseStatus(slots, word)
        length = whole(lease.seconds)
        slots = tuple([self._held_slot(part, length, now) for part in slots])
        if leased is None:
            leased = Leased(now + length)
            self._entries.keep(Region.LEASES, self._leases, lease.name, leased)
        leased.ends, leased.about = now + length, lease.about
        leased.marks = [part.mark for part in slots]
        return LeaseStatus(slots, "")

    def _word(self, lease: Lease, leased: Leased | None) -> Literal["", "ended", "revoked"]:
        if lease.standing is not None and self._is_revoked(lease.standing):
            return "revoked"
        return "ended" if leased is not None and leased.is_ended else ""

    def _held_slot(self, part: Charge, length: int, now: int) -> Charge:
        entry = self._entry(part.principal) or self._new(part.principal, now + length)
        counts = entry.fields.setdefault(part.field, {})
        mark = hold(counts, part.mark, part.amount, length, now)
        entry.ends = max(entry.ends, mark)
        return part._replace(mark=mark)

    def _refused(
        self,
        found: Sequence["_Found"],
        now: int,
        move: MergeUsage | None,
        brought: Principal | None,
    ) -> ReserveResult:
        metered: list[Principal | None] = []
        for who, quota, entry, _, left, _ in found:
            if left < quota.amount and quota.kind != "rate":
                metered.append(entry)
                if move is not None and who == move.person:
                    metered.append(brought)
        told_of = [entry for entry in metered if entry is not None]
        names = dict.fromkeys(name for entry in told_of for name in self._open_notes(entry, now))
        return ReserveResult(False, _levels(found, now), open_notes=tuple(names))

    def _open_notes(self, entry: Principal, now: int) -> list[str]:
        self._unlist_ended(entry)
        return [name for name in told(entry.notes, now) if self._is_open(name)]

    def _list(self, entry: Principal, names: Iterable[str]) -> None:
        self._unlist_ended(entry)
        for name in names:
            if len(entry.notes) < MOST_LISTED:
                entry.notes[name] = None

    def _unlist_ended(self, entry: Principal) -> None:
        """Remove the oldest names, as long as their reservations no longer exist."""
        while entry.notes and not self._is_open(oldest := next(iter(entry.notes))):
            del entry.notes[oldest]

    def _is_open(self, note: str) -> bool:
        return self._entries.get(self._notes, note) is not None

    def _taken(self, found: Sequence["_Found"], now: int) -> ReserveResult:
        levels, marks = [], []
        for principal, quota, entry, counts, left, soonest in found:
            mark = take(counts, quota, now)
            marks.append(mark)
            if counts:
                entry = entry or self._entry(principal) or self._new(principal, mark)
                entry.fields[quota.field] = counts
                if mark > entry.ends:
                    entry.ends = mark
                if not soonest or mark < soonest:
                    soonest = mark
            levels.append(_level(left - quota.amount, soonest, now))
        return ReserveResult(True, tuple(levels), tuple(marks))

    def _visitor(self, move: MergeUsage, now: int) -> Principal | None:
        """Return the usage of a visitor who hasn't signed in yet; None if there is none."""
        visitor: Principal | None = self._entries.get(self._principals, move.visitor)
        if visitor is None or visitor.moved_to is not None or not visitor.has_taken(now):
            return None
        return visitor

    def _move(self, move: MergeUsage, now: int) -> None:
        visitor = self._visitor(move, now)
        if visitor is None:
            return
        person = self._entry(move.person)
        if person is None:
            self._entries.check_room(region_of(move.person))
            person = self._new(move.person, visitor.ends)
        for field, counts in visitor.fields.items():
            merge(person.fields.setdefault(field, {}), counts)
        person.ends = max(person.ends, visitor.ends)
        self._list(person, visitor.notes)
        visitor.fields, visitor.notes, visitor.moved_to = {}, {}, move.person
        visitor.ends = max(visitor.ends, now + round(move.seconds * 1000))

    def _found(self, principal: str, quota: Quota, now: int) -> "_Found":
        entry = self._entry(principal)
        counts = None if entry is None else entry.fields.get(quota.field)
        if not counts:
            return principal, quota, entry, {}, quota.most, 0
        counts, taken, soonest = tally(counts, quota, now)
        return principal, quota, entry, counts, quota.most - taken, soonest

    def _entry(self, principal: str) -> Principal | None:
        entry: Principal | None = self._entries.get(self._principals, principal)
        if entry is not None and entry.moved_to is not None:
            moved: Principal | None = self._entries.get(self._principals, entry.moved_to)
            return moved
        return entry

    def _new(self, principal: str, ends: int) -> Principal:
        known: Principal | None = self._entries.get(self._principals, principal)
        if known is not None and known.moved_to is not None:  # the person's own entry has ended
            principal = known.moved_to
        entry = Principal(ends)
        self._entries.keep(region_of(principal), self._principals, principal, entry)
        return entry

    def _name(self, principal: str) -> str:
        """Return the name under which a principal is counted."""
        known: Principal | None = self._entries.get(self._principals, principal)
        return principal if known is None or known.moved_to is None else known.moved_to

    def _forget_ended(self) -> int:
        """Remove some of the ended entries, and return the time."""
        now = self._milliseconds()
        self._entries.forget_ended(now)
        return now

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


def _with(brought: Principal, move: MergeUsage, found: "_Found", now: int) -> "_Found":
    """Return the status of a person's quota with the visitor's usage added."""
    principal, quota, entry, counts, left, soonest = found
    theirs = brought.fields.get(quota.field)
    if principal != move.person or not theirs:
        return found
    _, taken, first = tally(theirs, quota, now)
    soonest = min(filter(None, (soonest, first)), default=0)
    return principal, quota, entry, counts, left - taken, soonest


def _marked(slots: Sequence[Charge], marks: Sequence[int]) -> tuple[Charge, ...]:
    """Return charges with the marks that the store has for them: an answer may have been lost."""
    known = [part._replace(mark=mark) for part, mark in zip(slots, marks, strict=False)]
    return (*known, *slots[len(known) :])


def _levels(found: Sequence["_Found"], now: int) -> tuple[QuotaStatus, ...]:
    return tuple([_level(left, soonest, now) for _, _, _, _, left, soonest in found])


def _level(left: int, soonest: int, now: int) -> QuotaStatus:
    # Same as QuotaStatus(…), a third faster: each limit of each reservation needs one.
    return tuple.__new__(QuotaStatus, (left, (soonest - now) / 1000 if soonest else 0.0))


#: The state of a quota before anything is taken: its principal, how it counts, the principal's
#: entry, its counts, the rest, and when some comes back, 0 where nothing was taken.
_Found: TypeAlias = tuple[str, Quota, Principal | None, Counts, int, int]
