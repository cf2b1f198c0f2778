"""Counting in any order, beside a model that keeps one flat list, on both stores.

`STATEFUL_EXAMPLES=2400 pytest -s tests/stores/test_counting_machine.py` says how many steps it
makes: more than 100,000 on each.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from xuna_middleware import MemoryStore, RedisStore
from xuna_middleware.stores import (
    Charge,
    Lease,
    LeaseStatus,
    MergeUsage,
    PendingSettlement,
    Quota,
    RevocationCheck,
    Store,
)
from xuna_middleware.stores.protocol import taken_parts
from xuna_middleware.stores.redis import store as redis_module

from .redis_server import RedisServer

pytestmark = pytest.mark.proof

EXAMPLES: Final = int(os.environ.get("STATEFUL_EXAMPLES", "40"))
STEPS: Final = 50

QUOTAS: Final = (
    Quota(field="few", most=3, amount=1, seconds=10, kind="rate"),
    Quota(field="many", most=8, amount=1, seconds=100, kind="rate"),
    Quota(field="talk", most=1000, amount=400, seconds=50, kind="time"),
    Quota(field="two", most=2, amount=1, seconds=20, kind="slot"),
    Quota(field="off", most=0, amount=0, seconds=10, kind="rate"),
    # Agents that share a limit: what is held at first, and what is taken, is each one's own.
    Quota(field="two", most=2, amount=1, seconds=20, kind="slot", held=4),
    Quota(field="two", most=2, amount=1, seconds=20, kind="slot", held=13),
    Quota(field="talk", most=1000, amount=150, seconds=50, kind="time"),
)
PEOPLE: Final = ("anna", "bert", "visitor-1", "visitor-2")
FOREVER: Final = 10.0**6

T = TypeVar("T")
wants = st.lists(
    st.tuples(st.sampled_from(PEOPLE), st.sampled_from(QUOTAS)),
    min_size=1,
    max_size=4,
    unique_by=lambda wanted: (wanted[0], wanted[1].field),
)
issued = st.none() | st.integers(1, 4)
standings = st.none() | st.builds(RevocationCheck, st.sampled_from(PEOPLE), issued)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Talk:
    """What the model knows of a lease that a store was told of."""

    ends: int
    about: str
    parts: tuple[Charge, ...]
    is_ended: bool = False


class Counting(RuleBasedStateMachine):
    """Take, give back, settle, sign in, talk, revoke, and let time pass. Subclasses say on which
    store.
    """

    store: Store
    loop: asyncio.Runner
    examples = 0
    looks = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.clock = Clock()
        #: (principal, field, end) → amount
        self.model: dict[tuple[str, str, int], int] = {}
        self.is_now: dict[str, str] = {}
        self.taken: list[tuple[Charge, ...]] = []
        self.notes: dict[str, tuple[Charge, ...]] = {}
        self.noted = 0
        #: What the holders know, and what the store was told.
        self.leases: dict[str, Lease] = {}
        self.talks: dict[str, Talk] = {}
        self.revoked: dict[str, int] = {}

    @classmethod
    def report(cls) -> None:
        """Say how many rules were run: it is looked after each, and before the first."""
        print(f"{cls.__name__}: {cls.looks - cls.examples:,} steps in {cls.examples:,} examples")

    def run(self, story: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(story)

    @property
    def now(self) -> int:
        return int(self.clock.now * 1000)

    def used(self, principal: str, field: str) -> dict[int, int]:
        who = self.is_now.get(principal, principal)
        return {
            ends: amount
            for (one, name, ends), amount in self.model.items()
            if (one, name) == (who, field) and ends > self.now and amount
        }

    @rule(wanted=wants, note=st.booleans(), standing=standings)
    def reserve(
        self, wanted: list[tuple[str, Quota]], note: bool, standing: RevocationCheck | None
    ) -> None:
        # Two names of one person would count twice in one go, which no gate asks for.
        wanted = list({(self.is_now.get(w, w), q.field): (w, q) for w, q in wanted}.values())
        reserved = self.run(self.store.reserve(wanted, standing=standing))
        assert reserved.is_revoked is self.is_revoked(standing)
        if reserved.is_revoked:
            assert not reserved.taken
            return
        fits = all(q.most - sum(self.used(w, q.field).values()) >= q.amount for w, q in wanted)
        assert reserved.taken is fits
        if fits:
            self.take(wanted)
            parts = taken_parts(wanted, reserved)
            (self.remember if note else self.taken.append)(parts)
        else:
            self.check_told(wanted, reserved.open_notes)
        told = [level.left for level in reserved.levels]
        assert told == [q.most - sum(self.used(w, q.field).values()) for w, q in wanted]

    def check_told(self, wanted: list[tuple[str, Quota]], told: tuple[str, ...]) -> None:
        """Told of is what is open of those who were refused time or a slot: all of it that still
        counts, perhaps more.
        """
        refused = {
            self.is_now.get(who, who)
            for who, quota in wanted
            if quota.kind != "rate"
            and quota.most - sum(self.used(who, quota.field).values()) < quota.amount
        }
        theirs: dict[str, bool] = {}
        for name, parts in self.notes.items():
            for part in parts:
                if self.is_now.get(part.principal, part.principal) in refused:
                    theirs[name] = theirs.get(name, False) or part.mark > self.now
        assert set(told) <= set(theirs)
        assert {name for name, counts in theirs.items() if counts} <= set(told)

    def take(self, wanted: list[tuple[str, Quota]]) -> None:
        for who, quota in wanted:
            if quota.kind == "slot":
                ends = self.rounded(quota.held or quota.seconds)
            else:
                ends = self.now + int(quota.seconds * 1000)
                ends = max(self.used(who, quota.field), default=ends)
            if quota.amount:
                key = (self.is_now.get(who, who), quota.field, ends)
                self.model[key] = self.model.get(key, 0) + quota.amount

    def rounded(self, seconds: float) -> int:
        step = int(seconds * 1000) // 50
        return -(-(self.now + int(seconds * 1000)) // step) * step

    def remember(self, parts: tuple[Charge, ...]) -> None:
        self.noted += 1
        name = f"conv_{id(self)}_{self.noted}"
        self.run(self.store.remember(PendingSettlement(name, parts, name, FOREVER)))
        self.notes[name] = parts

    @rule(data=st.data(), whole=st.booleans())
    def give_back(self, data: st.DataObject, whole: bool) -> None:
        if self.taken:
            parts = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
            if not whole:
                parts = tuple(part._replace(amount=max(1, part.amount // 3)) for part in parts)
            self.run(self.store.give_back(parts))
            self.return_(parts)

    @rule(data=st.data(), used=st.sampled_from([0, 150, 400, 700]))
    def settle(self, data: st.DataObject, used: int) -> None:
        if self.notes:
            name = data.draw(st.sampled_from(sorted(self.notes)))
            parts = self.notes.pop(name)
            assert self.run(self.store.settle(name, used)) == name
            assert self.run(self.store.settle(name, used)) is None
            back = [p._replace(amount=p.amount - used) for p in parts if p.kind == "time"]
            self.return_([*back, *(p for p in parts if p.kind == "slot")])

    def return_(self, parts: Any) -> None:
        for part in parts:
            key = (self.is_now.get(part.principal, part.principal), part.field, part.mark)
            if part.mark > self.now and self.model.get(key, 0) > 0:
                self.model[key] = max(0, self.model[key] - part.amount)

    @rule(visitor=st.sampled_from(PEOPLE[2:]), person=st.sampled_from(PEOPLE[:2]))
    def sign_in(self, visitor: str, person: str) -> None:
        move = MergeUsage(visitor, person, FOREVER)
        wanted = [(person, replace(quota, amount=0)) for quota in QUOTAS[:4]]
        levels = self.run(self.store.reserve(wanted, move)).levels
        brings = visitor not in self.is_now
        for (_, quota), level in zip(wanted, levels, strict=True):
            theirs = self.used(visitor, quota.field) if brings else {}
            used = sum(self.used(person, quota.field).values()) + sum(theirs.values())
            assert level.left == quota.most - used
        assert self.run(self.store.move(move, [])).taken
        if visitor not in self.is_now and self.has_taken(visitor):
            for (who, field, ends), amount in list(self.model.items()):
                if who == visitor:
                    key = (person, field, ends)
                    self.model[key] = self.model.get(key, 0) + amount
                    del self.model[who, field, ends]
            self.is_now[visitor] = person

    def has_taken(self, visitor: str) -> bool:
        return any(
            who == visitor and ends > self.now and amount
            for (who, _, ends), amount in self.model.items()
        )

    @rule(data=st.data(), standing=standings, seconds=st.sampled_from([4, 10]))
    def begin(self, data: st.DataObject, standing: RevocationCheck | None, seconds: float) -> None:
        """Turn a reservation into a conversation, whose other parts stay counted."""
        parts: tuple[Charge, ...] = ()
        if self.taken:
            parts = self.taken.pop(data.draw(st.integers(0, len(self.taken) - 1)))
        self.noted += 1
        name = f"talk_{id(self)}_{self.noted}"
        slots = tuple(part for part in parts if part.kind == "slot")
        self.leases[name] = Lease(name, f"about {name}", seconds, slots, standing)
        self.hold_some([name], is_lost=False)

    @rule(data=st.data(), is_lost=st.booleans())
    def hold(self, data: st.DataObject, is_lost: bool) -> None:
        """Of some conversations; where the answer is lost, the holder knows the old marks only."""
        if self.leases:
            names = st.lists(st.sampled_from(sorted(self.leases)), min_size=1, unique=True)
            self.hold_some(data.draw(names), is_lost=is_lost)

    def hold_some(self, names: list[str], *, is_lost: bool) -> None:
        leases = [self.leases[name] for name in names]
        told = self.run(self.store.hold(leases))
        assert told == tuple(map(self.held, leases))
        if not is_lost:
            for lease, held in zip(leases, told, strict=True):
                self.leases[lease.name] = lease._replace(slots=held.slots)

    def held(self, lease: Lease) -> LeaseStatus:
        talk = self.talk(lease.name)
        parts = lease.slots if talk is None else talk.parts
        if self.is_revoked(lease.standing):
            return LeaseStatus(parts, "revoked")
        if talk is not None and talk.is_ended:
            return LeaseStatus(parts, "ended")
        self.return_(parts)
        parts = tuple(part._replace(mark=self.rounded(lease.seconds)) for part in parts)
        for part in parts:
            who = self.is_now.get(part.principal, part.principal)
            key = (who, part.field, part.mark)
            self.model[key] = self.model.get(key, 0) + part.amount
        ends = self.now + int(lease.seconds * 1000)
        self.talks[lease.name] = Talk(ends, lease.about, parts)
        return LeaseStatus(parts, "")

    def talk(self, name: str) -> Talk | None:
        talk = self.talks.get(name)
        return talk if talk is not None and talk.ends > self.now else None

    @rule(data=st.data(), forgets=st.booleans())
    def release_lease(self, data: st.DataObject, forgets: bool) -> None:
        """Once, or by a holder who will do so again."""
        if self.leases:
            name = data.draw(st.sampled_from(sorted(self.leases)))
            lease = self.leases[name] if forgets else self.leases.pop(name)
            self.run(self.store.release_lease(name, lease.slots))
            talk = self.talk(name)
            if talk is not None:
                self.return_(talk.parts)
                del self.talks[name]

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([*sorted(self.leases), "nobody"]))
        talk = self.talk(name)
        assert self.run(self.store.end(name)) is (talk is not None)
        if talk is not None:
            talk.is_ended = True

    @rule(principal=st.sampled_from(PEOPLE), at=st.integers(1, 3))
    def revoke(self, principal: str, at: int) -> None:
        self.run(self.store.revoke(principal, at, FOREVER))
        self.revoked[principal] = max(at, self.revoked.get(principal, 0))

    def is_revoked(self, standing: RevocationCheck | None) -> bool:
        if standing is None or standing.principal not in self.revoked:
            return False
        return standing.issued_at is None or standing.issued_at <= self.revoked[standing.principal]

    @rule(seconds=st.sampled_from([0.001, 0.4, 3.9, 5.0, 9.999, 10.0, 20.4, 50.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.run(self.tell_time())

    async def tell_time(self) -> None:
        """Let the store know what time it is, where it can't ask."""

    @invariant()
    def stands_where_the_model_stands(self) -> None:
        type(self).looks += 1
        wanted = [(who, quota) for who in PEOPLE for quota in QUOTAS[:4]]
        levels = self.run(self.store.look(wanted))
        for (who, quota), level in zip(wanted, levels, strict=True):
            used = self.used(who, quota.field)
            assert level.left == quota.most - sum(used.values()), (who, quota.field)
            assert level.seconds == pytest.approx((min(used) - self.now) / 1000 if used else 0)

    @invariant()
    def tells_what_is_live(self) -> None:
        live = [talk.about for _, talk in sorted(self.talks.items()) if talk.ends > self.now]
        assert list(self.run(self.store.leases())) == live


