"""The store in a real Redis: the contract, several processes, and a Redis that fails."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from xuna_middleware import ConfigurationError, RedisStore
from xuna_middleware.stores import Region, StoreError

from .contract import StoreContract, new_key
from .lease_contract import LeaseContract
from .redis_server import PASSWORD, RedisServer

#: Each of several processes tries the same hundred keys and prints how often it was first.
RIVAL: Final = """
import asyncio, sys
from xuna_middleware import RedisStore
from xuna_middleware.stores import Region
async def main(url, run):
    store = RedisStore(url, namespace="xuna")
    sys.stdin.readline()
    putting = (store.put(f"{run}-{n}", b"", 60, Region.TICKETS) for n in range(100))
    told = await asyncio.gather(*putting)
    print(sum(told))
    await store.aclose()
asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


class TestRedisStore(StoreContract, LeaseContract):
    """In Redis."""

    @pytest.fixture
    async def store(self, redis: RedisServer) -> AsyncIterator[RedisStore]:
        store = RedisStore(redis.url, namespace="xuna")
        yield store
        await store.aclose()


async def test_first_of_several_processes(redis: RedisServer) -> None:
    """Four processes put the same hundred keys at once: each key is kept exactly once."""
    run = new_key()
    command = [sys.executable, "-c", RIVAL, redis.url, run]
    rivals = [
        await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(4)
    ]
    outputs = await asyncio.gather(*(rival.communicate(b"go\n") for rival in rivals))
    assert sum(int(output) for output, _ in outputs) == 100


async def test_value_ends_in_time(redis: RedisServer) -> None:
    """Redis itself forgets: the life is told in milliseconds, rounded, one at least."""
    store, key = RedisStore(redis.url, namespace="xuna"), new_key()
    await store.put(key, b"", 30, Region.TICKETS)
    left = int(redis.command("PTTL", "{xuna}:" + key)[1:])
    assert 29_000 < left <= 30_000
    short = new_key()
    await store.put(short, b"", 0.0001, Region.TICKETS)
    until = time.monotonic() + 5
    while not await store.put(short, b"", 0.0001, Region.TICKETS):
        assert time.monotonic() < until
    await store.aclose()


async def test_namespaces_are_apart(redis: RedisServer) -> None:
    """Two gates on one Redis don't see each other's keys."""
    one, other = RedisStore(redis.url, namespace="one"), RedisStore(redis.url, namespace="other")
    key = new_key()
    assert await one.put(key, b"", 60, Region.TICKETS)
    assert await other.put(key, b"", 60, Region.TICKETS)
    await one.aclose()
    await other.aclose()


async def test_client_of_ones_own(redis: RedisServer) -> None:
    """It is used as it is, one that decodes included, and left open."""
    from redis.asyncio import Redis

    client = Redis.from_url(redis.url, decode_responses=True)
    store, key = RedisStore(client=client, namespace="xuna"), new_key()
    assert await store.put(key, b"text", 60, Region.TICKETS)
    assert await store.take(key) == b"text"
    await store.aclose()
    assert await client.ping()
    await client.aclose()


def test_several_event_loops(redis: RedisServer) -> None:
    """Each loop has connections of its own; closing one leaves the others."""
    store, key = RedisStore(redis.url, namespace="xuna"), new_key()

    async def put() -> bool:
        kept = await store.put(key, b"", 60, Region.TICKETS)
        await store.aclose()
        return kept

    assert [asyncio.run(put()) for _ in range(3)] == [True, False, False]


async def test_more_at_once_than_connections(redis: RedisServer) -> None:
    """They wait for their turn; none fails."""
    store, run = RedisStore(redis.url, timeout=10, namespace="xuna"), new_key()
    told = await asyncio.gather(
        *(store.put(f"{run}-{n}", b"", 60, Region.TICKETS) for n in range(1000))
    )
    assert all(told)
    clients = redis.command("CLIENT", "LIST")
    assert clients
    await store.aclose()


