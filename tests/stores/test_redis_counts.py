"""Counting in a real Redis that is slow, dies, forgets or takes no writes; and many processes."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest

from xuna_middleware import RedisStore
from xuna_middleware.stores import Quota, StoreError
from xuna_middleware.stores.protocol import taken_parts

from .contract import new_key, slots, window
from .redis_server import RedisServer

#: How often exactness is tried; 20 is what docs/limits.md reports.
RUNS: Final = int(os.environ.get("EXACTNESS_RUNS", "1"))
PROCESSES: Final = int(os.environ.get("EXACTNESS_PROCESSES", "4"))
REQUESTS: Final = int(os.environ.get("EXACTNESS_REQUESTS", "1000"))

#: Each of several processes asks so often, 200 at once, of limits of 50, 500 and 5,000, and prints
#: how often it got each.
RIVAL: Final = """
import asyncio, json, sys
from xuna_middleware import RedisStore
from xuna_middleware.stores import Quota
url, run, requests = sys.argv[1], sys.argv[2], int(sys.argv[3])
MOST = (50, 500, 5000)
async def main():
    store = RedisStore(url, timeout=50, namespace="xuna")
    got, at_once = {most: 0 for most in MOST}, asyncio.Semaphore(200)
    async def ask(most):
        quota = Quota(field="w", most=most, amount=1, seconds=600, kind="rate")
        slot = Quota(field="s", most=2 * most, amount=1, seconds=600, kind="slot")
        wanted = [(f"{run}-{most}", quota), (f"{run}-slot-{most}", slot)]
        async with at_once:
            reserved = await store.reserve(wanted)
        got[most] += reserved.taken
    sys.stdin.readline()
    await asyncio.gather(*(ask(MOST[n % 3]) for n in range(requests)))
    print(json.dumps(got))
    await store.aclose()
