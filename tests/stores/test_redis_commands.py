"""What the store changes is sent once, whatever the client would repeat."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from xuna_middleware import ConfigurationError, RedisStore
from xuna_middleware.stores import Region, StoreError

from .contract import new_key, window
from .lossy_link import LossyLink, lossy_link
from .redis_server import PASSWORD, RedisServer, running_sentinel


def eager() -> Any:
    """Return what repeats a command three times, at once."""
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return Retry(NoBackoff(), 3)


def plain(port: int) -> Any:
    from redis.asyncio import Redis

    return Redis(host="127.0.0.1", port=port, password=PASSWORD, retry=eager())


def single(port: int) -> Any:
    from redis.asyncio import Redis

    options: dict[str, Any] = {"single_connection_client": True, "retry": eager()}
    return Redis(host="127.0.0.1", port=port, password=PASSWORD, **options)


def clustered(port: int) -> Any:
    from redis.asyncio import RedisCluster

    return RedisCluster(
        host="127.0.0.1",
        port=port,
        password=PASSWORD,
        retry=eager(),
        address_remap=lambda _: ("127.0.0.1", port),
    )


CLIENTS: Final = {"redis": plain, "single connection": single, "cluster": clustered}


@asynccontextmanager
async def a_way(
    kind: str, redis: RedisServer, cluster: RedisServer
) -> AsyncIterator[tuple[LossyLink, Any]]:
    """Open a link to a server, and a client of one's own at its other end."""
    server = cluster if kind == "cluster" else redis
    async with lossy_link(server.port) as link:
        client = CLIENTS[kind](link.port)
        try:
            yield link, client
        finally:
            await client.aclose()


@pytest.mark.parametrize("kind", CLIENTS)
async def test_reservation_is_made_once(
    kind: str, redis: RedisServer, cluster: RedisServer
) -> None:
    """Nobody knows whether it was: it is refused, and counts at most once."""
    async with a_way(kind, redis, cluster) as (link, client):
        store, wanted = (
            RedisStore(client=client, timeout=10, namespace="xuna"),
            [(new_key(), window(9))],
        )
        assert (await store.reserve(wanted)).taken
        link.lose("EVALSHA")
        with pytest.raises(StoreError):
            await store.reserve(wanted)
        assert link.has_lost
        assert (await store.look(wanted))[0].left == 7


@pytest.mark.parametrize("kind", CLIENTS)
async def test_ticket_is_taken_once(kind: str, redis: RedisServer, cluster: RedisServer) -> None:
    """That it was there isn't forgotten in favour of the answer to a second try."""
    async with a_way(kind, redis, cluster) as (link, client):
        store, key = RedisStore(client=client, timeout=10, namespace="xuna"), new_key()
        await store.put(key, b"ticket", 60, Region.TICKETS)
        link.lose("GETDEL")
        with pytest.raises(StoreError):
            await store.take(key)
        assert link.has_lost
        assert await store.take(key) is None


@pytest.mark.parametrize("kind", CLIENTS)
async def test_proof_is_kept_once(kind: str, redis: RedisServer, cluster: RedisServer) -> None:
    """Its owner isn't told that somebody used it before."""
    async with a_way(kind, redis, cluster) as (link, client):
        store, key = RedisStore(client=client, timeout=10, namespace="xuna"), new_key()
        await store.take(key)
        link.lose("SET")
        with pytest.raises(StoreError):
            await store.put(key, b"", 60, Region.TICKETS)
        assert link.has_lost
        assert await store.put(key, b"", 60, Region.TICKETS) is False


@pytest.mark.parametrize("kind", CLIENTS)
async def test_own_commands_are_repeated_as_before(
    kind: str, redis: RedisServer, cluster: RedisServer
) -> None:
    """What the client's owner sends is the owner's: it is sent again, which counts twice here."""
    async with a_way(kind, redis, cluster) as (link, client):
        store, key = RedisStore(client=client, timeout=10, namespace="xuna"), new_key()
        await store.put(key, b"1", 60, Region.TICKETS)
        link.lose("INCRBY")
        assert await client.incr("{xuna}:" + key) == 3
        assert link.has_lost


async def test_through_sentinel(redis: RedisServer, tmp_path: Path) -> None:
    """A client that asks a sentinel where the server is."""
    from redis import asyncio as aioredis

    make: Any = aioredis.Sentinel
    async with lossy_link(redis.port) as link:
        with running_sentinel(tmp_path, link.port) as port:
            watched = make([("127.0.0.1", port)])
            client = watched.master_for("ours", password=PASSWORD, retry=eager())
            store, wanted = (
                RedisStore(client=client, timeout=10, namespace="xuna"),
                [(new_key(), window(9))],
            )
            assert (await store.reserve(wanted)).taken
            link.lose("EVALSHA")
            with pytest.raises(StoreError):
                await store.reserve(wanted)
            assert (await store.look(wanted))[0].left == 7
            await client.aclose()
            for each in watched.sentinels:
                await each.aclose()


def test_client_of_another_kind() -> None:
    """It is refused when the store is built, since nobody knows what it repeats."""
    client: Any = object()
    with pytest.raises(ConfigurationError, match="twice"):
        RedisStore(client=client, namespace="xuna")
