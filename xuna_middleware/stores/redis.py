"""A store in Redis or Valkey, shared by all processes of a gate. The one place with redis-py.

- One command for each verb, so each is atomic and one round trip: `SET … NX PX`, `GETDEL`
  (Redis 6.2), and for counting the scripts of `scripts.py`.
- A pool that waits rather than fails when many ask at once, one for each event loop.
- What goes wrong becomes a `StoreError` in fixed words: addresses hold passwords.
- Nothing is sent twice: a command whose answer was lost may have been carried out. What a
  reservation took for somebody who didn't wait for the answer is given back when that comes late.
"""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Awaitable, Sequence
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores import scripts
from xuna_middleware.stores.protocol import (
    Level,
    Move,
    Note,
    Part,
    Quota,
    Reserved,
    StoreError,
    Wanted,
    taken_parts,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger("xuna_middleware")

_CONNECTIONS: Final = 16
#: Seconds for which the answer to a reservation is waited for after whoever asked has gone.
_LATE: Final = 10.0
#: A policy under which Redis forgets nothing that was promised to last.
_KEEPS: Final = "noeviction"
_MISSING: Final = 'RedisStore needs redis-py: pip install "xuna-middleware[redis]"'

T = TypeVar("T")


class RedisStore:
    """Keep values and counts in Redis or Valkey.

    Each principal is one hash whose key is a digest, so no name of a person stands in Redis. When
    the gate starts, a server that may evict keys under pressure is reported with a WARNING: limits
    would be forgotten.

    Args:
        url: `redis://…`, `rediss://…` (TLS) or `unix://…`, with user, password and database in it.
        client: a `redis.asyncio.Redis` of your own instead (sentinel, cluster, TLS of your own);
            it belongs to the event loop that uses it, and you close it.
        namespace: what all keys begin with; gates that share a Redis and nothing else differ in it.
            It stands in braces, so that all keys of a gate live on one node of a cluster.
        timeout: seconds for one command, connecting included.

    Does not check: that the server keeps what it was told. After a crash without persistence, or
    a failover to a replica that lagged behind, the counts that are lost can be spent again.

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
        self._background: set[asyncio.Task[Any]] = set()
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

    async def reserve(self, wanted: Sequence[Wanted], move: Move | None = None) -> Reserved:
        """Take of every quota or of none; see `Store`."""
        asking = asyncio.ensure_future(self._reserved(wanted, move, taking=True))
        try:
            done, _ = await asyncio.wait((asking,), timeout=self._timeout)
        except asyncio.CancelledError:
            self._give_back_when_late(asking, wanted)
            raise
        if not done:
            self._give_back_when_late(asking, wanted)
            raise StoreError("the store does not answer (TimeoutError)")
        failure = asking.exception()
        if failure is not None:
            raise StoreError(f"the store does not answer ({type(failure).__name__})") from None
        return asking.result()

    async def look(self, wanted: Sequence[Wanted]) -> tuple[Level, ...]:
        """Return where quotas stand; see `Store`."""
        return (await self._asked(self._reserved(wanted, None, taking=False))).levels

    async def give_back(self, parts: Sequence[Part]) -> None:
        """Give back what was taken; see `Store`."""
        keys = [self._principal(part.principal) for part in parts]
        named = chain.from_iterable((part.field, part.mark, part.amount) for part in parts)
        await self._asked(self._run(_GIVE_BACK, keys, tuple(named)))

    async def remember(self, note: Note) -> None:
        """Keep a note; see `Store`."""
        principals = dict.fromkeys(part.principal for part in note.parts)
        text = "\n".join([note.about, *(_line(who, note.parts) for who in principals)])
        keys = [self._note(note.name), *map(self._principal, principals)]
        lasting = max(1, round(note.seconds * 1000))
        await self._asked(self._run(_REMEMBER, keys, (note.name, text, lasting)))

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        arguments = (name, milliseconds, self._prefix)
        about = await self._asked(self._run(_SETTLE, [self._note(name)], arguments))
        return about.decode() if isinstance(about, bytes) else about

    def start(self) -> None:
        """Look, beside all else, whether the server may forget what it was told."""
        self._beside(self._report_eviction())

    async def aclose(self) -> None:
        """Close the connections that this store opened in the running event loop."""
        mine = [task for task in self._background if task.get_loop() is asyncio.get_running_loop()]
        if mine:
            _, pending = await asyncio.wait(mine, timeout=self._timeout)
            for task in pending:
                task.cancel()
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    async def _reserved(
        self, wanted: Sequence[Wanted], move: Move | None, *, taking: bool
    ) -> Reserved:
        principals = list(dict.fromkeys([principal for principal, _ in wanted]))
        quotas = [
            f"{principals.index(principal) + 1} {_written(quota)}" for principal, quota in wanted
        ]
        remembered = 0
        if move is not None:
            principals += move.visitor, move.person
            remembered = max(1, round(move.seconds * 1000))
        keys = list(map(self._principal, principals))
        wishes = "\n".join([f"{taking:d} {remembered}", *quotas, ""])
        return _read(await self._run(_RESERVE, keys, (wishes,)))

    async def _run(self, script: "_Script", keys: list[str], arguments: tuple[Any, ...]) -> Any:
        client: Any = self._client()
        try:
            return await client.evalsha(script.digest, len(keys), *keys, *arguments)
        except Exception as error:
            if type(error).__name__ != "NoScriptError":
                raise
        # A server that just started: it keeps the script from now on.
        return await client.eval(script.text, len(keys), *keys, *arguments)

    def _principal(self, name: str) -> str:
        return self._prefix + _digest(name)

    def _note(self, name: str) -> str:
        return f"{self._prefix}note:{name}"

    def _give_back_when_late(
        self, asking: asyncio.Task[Reserved], wanted: Sequence[Wanted]
    ) -> None:
        async def late() -> None:
            async with asyncio.timeout(_LATE):
                reserved = await asking
            if reserved.taken:
                await self.give_back(taken_parts(wanted, reserved))

        self._beside(late())

    def _beside(self, story: Any) -> None:
        task = asyncio.get_running_loop().create_task(story)
        self._background.add(task)
        task.add_done_callback(partial(_forget, self._background))

    async def _report_eviction(self) -> None:
        told: Any = await self._asked(self._client().info("memory"))
        policy = told.get("maxmemory_policy", _KEEPS)
        if policy != _KEEPS:
            logger.warning(
                "Redis has the maxmemory-policy %s, which lets it forget limits and used proofs "
                "when memory is short: set maxmemory-policy %s",
                policy,
                _KEEPS,
            )

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
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise ConfigurationError(_MISSING) from None
        try:
            pool = BlockingConnectionPool.from_url(
                self._url or "",
                max_connections=_CONNECTIONS,
                timeout=self._timeout,
                socket_timeout=self._timeout + _LATE,
                socket_connect_timeout=self._timeout,
                retry=Retry(NoBackoff(), 0),
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


class _Script:
    """Hold a script, and the digest by which the server knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_RESERVE: Final = _Script(scripts.RESERVE)
_GIVE_BACK: Final = _Script(scripts.GIVE_BACK)
_REMEMBER: Final = _Script(scripts.REMEMBER)
_SETTLE: Final = _Script(scripts.SETTLE)


def _digest(name: str) -> str:
    """Return 22 letters that stand for a principal, and tell nobody who that is."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def _line(principal: str, parts: Sequence[Part]) -> str:
    """Return what was taken of one principal, as short as it can be read again."""
    taken = [
        f"{part.field}:{part.mark}:{part.amount}:{part.kind[0]}"
        for part in parts
        if part.principal == principal
    ]
    return " ".join([_digest(principal), *taken])


@lru_cache(maxsize=1024)
def _written(quota: Quota) -> str:
    words = (quota.field, quota.kind, quota.most, quota.amount, quota.length, quota.step)
    return " ".join(map(str, words))


def _read(answer: bytes | str) -> Reserved:
    text = answer.decode() if isinstance(answer, bytes) else answer
    told, _, names = text.partition("\n")
    taken, *figures = map(int, told.split())
    left, waits, marks = figures[::3], figures[1::3], figures[2::3]
    levels = tuple(Level(n, wait / 1000) for n, wait in zip(left, waits, strict=True))
    if not taken:
        return Reserved(False, levels, open_notes=tuple(dict.fromkeys(names.split())))
    return Reserved(True, levels, tuple(marks))


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()  # seen: what went wrong beside a request was answered with a 503 there
