"""The visitors' door in a real Redis: closed, opened, lost."""

import asyncio

import pytest

from xuna_middleware import AccessDeniedError, RedisStore
from xuna_middleware.anonymous.switch import AdmissionSwitch
from xuna_middleware.errors import UnavailableError
from xuna_middleware.stores import MergeUsage

from .contract import new_key
from .redis_server import running_redis


async def lets_in(door: AdmissionSwitch, visitor: str = "anna") -> bool:
    try:
        return await door.check(visitor)
    except AccessDeniedError:
        return False


def test_door_in_redis() -> None:
    """One process closes it for another; a Redis that lost its data, or is gone, opens nothing."""
    with running_redis() as redis:

        async def story() -> None:
            stores = [RedisStore(redis.url, namespace="door") for _ in range(2)]
            one, other = (AdmissionSwitch(store) for store in stores)
            assert await lets_in(one)
            await one.pause()
            assert not await lets_in(other)
            key = stores[0]._keys.principal("switches/entrance")
            assert int(redis.command("PTTL", key)[1:]) > 99 * 366 * 86_400_000
            redis.command("FLUSHALL")
            assert not await lets_in(other), "it saw that it was closed"
            assert not await lets_in(one)
            await other.resume()
            await other.resume()
            assert await lets_in(one)
            await one.pause()
            await one.pause()
            assert not await lets_in(other)
            await one.resume()
            assert await lets_in(other)
            visitor = new_key()
            assert await one.leave(visitor, MergeUsage(visitor, new_key(), 60), 60)
            assert not await lets_in(other, visitor)
            redis.kill()
            with pytest.raises(UnavailableError):
                await other.check("anna")
            for store in stores:
                await store.aclose()

        asyncio.run(story())