asyncio.run(main())
"""


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url, namespace="xuna")
    yield store
    await store.aclose()


@pytest.mark.parametrize("run", range(RUNS))
async def test_exactly_as_many_across_processes(redis: RedisServer, run: int) -> None:
    """Several processes ask in parallel; exactly as many get it as there are."""
    outputs = await rivals(redis, new_key(), REQUESTS)
    asked = REQUESTS // 3 * PROCESSES
    for most in (50, 500, 5000):
        got = sum(json.loads(output)[str(most)] for output in outputs)
        assert got == most if asked >= most else asked - PROCESSES <= got <= asked + PROCESSES


async def rivals(redis: RedisServer, run: str, requests: int) -> Sequence[bytes]:
    """Run several processes that begin at once; return what they printed."""
    command = [sys.executable, "-c", RIVAL, redis.url, run, str(requests)]
    started = [
        await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    outputs = await asyncio.gather(*(each.communicate(b"go\n") for each in started))
    return [output for output, _ in outputs]


async def test_killed_worker_gives_its_slots_back_in_time(redis: RedisServer) -> None:
    """kill -9 between reservation and credential: the slot ends by itself, when it was to end."""
    key = new_key()
    script = (
        "import asyncio, os, signal, sys\n"
        "from xuna_middleware import RedisStore\nfrom xuna_middleware.stores import Quota\n"
        "async def main():\n"
        "    quota = Quota(field='s', most=1, amount=1, seconds=0.3, kind='slot')\n"
        "    store = RedisStore(sys.argv[1], namespace='xuna')\n"
        "    reserved = await store.reserve([(sys.argv[2], quota)])\n"
        "    assert reserved.taken\n"
        "    print('reserved', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, redis.url, key, stdout=subprocess.PIPE
    )
    output, _ = await worker.communicate()
    assert output == b"reserved\n"
    assert worker.returncode == -9
    store = RedisStore(redis.url, namespace="xuna")
    began = asyncio.get_running_loop().time()
    while not (await store.reserve([(key, slots(1, seconds=0.3))])).taken:
        assert asyncio.get_running_loop().time() - began < 0.3 * 1.02 + 5
    await store.aclose()


async def test_one_round_trip(store: RedisStore, redis: RedisServer) -> None:
    """Any number of limits and principals is one command, a look and a settlement as well."""
    wanted = [(new_key(), window(9)), (new_key(), slots(9)), (new_key(), window(9, field="x"))]
    await store.reserve(wanted)
    await store.look(wanted)
    before = {name: redis.calls(name) for name in ("evalsha", "eval", "hget")}
    for _ in range(5):
        assert (await store.reserve(wanted)).taken
        await store.look(wanted)
    assert redis.calls("evalsha") - before["evalsha"] == 10
    assert redis.calls("eval") == before["eval"]


async def test_keys_end_with_their_windows(store: RedisStore, redis: RedisServer) -> None:
    """Nothing is kept longer than it counts."""
    await store.reserve([(new_key(), window(9, seconds=30)), (new_key(), slots(9, seconds=30))])
    client = store._client()
    for key in await client.keys("{xuna}:*"):
        left = await client.pttl(key)
        assert left != -1, key


async def test_what_is_given_back_prolongs_nothing(store: RedisStore, redis: RedisServer) -> None:
    """A day's limit that was given back leaves the hour's to its hour."""
    who, client = new_key(), store._client()
    before = set(await client.keys("*"))
    await store.reserve([(who, window(9, seconds=3600))])
    (key,) = set(await client.keys("*")) - before
    daily = [(who, window(9, field="daily", seconds=86_400))]
    reserved = await store.reserve(daily)
    assert await client.pttl(key) > 80_000_000
    await store.give_back(taken_parts(daily, reserved))
    assert 3_000_000 < await client.pttl(key) <= 3_600_000
    (level,) = await store.look([(who, window(9, seconds=3600))])
    assert level.left == 8


async def test_redis_that_answers_late(store: RedisStore, redis: RedisServer) -> None:
    """Whoever asked was refused meanwhile, so what was taken for them is given back."""
    impatient, key = RedisStore(redis.url, timeout=0.1, namespace="xuna"), new_key()
    assert (await impatient.look([(key, window(9))]))[0].left == 9
    redis.command("CLIENT", "PAUSE", "500")
    with pytest.raises(StoreError):
        await impatient.reserve([(key, window(9))])
    async with asyncio.timeout(10):
        while impatient._background:
            await asyncio.wait(set(impatient._background))
    assert (await store.look([(key, window(9))]))[0].left == 9
    await impatient.aclose()


async def test_cancelled_while_it_is_asked(store: RedisStore, redis: RedisServer) -> None:
    """The command may have been carried out: it is given back when the answer comes."""
    key = new_key()
    await store.look([(key, window(9))])
    redis.command("CLIENT", "PAUSE", "200")
    asking = asyncio.ensure_future(store.reserve([(key, window(9))]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(10):
        while store._background:
            await asyncio.wait(set(store._background))
    assert (await store.look([(key, window(9))]))[0].left == 9


async def test_redis_dies_and_comes_back_empty(redis: RedisServer) -> None:
    """While it is away nothing is issued; what it lost can be spent again, and no more."""
    store, wanted = RedisStore(redis.url, namespace="xuna"), [(new_key(), window(3))]
    assert [(await store.reserve(wanted)).taken for _ in range(4)] == [True, True, True, False]
    redis.kill()
    try:
        for verb in (store.reserve(wanted), store.look(wanted), store.settle("conv_1", 0)):
            with pytest.raises(StoreError):
                await verb
    finally:
        redis.start()
    assert [(await store.reserve(wanted)).taken for _ in range(4)] == [True, True, True, False]
    await store.aclose()


async def test_redis_dies_in_mid_traffic(redis: RedisServer) -> None:
    """Every request gets an answer or an error, and afterwards the limits hold."""
    store, key = RedisStore(redis.url, namespace="xuna"), new_key()
    asking = [asyncio.ensure_future(store.reserve([(key, window(50))])) for _ in range(200)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    redis.kill()
    try:
        told = await asyncio.gather(*asking, return_exceptions=True)
    finally:
        redis.start()
    taken = [each for each in told if not isinstance(each, BaseException) and each.taken]
    assert len(taken) <= 50
    assert {type(each) for each in told if isinstance(each, BaseException)} <= {StoreError}
    again = [await store.reserve([(key, window(50))]) for _ in range(51)]
    assert [each.taken for each in again].count(True) == 50
    await store.aclose()


async def test_redis_that_turned_read_only(redis: RedisServer) -> None:
    """A replica after a failover: refused, and nothing is half done."""
    store, wanted = (
        RedisStore(redis.url, namespace="xuna"),
        [(new_key(), window(3)), (new_key(), window(3))],
    )
    await store.reserve(wanted)
    redis.command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreError):
            await store.reserve(wanted)
    finally:
        redis.command("REPLICAOF", "NO", "ONE")
    assert [level.left for level in await store.look(wanted)] == [2, 2]
    await store.aclose()


async def test_redis_without_memory(store: RedisStore, redis: RedisServer) -> None:
    """It refuses to write, and so nothing is taken."""
    wanted = [(new_key(), window(3)), (new_key(), window(3))]
    await store.look(wanted)
    redis.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreError):
            await store.reserve(wanted)
    finally:
        redis.command("CONFIG", "SET", "maxmemory", "0")
    assert [level.left for level in await store.look(wanted)] == [3, 3]


async def test_script_that_redis_forgot(store: RedisStore, redis: RedisServer) -> None:
    """After a restart, or SCRIPT FLUSH, it is sent again."""
    wanted = [(new_key(), window(3))]
    await store.reserve(wanted)
    redis.command("SCRIPT", "FLUSH")
    assert (await store.reserve(wanted)).levels[0].left == 1


@pytest.mark.parametrize("jump", [-3600, -30, 3600])
async def test_clock_that_jumps(redis: RedisServer, jump: float) -> None:
    """Back: nobody waits longer than a window, nothing is spent twice. Ahead: windows end."""
    from .test_counting_machine import ClockedRedis

    store, quota = (
        ClockedRedis(redis.url, namespace="clocked"),
        Quota(field="w", most=2, amount=1, seconds=60, kind="rate"),
    )
    wanted = [(new_key(), quota)]
    await store.tell(1_000_000)
    assert [(await store.reserve(wanted)).taken for _ in range(3)] == [True, True, False]
    await store.tell(1_000_000 + jump)
    refused = await store.reserve(wanted)
    assert refused.taken is (jump > 0)
    assert refused.levels[0].seconds <= 60
    if jump < 0:
        await store.tell(1_000_000 + jump + 59)
        assert not (await store.reserve(wanted)).taken
        await store.tell(1_000_000 + jump + 60)
        assert (await store.reserve(wanted)).taken
    await store.aclose()


@pytest.mark.parametrize(
    ("policy", "told"), [("allkeys-lru", True), ("volatile-ttl", True), ("noeviction", False)]
)
async def test_policy_that_could_evict(
    redis: RedisServer, policy: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported when the gate starts, with the fix."""
    store = RedisStore(redis.url, namespace="xuna")
    redis.command("CONFIG", "SET", "maxmemory-policy", policy)
    try:
        with caplog.at_level(logging.WARNING, "xuna_middleware"):
            store.start()
            await asyncio.wait(set(store._background))
    finally:
        redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert (f"maxmemory-policy {policy}" in caplog.text) is told
    await store.aclose()


