"""A store in Redis or Valkey, shared by all processes of a gate. The one place with redis-py.

- One command for each verb, so each is atomic and one round trip: `SET … NX PX`, `GETDEL`
  (Redis 6.2), and for counting the scripts of `scripts.py`.
- A pool for each event loop, whose connections are shared among uses (`bulkhead.py`): what
  strangers cause leaves room for callers, and neither keeps operators or conversations waiting.
- What goes wrong becomes a `StoreError` in fixed words: addresses hold passwords.
- One connection more in each event loop that waits for others to end conversations or to revoke.
- Nothing is sent twice, whatever the client (`commands.py`): a command whose answer was lost may
  have been carried out. What a reservation took for somebody who didn't wait for the answer is
  given back when that comes late.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from weakref import WeakKeyDictionary

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.namespace import checked_namespace
from xuna_middleware.stores.protocol import (
    MOST_TOLD,
    Charge,
    Lease,
    LeaseStatus,
    MergeUsage,
    OverBudgetError,
    PendingSettlement,
    QuotaStatus,
    Region,
    ReserveResult,
    RevocationCheck,
    StoreBusyError,
    StoreError,
    Wanted,
    region_of,
    taken_parts,
    whole,
)
from xuna_middleware.stores.redis import bulkhead, scripts
from xuna_middleware.stores.redis import encoding as notation
from xuna_middleware.stores.redis.commands import check_client, send_once
from xuna_middleware.stores.redis.pubsub import Listening

if TYPE_CHECKING:
    from redis.asyncio import Redis

logger = logging.getLogger("xuna_middleware")

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
#: Turns of the event loop in which an answer that has arrived is read, and for which part of
#: `timeout` this process may be behind before its own delay counts as the reason.
_TURNS: Final = 4
_BEHIND: Final = 0.2
_MISSING: Final = 'RedisStore needs redis-py: pip install "xuna-middleware[redis]"'

T = TypeVar("T")


class RedisStore:
    """Keep values and counts in Redis or Valkey.

    What is counted of a principal is one hash whose key is a digest. Values do name persons: a
    one-time ticket holds its caller's claims (60 s), a lease and a note of a conversation that can
    be settled hold issuer and subject. Connections are shared among uses, so that strangers leave
    room for callers, operators and running conversations (docs/budgets.md). When the gate starts, a
    server that may evict keys under pressure is reported with a WARNING: limits would be forgotten.
    Whose access is limited by an ACL needs the channel `{namespace}:woken`; without it, who ends a
    conversation or revokes is heard a little later.

    Args:
        url: `redis://…`, `rediss://…` (TLS) or `unix://…`, with user, password and database in it.
        client: a `redis.asyncio.Redis` of your own instead (sentinel, cluster, TLS of your own);
            it belongs to the event loop that uses it, and you close it. Whatever it retries, what
            this store changes is sent once; only reading may be repeated. Its pool should have
            room for 41 connections.
        namespace: the gate's name, such as "acme-voice-production": 1 to 64 lower-case letters,
            digits, - and _, a letter first. All keys begin with it, in braces, so that a gate lives
            on one node of a cluster. Processes of one gate say the same name, and so do gates that
            mean to share limits, revocations, sessions and tickets; any other gate on this Redis
            says another, and then neither affects the other. A new name forgets all that was kept.
        timeout: seconds for one command, connecting included; up to 5 s of waiting for a place
            come before.

    Does not check: that the server keeps what it was told. After a crash without persistence, or
    a failover to a replica that lagged behind, the counts that are lost can be spent again, and
    the revocations that are lost must be told again.

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
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = WeakKeyDictionary()
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
        share = bulkhead.share_of([region])
        if not within:
            command = ("SET", self._keys.prefix + key, value, "PX", whole(seconds), "NX")
            return bool(await self._ask(self._send_command(*command), share))
        keys = [self._keys.prefix + key, *(self._keys.principal(who) for who, _ in within)]
        arguments = (value, whole(seconds), notation.quotas_of(within))
        owner = bulkhead.owner_of(who for who, _ in within)
        answer = await self._ask(self._run(_PUT, keys, arguments), share, owner)
        if isinstance(answer, int):
            return answer == 1
        place, wait = map(int, notation.text_of(answer).split())
        raise OverBudgetError(place - 1, wait / 1000)

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; see `Store`."""
        getting = self._send_command("GETDEL", self._keys.prefix + key)
        answer = await self._ask(getting, bulkhead.TICKETS)
        return answer if isinstance(answer, bytes | None) else str(answer).encode()

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None = None,
        standing: RevocationCheck | None = None,
    ) -> ReserveResult:
        """Take of every quota or of none; see `Store`."""
        principals = [principal for principal, _ in wanted]
        if standing is not None:
            principals.insert(0, standing.principal)
        return await self._ask(
            self._reserve(wanted, move, standing, how=_TAKE),
            *_share_and_owner(principals),
            give_up=partial(self._give_back_when_late, wanted=wanted),
        )

    async def move(self, move: MergeUsage, wanted: Sequence[Wanted]) -> ReserveResult:
        """Let what a visitor took be a person's, if all can be taken; see `Store`."""
        moving = self._reserve(wanted, move, None, how=_MOVE)
        return await self._ask(moving, bulkhead.CALLERS, move.person)

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        """Return where quotas stand; see `Store`."""
        looking = self._reserve(wanted, None, None, how=_LOOK)
        return (await self._ask(looking, *_share_and_owner([who for who, _ in wanted]))).levels

    async def give_back(self, parts: Sequence[Charge]) -> None:
        """Give back what was taken; see `Store`."""
        keys = self._keys.principals(parts)
        giving_back = self._run(_GIVE_BACK, keys, notation.amounts(parts))
        share, _ = _share_and_owner([part.principal for part in parts])
        is_operators = share is bulkhead.OPERATORS
        await self._ask(giving_back, share if is_operators else bulkhead.GIVING_BACK)

    async def remember(self, note: PendingSettlement) -> None:
        """Keep a note; see `Store`."""
        principals = dict.fromkeys(part.principal for part in note.parts)
        keys = [self._keys.note(note.name), *map(self._keys.principal, principals)]
        arguments = (notation.listed(note.name), notation.note_text(note), whole(note.seconds))
        remembering = self._run(_REMEMBER, keys, arguments)
        await self._ask(remembering, *_share_and_owner(list(principals)))

    async def is_pending(self, name: str) -> bool:
        """Tell whether a reservation can be settled; see `Store`."""
        looking = self._read(lambda client: client.exists(self._keys.note(name)))
        return bool(await self._ask(looking, bulkhead.CALLERS))

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        arguments = (notation.listed(name), milliseconds, self._keys.prefix)
        settling = self._run(_SETTLE, [self._keys.note(name)], arguments)
        about = await self._ask(settling, bulkhead.CALLERS)
        return None if about is None else notation.text_of(about)

    async def hold(self, leases: Sequence[Lease]) -> tuple[LeaseStatus, ...]:
        """Let conversations go on; see `Store`."""
        held: list[LeaseStatus] = []
        for start in range(0, len(leases), _HELD_AT_ONCE):
            some = leases[start : start + _HELD_AT_ONCE]
            keys = [self._keys.leases, *chain.from_iterable(map(self._keys.to_hold, some))]
            texts = chain.from_iterable((notation.spec(lease), lease.about) for lease in some)
            holding = self._run(_HOLD, keys, (_MOST_LISTED, *texts))
            answers = await self._ask(holding, *_share_and_owner_of_leases(leases))
            held += map(notation.held, some, answers)
        return tuple(held)

    async def release_lease(self, name: str, slots: Sequence[Charge]) -> bool:
        """Forget a conversation that is over; see `Store`."""
        keys = [self._keys.leases, self._keys.lease(name), *self._keys.principals(slots)]
        letting_go = self._run(_LET_GO, keys, (name, *notation.amounts(slots)))
        return bool(await self._ask(letting_go, bulkhead.ENDED_CONVERSATIONS))

    async def leases(self) -> tuple[str, ...]:
        """Return what the live conversations are about; see `Store`."""
        listing = self._run(_LEASES, [self._keys.leases], (MOST_TOLD,))
        answer = await self._ask(listing, bulkhead.OPERATORS)
        names = sorted(map(notation.text_of, answer))
        told: list[str] = []
        for start in range(0, len(names), _READ_AT_ONCE):
            keys = [self._keys.lease(name) for name in names[start : start + _READ_AT_ONCE]]
            reading = self._read(partial(_get_all, keys=keys))
            kept: list[Any] = await self._ask(reading, bulkhead.OPERATORS)
            told += [notation.text_of(each).partition("\n")[2] for each in kept if each is not None]
        return tuple(told)

    async def end(self, name: str) -> bool:
        """Ask that a conversation ends; see `Store`."""
        ending = self._run(_END, [self._keys.lease(name)], (self._keys.channel,))
        return bool(await self._ask(ending, bulkhead.OPERATORS))

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse credentials issued before; see `Store`."""
        arguments = (repr(float(at)), whole(seconds), self._keys.channel)
        revoking = self._run(_REVOKE, [self._keys.revocation(principal)], arguments)
        await self._ask(revoking, bulkhead.OPERATORS)

    async def wait_for_wakeup(self) -> None:
        """Wait until somebody called `end()` or `revoke()`; see `Store`."""
        await self._listening.wait_for_wakeup()

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
        here = self._loops.pop(loop, None)
        if here is not None and self._given is None:
            await here.client.aclose()
        self._listening.ring()  # another gate with this store listens anew

    async def _reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None,
        standing: RevocationCheck | None,
        *,
        how: int,
    ) -> ReserveResult:
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
            return await self._send_command("EVALSHA", script.digest, len(keys), *keys, *arguments)
        except Exception as error:
            if type(error).__name__ != "NoScriptError":
                raise
        # A server that just started: it keeps the script from now on.
        return await self._send_command("EVAL", script.text, len(keys), *keys, *arguments)

    async def _send_command(self, *command: Any) -> Any:
        # All keys are of one slot, which that of their beginning names to a cluster.
        return await send_once(self._client(), self._keys.prefix, *command)

    async def _read(self, reading: Callable[["Redis"], Awaitable[T]]) -> T:
        # What changes nothing may be repeated, as the client says.
        return await reading(self._client())

    def _give_back_when_late(
        self, asking: asyncio.Task[ReserveResult], wanted: Sequence[Wanted]
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
        reading = self._read(lambda client: client.info("memory"))
        told: Any = await self._ask(reading, bulkhead.OPERATORS)
        policy = told.get("maxmemory_policy", _KEEPS)
        if policy != _KEEPS:
            logger.warning(
                "Redis has the maxmemory-policy %s, which lets it forget limits and used proofs "
                "when memory is short: set maxmemory-policy %s",
                policy,
                _KEEPS,
            )

    def _client(self) -> "Redis":
        return self._here().client

    def _here(self) -> "_Here":
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = _Here(self._connected() if self._given is None else self._given)
        return self._loops[loop]

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
                max_connections=bulkhead.CONNECTIONS,
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

    async def _ask(
        self,
        command: Coroutine[Any, Any, T],
        share: bulkhead.Share,
        owner: str | None = None,
        give_up: Callable[[asyncio.Task[T]], object] = asyncio.Task.cancel,
    ) -> T:
        """Wait for a place, and for one answer as long as `timeout` says.

        A command that may have been carried out counts as failed: the caller refuses. `give_up`
        gets what is still under way then.

        Raises:
            StoreBusyError: it was this process that had no time. StoreError: the store failed.
        """
        here = self._here()
        places = here.bulkheads[share]
        try:
            await places.enter(owner)
        except BaseException:
            command.close()
            raise
        asking = asyncio.get_running_loop().create_task(command)
        asking.add_done_callback(partial(_leave, places, owner))
        began = asyncio.get_running_loop().time()
        try:
            await _wait(asking, self._timeout)
        except asyncio.CancelledError:
            give_up(asking)
            raise
        now = asyncio.get_running_loop().time()
        failure: str | None = None
        if not asking.done():
            give_up(asking)
            failure = "TimeoutError"
        elif error := asking.exception():  # redis-py's, or OSError; their texts name addresses
            failure = type(error).__name__
        if failure == "TimeoutError":  # connecting has the same bound, in redis-py
            if here.answers.last > began or now - began > (1 + _BEHIND) * self._timeout:
                raise StoreBusyError(f"this process is too busy to hear it ({share.name})")
            places.report_silence()
        if failure is not None:
            raise StoreError(f"the store does not answer ({failure})") from None
        here.answers.last = now
        return asking.result()


class _Here:
    """Hold what belongs to one event loop: a client, and the shares of its connections."""

    def __init__(self, client: "Redis") -> None:
        self.client = client
        self.answers = bulkhead.Answers()
        self.bulkheads = {
            share: bulkhead.Bulkhead(share, self.answers) for share in bulkhead.SHARES
        }


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


def _get_all(client: "Redis", keys: list[str]) -> Awaitable[list[Any]]:
    return client.mget(keys)


def _share_and_owner_of_leases(leases: Sequence[Lease]) -> tuple[bulkhead.Share, str | None]:
    """Return from which share leases are renewed: several at once are a heartbeat."""
    if len(leases) > 1:
        return bulkhead.HEARTBEATS, None
    standing = leases[0].standing
    return bulkhead.CONVERSATIONS, None if standing is None else standing.principal


def _share_and_owner(principals: Sequence[str]) -> tuple[bulkhead.Share, str | None]:
    """Return for which use these principals' counts are asked for, and on whose behalf."""
    return bulkhead.share_of(map(region_of, principals)), bulkhead.owner_of(principals)


async def _wait(asking: asyncio.Task[Any], seconds: float) -> None:
    """Wait for a task for so long, and leave it alone. What `asyncio.wait()` does for any number of
    them takes a third longer, and every reservation waits.

    An answer that has arrived by then is read, however busy this process is with other things.
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
    for _ in range(_TURNS):
        if asking.done():
            return
        await asyncio.sleep(0)


def _leave(places: bulkhead.Bulkhead, owner: str | None, task: asyncio.Task[Any]) -> None:
    places.leave(owner)
    if not task.cancelled():
        task.exception()  # seen: whoever asked may be gone


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()  # seen: what went wrong beside a request was answered with a 503 there
