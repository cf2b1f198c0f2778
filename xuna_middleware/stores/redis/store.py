"""A store in Redis or Valkey, shared by all processes of a gate. The one place with redis-py.

- One command for each verb, so each is atomic and one round trip: `SET … NX PX`, `GETDEL`
  (Redis 6.2), and for counting the scripts of `scripts.py`.
- A pool that waits rather than fails when many ask at once, one for each event loop.
- What goes wrong becomes a `StoreError` in fixed words: addresses hold passwords.
- One connection more in each event loop that waits for others to end conversations or to revoke.
- Nothing is sent twice, whatever the client (`commands.py`): a command whose answer was lost may
  have been carried out. What a reservation took for somebody who didn't wait for the answer is
  given back when that comes late.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from weakref import WeakKeyDictionary

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.namespace import checked_namespace
from xuna_middleware.stores.protocol import (
    MOST_TOLD,
    Held,
    Lease,
    Level,
    Move,
    Note,
    OverBudgetError,
    Part,
    Region,
    Reserved,
    Standing,
    StoreError,
    Wanted,
    taken_parts,
    whole,
)
from xuna_middleware.stores.redis import encoding as notation
from xuna_middleware.stores.redis import scripts
from xuna_middleware.stores.redis.commands import check_client, send_once
from xuna_middleware.stores.redis.pubsub import Listening

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger("xuna_middleware")

#: Those that ask, and one that listens.
_CONNECTIONS: Final = 16 + 1
#: Seconds for which the answer to a reservation is waited for after whoever asked has gone.
_LATE: Final = 10.0
#: A policy under which Redis forgets nothing that was promised to last.
_KEEPS: Final = "noeviction"
#: How many leases are held with one script, how many are read at once, and how many are listed.
_HELD_AT_ONCE: Final = 64
_READ_AT_ONCE: Final = 1_000
_MOST_LISTED: Final = 100_000
#: What `RESERVE` is told to do.
_LOOK, _TAKE, _MOVE = 0, 1, 2
_MISSING: Final = 'RedisStore needs redis-py: pip install "xuna-middleware[redis]"'

T = TypeVar("T")


class RedisStore:
    """Keep values and counts in Redis or Valkey.

    Each principal is one hash whose key is a digest, so no name of a person stands in Redis. When
    the gate starts, a server that may evict keys under pressure is reported with a WARNING: limits
    would be forgotten. Whose access is limited by an ACL needs the channel `{namespace}:woken`;
    without it, who ends a conversation or revokes is heard a little later.

    Args:
        url: `redis://…`, `rediss://…` (TLS) or `unix://…`, with user, password and database in it.
        client: a `redis.asyncio.Redis` of your own instead (sentinel, cluster, TLS of your own);
            it belongs to the event loop that uses it, and you close it. Whatever it retries, what
            this store changes is sent once; only reading may be repeated.
        namespace: the gate's name, such as "acme-voice-production": 1 to 64 lower-case letters,
            digits, - and _, a letter first. All keys begin with it, in braces, so that a gate lives
            on one node of a cluster. Processes of one gate say the same name, and so do gates that
            mean to share limits, revocations, sessions and tickets; any other gate on this Redis
            says another, and then neither affects the other. A new name forgets all that was kept.
        timeout: seconds for one command, connecting included.

    Does not check: that the server keeps what it was told. After a crash without persistence, or
    a failover to a replica that lagged behind, the counts that are lost can be spent again.

    Raises:
        ConfigurationError: redis-py is missing, or an option makes no sense.
    """

    @overload
    def __init__(self, url: str, *, namespace: str, timeout: float = 1.0) -> None: ...

    @overload
    def __init__(self, *, client: "Redis", namespace: str, timeout: float = 1.0) -> None: ...

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "Redis | None" = None,
        namespace: str | None = None,
        timeout: float = 1.0,
    ) -> None:
        if (url is None) == (client is None):
            raise ConfigurationError('give RedisStore either a url="redis://…" or a client=…')
        #: The gate's name.
        self.namespace = checked_namespace(namespace, "RedisStore")
        if type(timeout) not in (int, float) or not 0 < timeout <= 60:
            raise ConfigurationError("RedisStore(timeout=…) must be seconds, more than 0, up to 60")
        self._url = url
        self._given = client
        self._keys = notation.Keys(f"{{{self.namespace}}}:")
        self._timeout = timeout
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()
        self._background: set[asyncio.Task[Any]] = set()
        self._listening = Listening(self._client, self._keys.channel, timeout=timeout)
        if client is not None:
            check_client(client)
        else:
            self._connected()  # a mistake in the address is told now

    def __repr__(self) -> str:
        return f"RedisStore(namespace={self.namespace!r})"

    async def put(
        self,
        key: str,
        value: bytes,
        seconds: float,
        region: Region,
        within: Sequence[Wanted] = (),
    ) -> bool:
        """Keep a value unless the key is there; see `Store`.

        Regions have no bound here: what `within` counts is what bounds them.
        """
        if not within:
            command = ("SET", self._keys.prefix + key, value, "PX", whole(seconds), "NX")
            return bool(await self._asked(self._sent(*command)))
        keys = [self._keys.prefix + key, *(self._keys.principal(who) for who, _ in within)]
        arguments = (value, whole(seconds), notation.quotas_of(within))
        answer = await self._asked(self._run(_PUT, keys, arguments))
        if isinstance(answer, int):
            return answer == 1
        place, wait = map(int, notation.text_of(answer).split())
        raise OverBudgetError(place - 1, wait / 1000)

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; see `Store`."""
        answer = await self._asked(self._sent("GETDEL", self._keys.prefix + key))
        return answer if isinstance(answer, bytes | None) else str(answer).encode()

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: Move | None = None,
        standing: Standing | None = None,
    ) -> Reserved:
        """Take of every quota or of none; see `Store`."""
        asking = asyncio.ensure_future(self._reserved(wanted, move, standing, how=_TAKE))
        try:
            await _waited(asking, self._timeout)
        except asyncio.CancelledError:
            self._give_back_when_late(asking, wanted)
            raise
        if not asking.done():
            self._give_back_when_late(asking, wanted)
            raise StoreError("the store does not answer (TimeoutError)")
        failure = asking.exception()
        if failure is not None:
            raise StoreError(f"the store does not answer ({type(failure).__name__})") from None
        return asking.result()

    async def move(self, move: Move, wanted: Sequence[Wanted]) -> Reserved:
        """Let what a visitor took be a person's, if all can be taken; see `Store`."""
        return await self._asked(self._reserved(wanted, move, None, how=_MOVE))

    async def look(self, wanted: Sequence[Wanted]) -> tuple[Level, ...]:
        """Return where quotas stand; see `Store`."""
        return (await self._asked(self._reserved(wanted, None, None, how=_LOOK))).levels

    async def give_back(self, parts: Sequence[Part]) -> None:
        """Give back what was taken; see `Store`."""
        keys = self._keys.principals(parts)
        await self._asked(self._run(_GIVE_BACK, keys, notation.amounts(parts)))

    async def remember(self, note: Note) -> None:
        """Keep a note; see `Store`."""
        principals = dict.fromkeys(part.principal for part in note.parts)
        keys = [self._keys.note(note.name), *map(self._keys.principal, principals)]
        arguments = (notation.listed(note.name), notation.note_text(note), whole(note.seconds))
        await self._asked(self._run(_REMEMBER, keys, arguments))

    async def is_noted(self, name: str) -> bool:
        """Tell whether a reservation can be settled; see `Store`."""
        return bool(await self._asked(self._client().exists(self._keys.note(name))))

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        arguments = (notation.listed(name), milliseconds, self._keys.prefix)
        about = await self._asked(self._run(_SETTLE, [self._keys.note(name)], arguments))
        return None if about is None else notation.text_of(about)

    async def hold(self, leases: Sequence[Lease]) -> tuple[Held, ...]:
        """Let conversations go on; see `Store`."""
        held: list[Held] = []
        for start in range(0, len(leases), _HELD_AT_ONCE):
            some = leases[start : start + _HELD_AT_ONCE]
            keys = [self._keys.leases, *chain.from_iterable(map(self._keys.to_hold, some))]
            texts = chain.from_iterable((notation.spec(lease), lease.about) for lease in some)
            answers = await self._asked(self._run(_HOLD, keys, (_MOST_LISTED, *texts)))
            held += map(notation.held, some, answers)
        return tuple(held)

    async def let_go(self, name: str, slots: Sequence[Part]) -> None:
        """Forget a conversation that is over; see `Store`."""
        keys = [self._keys.leases, self._keys.lease(name), *self._keys.principals(slots)]
        await self._asked(self._run(_LET_GO, keys, (name, *notation.amounts(slots))))

    async def leases(self) -> tuple[str, ...]:
        """Return what the live conversations are about; see `Store`."""
        answer = await self._asked(self._run(_LEASES, [self._keys.leases], (MOST_TOLD,)))
        names = sorted(map(notation.text_of, answer))
        told: list[str] = []
        for start in range(0, len(names), _READ_AT_ONCE):
            keys = [self._keys.lease(name) for name in names[start : start + _READ_AT_ONCE]]
            kept = await self._asked(self._client().mget(keys))
            told += [notation.text_of(each).partition("\n")[2] for each in kept if each is not None]
        return tuple(told)

    async def end(self, name: str) -> bool:
        """Ask that a conversation ends; see `Store`."""
        return bool(
            await self._asked(self._run(_END, [self._keys.lease(name)], (self._keys.channel,)))
        )

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse credentials issued before; see `Store`."""
        arguments = (repr(float(at)), whole(seconds), self._keys.channel)
        await self._asked(self._run(_REVOKE, [self._keys.revocation(principal)], arguments))

    async def woken(self) -> None:
        """Wait until somebody called `end()` or `revoke()`; see `Store`."""
        await self._listening.woken()

    def start(self) -> None:
        """Look, beside all else, whether the server may forget what it was told."""
        self._beside(self._report_eviction())

    async def aclose(self) -> None:
        """Close the connections that this store opened in the running event loop."""
        loop = asyncio.get_running_loop()
        await self._listening.stop()
        mine = [task for task in self._background if task.get_loop() is loop]
        if mine:
            _, pending = await asyncio.wait(mine, timeout=self._timeout)
            for task in pending:
                task.cancel()
        client = self._clients.pop(loop, None)
        if client is not None:
            await client.aclose()

    async def _reserved(
        self,
        wanted: Sequence[Wanted],
        move: Move | None,
        standing: Standing | None,
        *,
        how: int,
    ) -> Reserved:
        principals = list(dict.fromkeys([principal for principal, _ in wanted]))
        places = [(principals.index(principal) + 1, quota) for principal, quota in wanted]
        remembered = 0
        if move is not None:
            principals += move.visitor, move.person
            remembered = whole(move.seconds)
        keys = list(map(self._keys.principal, principals))
        if standing is not None:
            keys.append(self._keys.revocation(standing.principal))
        order = notation.order(places, standing, how=how, remembered=remembered)
        return notation.reserved(await self._run(_RESERVE, keys, (order,)))

    async def _run(self, script: "_Script", keys: list[str], arguments: tuple[Any, ...]) -> Any:
        try:
            return await self._sent("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except Exception as error:
            if type(error).__name__ != "NoScriptError":
                raise
        # A server that just started: it keeps the script from now on.
        return await self._sent("EVAL", script.text, len(keys), *keys, *arguments)

    async def _sent(self, *command: Any) -> Any:
        # All keys are of one slot, which that of their beginning names to a cluster.
        return await send_once(self._client(), self._keys.prefix, *command)

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


_PUT: Final = _Script(scripts.PUT)
_RESERVE: Final = _Script(scripts.RESERVE)
_GIVE_BACK: Final = _Script(scripts.GIVE_BACK)
_REMEMBER: Final = _Script(scripts.REMEMBER)
_SETTLE: Final = _Script(scripts.SETTLE)
_HOLD: Final = _Script(scripts.HOLD)
_LET_GO: Final = _Script(scripts.LET_GO)
_LEASES: Final = _Script(scripts.LEASES)
_END: Final = _Script(scripts.END)
_REVOKE: Final = _Script(scripts.REVOKE)


async def _waited(asking: asyncio.Task[Any], seconds: float) -> None:
    """Wait for a task for so long, and leave it alone. What `asyncio.wait()` does for any number of
    them takes a third longer, and every reservation waits.
    """
    loop = asyncio.get_running_loop()
    over = loop.create_future()

    def wake(_: object = None) -> None:
        if not over.done():
            over.set_result(None)

    timer = loop.call_later(seconds, wake)
    asking.add_done_callback(wake)
    try:
        await over
    finally:
        timer.cancel()


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()  # seen: what went wrong beside a request was answered with a 503 there
