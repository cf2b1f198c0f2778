"""Counting in any order, beside a model that keeps one flat list, on both stores.

`STATEFUL_EXAMPLES=2000 pytest tests/stores/test_counting_machine.py` makes 100,000 steps on each.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from typing import Any, Final, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from xuna_middleware import MemoryStore, Move, Note, Part, Quota, RedisStore, Store
from xuna_middleware.stores import redis as redis_module
from xuna_middleware.stores.protocol import taken_parts

from .redis_server import RedisServer

EXAMPLES: Final = int(os.environ.get("STATEFUL_EXAMPLES", "40"))
STEPS: Final = 50

QUOTAS: Final = (
    Quota(field="few", most=3, amount=1, seconds=10, kind="rate"),
    Quota(field="many", most=8, amount=1, seconds=100, kind="rate"),
    Quota(field="talk", most=1000, amount=400, seconds=50, kind="time"),
    Quota(field="two", most=2, amount=1, seconds=20, kind="slot"),
    Quota(field="off", most=0, amount=0, seconds=10, kind="rate"),
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


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Counting(RuleBasedStateMachine):
    """Take, give back, settle, sign in, and let time pass. Subclasses say on which store."""

    store: Store
    loop: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        #: (principal, field, end) → amount
        self.model: dict[tuple[str, str, int], int] = {}
        self.is_now: dict[str, str] = {}
        self.taken: list[tuple[Part, ...]] = []
        self.notes: dict[str, tuple[Part, ...]] = {}
        self.noted = 0

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

    @rule(wanted=wants, note=st.booleans())
    def reserve(self, wanted: list[tuple[str, Quota]], note: bool) -> None:
        # Two names of one person would count twice in one go, which no gate asks for.
        wanted = list({(self.is_now.get(w, w), q.field): (w, q) for w, q in wanted}.values())
        reserved = self.run(self.store.reserve(wanted))
        fits = all(q.most - sum(self.used(w, q.field).values()) >= q.amount for w, q in wanted)
        assert reserved.taken is fits
        if fits:
            self.take(wanted)
            parts = taken_parts(wanted, reserved)
            (self.remember if note else self.taken.append)(parts)
        told = [level.left for level in reserved.levels]
        assert told == [q.most - sum(self.used(w, q.field).values()) for w, q in wanted]

    def take(self, wanted: list[tuple[str, Quota]]) -> None:
        for who, quota in wanted:
            ends = self.now + int(quota.seconds * 1000)
            if quota.kind == "slot":
                step = int(quota.seconds * 1000) // 50
                ends = -(-ends // step) * step
            else:
                ends = max(self.used(who, quota.field), default=ends)
            if quota.amount:
                key = (self.is_now.get(who, who), quota.field, ends)
                self.model[key] = self.model.get(key, 0) + quota.amount

    def remember(self, parts: tuple[Part, ...]) -> None:
        self.noted += 1
        name = f"conv_{id(self)}_{self.noted}"
        self.run(self.store.remember(Note(name, parts, name, FOREVER)))
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
        self.run(self.store.reserve([(person, QUOTAS[4])], Move(visitor, person, FOREVER)))
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

    @rule(seconds=st.sampled_from([0.001, 0.4, 5.0, 9.999, 10.0, 20.4, 50.0, 101.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.run(self.tell_time())

    async def tell_time(self) -> None:
        """Let the store know what time it is, where it can't ask."""

    @invariant()
    def stands_where_the_model_stands(self) -> None:
        wanted = [(who, quota) for who in PEOPLE for quota in QUOTAS[:4]]
        levels = self.run(self.store.look(wanted))
        for (who, quota), level in zip(wanted, levels, strict=True):
            used = self.used(who, quota.field)
            assert level.left == quota.most - sum(used.values()), (who, quota.field)
            assert level.seconds == pytest.approx((min(used) - self.now) / 1000 if used else 0)


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
    runner.run(clocked.aclose())
