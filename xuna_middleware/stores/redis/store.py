"""A store in Redis or Valkey, shared by all processes of a gate. Only this module imports redis-py.

- One command for each method, so each is atomic and one round trip: `SET … NX PX`, `GETDEL`
  (Redis 6.2), and for counting the scripts of `scripts.py`.
- A pool for each event loop, whose connections are shared among uses (`bulkhead.py`): anonymous
  requests leave room for callers, and neither of them delays operators or conversations.
- Failures become a `StoreError` with a fixed text, because URLs contain passwords.
- One more connection in each event loop waits for ended conversations and revocations.
- Nothing is sent twice, with any client (`commands.py`): a command whose answer was lost may have
  been executed. If the answer to a reservation arrives after its request has gone, its charges are
  given back.
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

#: Seconds to wait for the answer to a reservation after its request has gone.
_LATE: Final = 10.0
#: The policy under which Redis doesn't evict keys before they expire.
_KEEPS: Final = "noeviction"
#: How many leases are held with one script, how many are read at once, and how many are listed.
_HELD_AT_ONCE: Final = 64
_READ_AT_ONCE: Final = 1_000
_MOST_LISTED: Final = 100_000
#: The modes of `RESERVE`.
_LOOK, _TAKE, _MOVE = 0, 1, 2
#: Turns of the event loop in which an answer that has arrived is read, and the fraction of
#: `timeout` that this process may be late before its own delay counts as the reason.
_TURNS: Final = 4
_BEHIND: Final = 0.2
_MISSING: Final = 'RedisStore needs redis-py: pip install "xuna-middleware[redis]"'

T = TypeVar("T")


class RedisStore:
    """Keep values and counts in Redis or Valkey.

    The counts of a principal are one hash whose key is a digest. Values do identify persons: a
    one-time ticket holds its caller's claims (60 s); leases, and notes of conversations that can be
    settled, hold issuer and subject. Connections are shared among uses, so that strangers leave
    room for callers, operators and running conversations (docs/budgets.md). When the gate starts, a
    server that may evict keys under pressure is reported with a WARNING: it would lose limits.
    An ACL must allow the channel `{namespace}:woken`; without it, ended conversations and
    revocations are noticed a little later.

    Args:
        url: `redis://…`, `rediss://…` (TLS) or `unix://…`, with user, password and database in it.
        client: your `redis.asyncio.Redis` instead (sentinel, cluster, custom TLS); it belongs to
            the event loop that uses it, and you close it. Whatever its retry settings, commands
            that change something are sent once; only reads may be repeated. Its pool should have
            room for 41 connections.
        namespace: the gate's name, such as "acme-voice-production": 1 to 64 lower-case letters,
            digits, - and _, a letter first. All keys begin with it, in braces, so that a gate's
            keys are on one node of a cluster. Processes of one gate use the same name, and so do
            gates that should share limits, revocations, sessions and tickets; every other gate on
            this Redis needs a different name, and is then independent. A new name starts empty.
        timeout: seconds for one command, connecting included; before that, the command may wait up
            to 5 s for a place.

    Does not check: that the server keeps its data. After a crash without persistence, or a failover
    to a replica that lagged behind, lost counts can be spent again, and lost revocations must be
    repeated.

    Raises:
        ConfigurationError: redis-py is missing, or an option is invalid.
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
            self._connected()  # so that an invalid URL fails now

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
        """Keep a value unless the key exists; see `Store`.

        Regions have no bound here: only the quotas of `within` bound them.
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
        """Return a value and delete it; see `Store`."""
        getting = self._send_command("GETDEL", self._keys.prefix + key)
        answer = await self._ask(getting, bulkhead.TICKETS)
        return answer if isinstance(answer, bytes | None) else str(answer).encode()

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None = None,
        standing: RevocationCheck | None = None,
    ) -> ReserveResult:
        """Take from every quota or from none; see `Store`."""
        principals = [principal for principal, _ in wanted]
        if standing is not None:
            principals.insert(0, standing.principal)
        share, owner = _share_and_owner(principals)
        if standing is not None and standing.is_operator:
            share = bulkhead.OPERATORS
        return await self._ask(
            self._reserve(wanted, move, standing, how=_TAKE),
            share,
            owner,
            give_up=partial(self._give_back_when_late, wanted=wanted),
        )

    async def move(self, move: MergeUsage, wanted: Sequence[Wanted]) -> ReserveResult:
        """Move a visitor's usage to a person, if all can be taken; see `Store`."""
        moving = self._reserve(wanted, move, None, how=_MOVE)
        return await self._ask(moving, bulkhead.CALLERS, move.person)

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        """Return the status of quotas; see `Store`."""
        looking = self._reserve(wanted, None, None, how=_LOOK)
        return (await self._ask(looking, *_share_and_owner([who for who, _ in wanted]))).levels

    async def give_back(self, parts: Sequence[Charge]) -> None:
        """Give back charges; see `Store`."""
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
        """Return whether a reservation can be settled; see `Store`."""
        looking = self._read(lambda client: client.exists(self._keys.note(name)))
        return bool(await self._ask(looking, bulkhead.CALLERS))

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        arguments = (notation.listed(name), milliseconds, self._keys.prefix)
        settling = self._run(_SETTLE, [self._keys.note(name)], arguments)
        about = await self._ask(settling, bulkhead.CALLERS)
        return None if about is None else notation.text_of(about)

    async def hold(self, leases: Sequence[Lease]) -> tuple[LeaseStatus, ...]:
        """Renew leases; see `Store`."""
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
        """Delete the lease of a finished conversation; see `Store`."""
        keys = [self._keys.leases, self._keys.lease(name), *self._keys.principals(slots)]
        letting_go = self._run(_LET_GO, keys, (name, *notation.amounts(slots)))
        return bool(await self._ask(letting_go, bulkhead.ENDED_CONVERSATIONS))

    async def leases(self) -> tuple[str, ...]:
        """Return the `about` lines of the live conversations; see `Store`."""
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
        """Ask for the end of a conversation; see `Store`."""
        ending = self._run(_END, [self._keys.lease(name)], (self._keys.channel,))
        return bool(await self._ask(ending, bulkhead.OPERATORS))

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse credentials issued up to a time; see `Store`."""
        arguments = (repr(float(at)), whole(seconds), self._keys.channel)
        revoking = self._run(_REVOKE, [self._keys.revocation(principal)], arguments)
        await self._ask(revoking, bulkhead.OPERATORS)

    async def wait_for_wakeup(self) -> None:
        """Wait until somebody called `end()` or `revoke()`; see `Store`."""
        await self._listening.wait_for_wakeup()

    def start(self) -> None:
        """Check in the background whether the server may evict keys."""
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
        self._listening.ring()  # another gate with this store subscribes again

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
        # All keys have the same cluster slot; their prefix identifies it.
        return await send_once(self._client(), self._keys.prefix, *command)

    async def _read(self, reading: Callable[["Redis"], Awaitable[T]]) -> T:
        # The client may repeat commands that change nothing.
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
        """Return a client that connects when it is first used.

        Raises:
            ConfigurationError: redis-py is missing, or the URL is invalid. The text omits the URL.
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
        """Wait for a place, and then up to `timeout` for one answer.

        A command that may have been executed counts as failed: the caller refuses. `give_up`
        receives the task if it is still running then.

        Raises:
            StoreBusyError: this process was too busy. StoreError: the store failed.
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
        elif error := asking.exception():  # redis-py's, or OSError; their texts contain addresses
            failure = type(error).__name__
        if failure == "TimeoutError":  # redis-py uses the same bound for connecting
            if here.answers.last > began or now - began > (1 + _BEHIND) * self._timeout:
                raise StoreBusyError(f"this process is too busy to hear it ({share.name})")
            places.report_silence()
        if failure is not None:
            raise StoreError(f"the store does not answer ({failure})") from None
        here.answers.last = now
        return asking.result()


class _Here:
    """Hold the objects of one event loop: a client, and the shares of its connections."""

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
    """Return the share and the account for holding leases: what isn't new is a heartbeat."""
    new = [lease for lease in leases if lease.is_new]
    if not new:
        return bulkhead.HEARTBEATS, None
    standing = new[0].standing
    return bulkhead.CONVERSATIONS, None if standing is None else standing.principal


def _share_and_owner(principals: Sequence[str]) -> tuple[bulkhead.Share, str | None]:
    """Return the share and the account for commands about these principals' counts."""
    return bulkhead.share_of(map(region_of, principals)), bulkhead.owner_of(principals)


async def _wait(asking: asyncio.Task[Any], seconds: float) -> None:
    """Wait at most `seconds` for a task, without cancelling it. `asyncio.wait()`, which takes any
    number of tasks, needs a third longer, and every reservation waits here.

    An answer that has arrived within that time is read, however busy this process is.
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
        task.exception()  # mark as retrieved: its request may be gone


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()  # mark as retrieved: the request got a 503 for it
