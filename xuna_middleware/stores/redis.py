"""A store in Redis or Valkey, shared by all processes of a gate. The one place with redis-py.

- One command for each verb, so each is atomic: `SET … NX PX` and `GETDEL` (Redis 6.2).
- A pool that waits rather than fails when many ask at once, one for each event loop.
- What goes wrong becomes a `StoreError` in fixed words: addresses hold passwords.
"""

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.protocol import StoreError

if TYPE_CHECKING:
    from redis.asyncio import Redis

_CONNECTIONS: Final = 16
_MISSING: Final = 'RedisStore needs redis-py: pip install "xuna-middleware[redis]"'

T = TypeVar("T")


class RedisStore:
    """Keep values in Redis or Valkey.

    Args:
        url: `redis://…`, `rediss://…` (TLS) or `unix://…`, with user, password and database in it.
        client: a `redis.asyncio.Redis` of your own instead (sentinel, cluster, TLS of your own);
            it belongs to the event loop that uses it, and you close it.
        namespace: what all keys begin with; gates that share a Redis and nothing else differ in it.
            It stands in braces, so that all keys of a gate live on one node of a cluster.
        timeout: seconds for one command, connecting included.

    Does not check: that the server keeps what it was told (`maxmemory-policy`, replicas).

    Raises:
        ConfigurationError: redis-py is missing, or an option makes no sense.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "Redis | None" = None,
        namespace: str = "xuna",
        timeout: float = 1.0,
    ) -> None:
        if (url is None) == (client is None):
            raise ConfigurationError('give RedisStore either a url="redis://…" or a client=…')
        if not isinstance(namespace, str) or not namespace.isidentifier():
            raise ConfigurationError('RedisStore(namespace=…) must be a plain word, like "xuna"')
        if type(timeout) not in (int, float) or not 0 < timeout <= 60:
            raise ConfigurationError("RedisStore(timeout=…) must be seconds, more than 0, up to 60")
        self._url = url
        self._given = client
        self._prefix = f"{{{namespace}}}:"
        self._timeout = timeout
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()
        if url is not None:
            self._connected()  # a mistake in the address is told now

    def __repr__(self) -> str:
        return f"RedisStore(namespace={self._prefix[1:-2]!r})"

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless the key is there; see `Store`."""
        lasting = max(1, round(seconds * 1000))
        answer = await self._asked(
            self._client().set(self._prefix + key, value, nx=True, px=lasting)
        )
        return bool(answer)

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; see `Store`."""
        answer = await self._asked(self._client().getdel(self._prefix + key))
        return answer if isinstance(answer, bytes | None) else str(answer).encode()

    async def aclose(self) -> None:
        """Close the connections that this store opened in the running event loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> "Redis":
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._connected()
        return self._clients[loop]

    def _connected(self) -> "Redis":
        """Return a client that connects when it is first asked.

        Raises:
            ConfigurationError: redis-py is missing, or the address is none. It isn't repeated.
        """
        try:
            from redis.asyncio import BlockingConnectionPool, Redis
        except ImportError:
            raise ConfigurationError(_MISSING) from None
        try:
            pool = BlockingConnectionPool.from_url(
                self._url or "",
                max_connections=_CONNECTIONS,
                timeout=self._timeout,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
            )
        except (ValueError, TypeError):
            raise ConfigurationError(
                'RedisStore: the url must be like "redis://:password@host:6379/0"'
            ) from None
        return Redis.from_pool(pool)

    async def _asked(self, answer: Awaitable[T]) -> T:
        """Wait for one answer, for as long as `timeout` says.

        A command that may have been carried out counts as failed: the caller refuses.
        """
        failure: str | None = None
        result: Any = None
        try:
            async with asyncio.timeout(self._timeout):
                result = await answer
        except Exception as error:  # redis-py's, OSError, TimeoutError; their texts name addresses
            failure = type(error).__name__
        if failure is not None:
            raise StoreError(f"the store does not answer ({failure})")
        return result  # type: ignore[no-any-return]
