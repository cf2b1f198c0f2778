"""A million distinct visitors: what they cost in memory and in Redis.

`python -m benchmarks.visitors` takes some minutes, so `make bench` leaves it out.
"""

import asyncio
import resource
import sys
from typing import Any

from benchmarks.servers import running_redis
from xuna_middleware import MemoryStore, RedisStore
from xuna_middleware.stores import PendingSettlement, Quota, StoreError
from xuna_middleware.stores.protocol import taken_parts

VISITORS = 1_000_000
NOTED = 60_000
BOUND = 100_000
AT_ONCE = 64

QUOTAS = (
    Quota(field="aaaaaaaa", most=10, amount=1, seconds=3600, kind="rate"),
    Quota(field="bbbbbbbb", most=1, amount=1, seconds=1500, kind="slot"),
    Quota(field="cccccccc", most=10**7, amount=180_000, seconds=86_400, kind="time"),
)


def main() -> None:
    asyncio.run(in_memory())
    asyncio.run(in_redis())


async def in_memory() -> None:
    """Show that the store stays within its bound, and what that costs."""
    store, refused = MemoryStore(BOUND), 0
    before = _peak()
    for number in range(VISITORS):
        try:
            await store.reserve([(f"visitor-{number}", quota) for quota in QUOTAS])
        except StoreError:
            refused += 1
    grown = (_peak() - before) * 1024 / (VISITORS - refused)
    print(
        f"MemoryStore({BOUND:,}): {VISITORS:,} visitors, {VISITORS - refused:,} counted, ", end=""
    )
    print(f"{refused:,} refused, {grown:.0f} bytes a principal with three limits")


async def in_redis() -> None:
    """Count the server's memory: principals with three limits, then reservations to be settled."""
    with running_redis() as url:
        store = RedisStore(url, timeout=60, namespace="xuna")
        client: Any = store._client()
        empty = await _used(client)
        await _each(VISITORS, lambda number: _visit(store, f"visitor-{number}"))
        whole = await _used(client)
        print(
            f"Redis: {VISITORS:,} visitors, {(whole - empty) / VISITORS:.0f} bytes each, ", end=""
        )
        print(f"{await client.dbsize():,} keys, {await _lasting(client):,} without an end")
        await store.aclose()
    with running_redis() as url:
        store = RedisStore(url, timeout=60, namespace="xuna")
        client = store._client()
        await _each(NOTED, lambda number: _visit(store, f"visitor-{number}"))
        whole = await _used(client)
        await _each(NOTED, lambda number: _note(store, f"visitor-{number}"))
        noted = await _used(client)
        print(f"Redis: {NOTED:,} open reservations, {(noted - whole) / NOTED:.0f} bytes each")
        await store.aclose()


async def _visit(store: RedisStore, who: str) -> None:
    reserved = await store.reserve([(who, quota) for quota in QUOTAS])
    assert reserved.taken, "the first visit fits"


async def _note(store: RedisStore, who: str) -> None:
    wanted = [(who, QUOTAS[2])]
    reserved = await store.reserve(wanted)
    about = f'["urn:xuna-gate:visitors","{who:_<22}","support"]'
    name = f"conv_{who:_<26}"
    await store.remember(PendingSettlement(name, taken_parts(wanted, reserved), about, 9000))


async def _each(count: int, call: Any) -> None:
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await call(number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


async def _used(client: Any) -> int:
    return int((await client.info("memory"))["used_memory"])


async def _lasting(client: Any) -> int:
    space = (await client.info("keyspace"))["db0"]
    return int(space["keys"]) - int(space["expires"])


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
