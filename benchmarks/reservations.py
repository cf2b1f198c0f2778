"""What a reservation costs, in memory beside a raw RSA verification, in Redis beside an EVALSHA."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.harness import Contender
from benchmarks.servers import running_redis
from xuna_middleware import (
    Agent,
    Concurrent,
    Identity,
    Limit,
    MemoryStore,
    RedisStore,
    TalkTime,
    claim,
)
from xuna_middleware.access.limits.budgets import make_budget
from xuna_middleware.access.limits.keys import LimitContext
from xuna_middleware.access.limits.reservations import Stores, reserve
from xuna_middleware.stores import Quota, RevocationCheck

RESERVED = "reservation of three limits, in memory"
RESERVED_ONE = "reservation of one limit, in memory"
CALLS = 200
ROUNDS = 60
ISSUED = 1_700_000_000.0

LIMITS = (
    Limit("1000000/day"),
    Concurrent(1_000_000),
    TalkTime("900000000 minutes/day", per=claim("tenant")),
)


def in_memory() -> list[Contender]:
    """Return the rows of a reservation, all of it: whom to count, taking, and what is returned."""
    return [
        _reserving(RESERVED, LIMITS, "per subject twice, and per claim; all or none; not revoked"),
        _reserving(RESERVED_ONE, LIMITS[:1], "per subject; not revoked"),
    ]


def _reserving(name: str, limits: Sequence[Any], contains: str) -> Contender:
    agent = Agent("support", id="agent_1", max_duration=600, limits=limits)
    budget = make_budget(agent, (), 900)
    store = MemoryStore()
    stores = Stores(shared=store, fallback=store)
    asked = LimitContext(
        identity=Identity(subject="user-1", claims={"tenant": "t", "iat": ISSUED}),
        agent="support",
    )

    async def batch(_: Sequence[str]) -> float:
        started = time.process_time_ns()
        for _ in range(CALLS):
            await reserve(budget, asked, stores)
        return (time.process_time_ns() - started) / CALLS

    return Contender(name=name, contains=contains, batch=batch)


@dataclass(frozen=True, slots=True, kw_only=True)
class InRedis:
    """Hold microseconds a call, one after another on one connection, and the ratio of rounds."""

    bare: float
    reserved: float
    ratio: float


async def in_redis() -> InRedis:
    """Measure a reservation of three limits and a revocation, beside an EVALSHA that returns 1."""
    with running_redis() as url:
        store = RedisStore(url, namespace="xuna")
        client: Any = store._client()
        digest = await client.script_load("return 1")
        quotas = [
            Quota(field=name, most=10**9, amount=1, seconds=60, kind=kind)
            for name, kind in (("a", "rate"), ("b", "slot"), ("c", "time"))
        ]
        wanted = [("user-1", quotas[0]), ("user-1", quotas[1]), ("tenant-1", quotas[2])]
        standing = RevocationCheck("user-1", ISSUED)
        await store.revoke("user-1", ISSUED - 1, 3600)
        assert (await store.reserve(wanted, standing=standing)).taken
        pairs = [
            (
                await _each(lambda: client.evalsha(digest, 0)),
                await _each(lambda: store.reserve(wanted, standing=standing)),
            )
            for _ in range(ROUNDS)
        ]
        await store.aclose()
    return InRedis(
        bare=median(bare for bare, _ in pairs),
        reserved=median(reserved for _, reserved in pairs),
        ratio=median(reserved / bare for bare, reserved in pairs),
    )


async def _each(call: Callable[[], Awaitable[Any]]) -> float:
    started = time.perf_counter_ns()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter_ns() - started) / CALLS / 1000


if __name__ == "__main__":
    print(asyncio.run(in_redis()))
