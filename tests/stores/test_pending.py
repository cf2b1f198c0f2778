"""Which open reservations a refusal tells of, in memory and in Redis by the same clock."""

from collections.abc import AsyncIterator

import pytest

from xuna_middleware import MemoryStore
from xuna_middleware.stores import PendingSettlement
from xuna_middleware.stores.pending import MOST_LISTED, told
from xuna_middleware.stores.protocol import taken_parts

from .contract import new_key, noted, slots
from .redis_server import RedisServer
from .test_counting_machine import Clock, ClockedRedis

DAY = 86_400


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 64, 65, 100, 1000])
def test_all_are_told_of_in_turn(count: int) -> None:
    """The oldest always, each of the others in some turn, never more than 64 at once."""
    names = [f"n{number}" for number in range(count)]
    seen: set[str] = set()
    for turn in range(-(-count // 32)):
        now_told = told(names, turn * 5_000)
        assert now_told[:32] == names[:32]
        assert len(now_told) == len(set(now_told)) <= 64
        assert told(names, turn * 5_000 + 4_999) == now_told
        seen.update(now_told)
    assert seen == set(names)


@pytest.fixture
async def clocked(redis: RedisServer) -> AsyncIterator[ClockedRedis]:
    store = ClockedRedis(redis.url, namespace="clocked")
    await store.forget()
    yield store
    await store.forget()
    await store.aclose()


@pytest.mark.parametrize("count", [8, 9, 32, 33, 40, 41, 64, 65, 200])
async def test_both_stores_tell_of_the_same(clocked: ClockedRedis, count: int) -> None:
    """Whatever the time, whichever were settled meanwhile."""
    clock, person = Clock(), new_key()
    memory, wanted = MemoryStore(monotonic=clock), [(person, slots(count, seconds=DAY))]
    await clocked.tell(clock.now)
    names = await noted(memory, wanted, count, seconds=DAY)
    for name in names:
        reserved = await clocked.reserve(wanted)
        note = PendingSettlement(name, taken_parts(wanted, reserved), "about", DAY)
        await clocked.remember(note)
    for turn in range(7):
        clock.now += 5
        await clocked.tell(clock.now)
        both = [(await store.reserve(wanted)).open_notes for store in (memory, clocked)]
        assert both[0] == both[1]
        name = both[0][turn * 5 % len(both[0])]
        for store in (memory, clocked):
            assert await store.settle(name, 0) == "about"
            await store.reserve(wanted)  # takes the slot again, with no note


async def test_no_more_than_so_many_are_listed(clocked: ClockedRedis) -> None:
    """Those that come when it is full aren't; when some leave, others are again."""
    await clocked.tell(1_000_000)
    memory, person = MemoryStore(10**6), new_key()
    wanted = [(person, slots(2 * MOST_LISTED, seconds=DAY))]
    await noted(memory, wanted, MOST_LISTED + 2, seconds=DAY)
    assert len(memory._principals[person].notes) == MOST_LISTED
    names = await noted(clocked, wanted, 9, seconds=DAY)
    client, more = clocked._client(), clocked._keys.principal(person) + "~"
    await client.rpush(more, *["x"] * (MOST_LISTED - 9))
    assert await client.llen(more) == MOST_LISTED - 8
    await noted(clocked, wanted, 2, seconds=DAY)
    assert await client.llen(more) == MOST_LISTED - 8
    await clocked.settle(names[0], 0)
    await noted(clocked, wanted, 1, seconds=DAY)
    assert await client.llen(more) == MOST_LISTED - 8


async def test_long_lists_end(clocked: ClockedRedis) -> None:
    """With the last of their notes."""
    clock, person = Clock(), new_key()
    await clocked.tell(clock.now)
    wanted = [(person, slots(20, seconds=DAY))]
    await noted(clocked, wanted, 20, seconds=60)
    left = await clocked._client().pttl(clocked._keys.principal(person) + "~")
    assert 50_000 < left <= 60_000