async def test_redis_dies_and_comes_back(redis: RedisServer) -> None:
    """While it is away nothing is known; afterwards the same store goes on."""
    store = RedisStore(redis.url, namespace="xuna")
    assert await store.put(new_key(), b"", 60, Region.TICKETS)
    redis.kill()
    try:
        for verb in (store.put(new_key(), b"", 60, Region.TICKETS), store.take(new_key())):
            with pytest.raises(StoreError) as caught:
                await verb
            assert_tells_nothing(caught.value)
    finally:
        redis.start()
    assert await store.put(new_key(), b"", 60, Region.TICKETS)
    await store.aclose()


async def test_redis_that_takes_no_writes(redis: RedisServer) -> None:
    """A full Redis that must not evict refuses, and so does the store."""
    store = RedisStore(redis.url, namespace="xuna")
    redis.command("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreError):
            await store.put(new_key(), b"", 60, Region.TICKETS)
    finally:
        redis.command("CONFIG", "SET", "maxmemory", "0")
    assert await store.put(new_key(), b"", 60, Region.TICKETS)
    await store.aclose()


async def test_redis_that_hangs() -> None:
    """A server that accepts and never answers costs no more than the timeout."""

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    quiet = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = quiet.sockets[0].getsockname()[1]
    store = RedisStore(f"redis://:{PASSWORD}@127.0.0.1:{port}/0", timeout=0.2, namespace="xuna")
    began = time.monotonic()
    with pytest.raises(StoreError) as caught:
        await store.put("a", b"", 60, Region.TICKETS)
    assert time.monotonic() - began < 2
    assert_tells_nothing(caught.value)
    await store.aclose()
    quiet.close()
    await quiet.wait_closed()


async def test_wrong_password(redis: RedisServer) -> None:
    """A Redis that doesn't know us is a Redis that can't answer."""
    store = RedisStore(f"redis://:{PASSWORD}x@127.0.0.1:{redis.port}/0", namespace="xuna")
    with pytest.raises(StoreError) as caught:
        await store.put("a", b"", 60, Region.TICKETS)
    assert_tells_nothing(caught.value)
    await store.aclose()


@pytest.mark.parametrize(
    "options",
    [
        {"namespace": "x"},
        {"url": "http://localhost", "namespace": "x"},
        {"url": "redis://:cAnArY@localhost:port", "namespace": "x"},
        {"url": "redis://localhost", "namespace": "x", "client": object()},
        {"url": "redis://localhost", "namespace": "x", "timeout": 0},
        {"url": "redis://localhost", "namespace": "x", "timeout": float("nan")},
        {"url": "redis://localhost", "namespace": "x", "timeout": True},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """They are refused when the store is built; the address is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        RedisStore(**options)
    assert_tells_nothing(caught.value)


@pytest.mark.parametrize("kind", ["url", "client"])
@pytest.mark.parametrize(
    "namespace",
    [None, "", "a b", "A", "Acme", "1a", "-a", "_a", "a:b", "a{b", "a}b", "é", "a\n", "a" * 65, 7],
)
def test_name_of_the_gate_is_required(namespace: Any, kind: str) -> None:
    """Each gate says its name, in one plain form; the error says how to write it."""
    options: dict[str, Any] = {"namespace": namespace}
    options[kind] = "redis://:cAnArY@localhost" if kind == "url" else object()
    if namespace is None:
        del options["namespace"]
    with pytest.raises(ConfigurationError, match='namespace="acme-voice-production"') as caught:
        RedisStore(**options)
    assert_tells_nothing(caught.value)


@pytest.mark.parametrize("namespace", ["x", "acme-voice-production", "gate_2", "a" * 64])
def test_names_that_a_gate_may_have(namespace: str) -> None:
    """The store tells it again, to what signs for the gate."""
    assert RedisStore("redis://localhost", namespace=namespace).namespace == namespace


def test_without_redis_py() -> None:
    """A process that can't import redis-py is told what to install."""
    script = (
        "import sys; sys.modules['redis'] = None\n"
        "import xuna_middleware as x\n"
        "try:\n x.RedisStore('redis://localhost', namespace='xuna')\n"
        "except x.ConfigurationError as error:\n print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert b'pip install "xuna-middleware[redis]"' in told.stdout


def assert_tells_nothing(error: BaseException) -> None:
    """Check that no link of an exception holds the password."""
    link: BaseException | None = error
    while link is not None:
        assert "cAnArY" not in f"{link!r} {link}"
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