async def test_start_without_redis(caplog: pytest.LogCaptureFixture) -> None:
    """A gate starts all the same; each request is told that the store is away."""
    store = RedisStore("redis://127.0.0.1:1/0", timeout=0.5, namespace="xuna")
    store.start()
    await asyncio.wait(set(store._background))
    assert "Task exception" not in caplog.text
    await store.aclose()


async def test_bytes_of_principals_and_reservations(store: RedisStore, redis: RedisServer) -> None:
    """A principal with three limits, and a reservation that can be settled: 300 bytes each."""
    from xuna_middleware import Identity
    from xuna_middleware.issuing.settlement import about_whom
    from xuna_middleware.stores import PendingSettlement
    from xuna_middleware.stores.protocol import taken_parts

    person = new_key()
    wanted: list[Any] = [
        (person, window(9, field="8kfJ2a")),
        (person, slots(9, seconds=1500, field="Xa91_-")),
        (person, Quota(field="0aKd73", most=10**7, amount=600_000, seconds=86_400, kind="time")),
    ]
    reserved = await store.reserve(wanted)
    client = store._client()
    principal = await client.memory_usage(store._keys.principal(person)) or 0
    who = Identity(issuer="https://acme.eu.auth0.com/", subject="auth0|" + "5" * 24)
    about = about_whom(who, "support")
    await store.remember(
        PendingSettlement("conv_" + "x" * 26, taken_parts(wanted, reserved)[1:], about, 60)
    )
    note = await client.memory_usage(store._keys.note("conv_" + "x" * 26)) or 0
    grown = (await client.memory_usage(store._keys.principal(person)) or 0) - principal
    print(principal, note, grown)
    assert principal <= 300
    assert note + grown <= 300