def test_in_memory() -> None:
    """The store in memory."""
    with asyncio.Runner() as runner:

        class InMemory(Counting):
            loop = runner

            def __init__(self) -> None:
                super().__init__()
                self.store = MemoryStore(monotonic=self.clock)

        run_state_machine_as_test(
            InMemory, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS)
        )
        InMemory.report()


class ClockedRedis(RedisStore):
    """A store whose scripts read the time from a key, so that a test can turn it."""

    async def _run(self, script: Any, keys: list[str], arguments: tuple[Any, ...]) -> Any:
        text = script.text.replace(
            "redis.call('TIME')", "{0, redis.call('GET', '{clocked}:clock')}"
        )
        assert text != script.text
        return await super()._run(redis_module._Script(text), keys, arguments)

    async def tell(self, now: float) -> None:
        await self._client().set("{clocked}:clock", int(now * 1000) * 1000)

    async def forget(self) -> None:
        await self._client().flushdb()


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_in_redis(redis: RedisServer, runner: asyncio.Runner) -> None:
    """The same in Redis, in Lua."""
    clocked = ClockedRedis(redis.url, namespace="clocked", timeout=30)

    class InRedis(Counting):
        loop = runner
        store = clocked

        def __init__(self) -> None:
            super().__init__()
            self.run(clocked.forget())
            self.run(self.tell_time())

        async def tell_time(self) -> None:
            await clocked.tell(self.clock.now)

    run_state_machine_as_test(
        InRedis, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS)
    )
    InRedis.report()
    runner.run(clocked.aclose())
