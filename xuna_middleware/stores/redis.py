"""A store in Redis or Valkey, shared by all processes of a gate. The one place with redis-py.

- One command for each verb, so each is atomic and one round trip: `SET … NX PX`, `GETDEL`
  (Redis 6.2), and for counting the scripts of `scripts.py`.
- A pool that waits rather than fails when many ask at once, one for each event loop.
- What goes wrong becomes a `StoreError` in fixed words: addresses hold passwords.
- One connection more in each event loop that waits for others to end conversations or to revoke.
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
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from weakref import WeakKeyDictionary

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores import scripts
from xuna_middleware.stores.protocol import (
    MOST_TOLD,
    Held,
    Lease,
    Level,
    Move,
    Note,
    Part,
    Quota,
    Reserved,
    Standing,
    StoreError,
    Wanted,
    step_of,
    taken_parts,
    whole,
)
from xuna_middleware.stores.waking import Bell

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
#: Seconds of silence after which a listening connection is tried, and between attempts to listen.
_SILENCE: Final = 30.0
_SOONEST: Final = 1.0
_LATEST: Final = 30.0
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
        self._bell = Bell()
        self._listening: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}
        if url is not None:
            self._connected()  # a mistake in the address is told now

    def __repr__(self) -> str:
        return f"RedisStore(namespace={self._prefix[1:-2]!r})"

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless the key is there; see `Store`."""
        answer = await self._asked(
            self._client().set(self._prefix + key, value, nx=True, px=whole(seconds))
        )
        return bool(answer)

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; see `Store`."""
        answer = await self._asked(self._client().getdel(self._prefix + key))
        return answer if isinstance(answer, bytes | None) else str(answer).encode()

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: Move | None = None,
        standing: Standing | None = None,
    ) -> Reserved:
        """Take of every quota or of none; see `Store`."""
        asking = asyncio.ensure_future(self._reserved(wanted, move, standing, taking=True))
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
        return (await self._asked(self._reserved(wanted, None, None, taking=False))).levels

    async def give_back(self, parts: Sequence[Part]) -> None:
        """Give back what was taken; see `Store`."""
        keys = [self._principal(part.principal) for part in parts]
        await self._asked(self._run(_GIVE_BACK, keys, _amounts(parts)))

    async def remember(self, note: Note) -> None:
        """Keep a note; see `Store`."""
        principals = dict.fromkeys(part.principal for part in note.parts)
        text = "\n".join([note.about, *(_line(who, note.parts) for who in principals)])
        keys = [self._note(note.name), *map(self._principal, principals)]
        arguments = (_listed(note.name), text, whole(note.seconds))
        await self._asked(self._run(_REMEMBER, keys, arguments))

    async def settle(self, name: str, milliseconds: int) -> str | None:
        """Give back what a noted reservation did not use, once; see `Store`."""
        arguments = (_listed(name), milliseconds, self._prefix)
        about = await self._asked(self._run(_SETTLE, [self._note(name)], arguments))
        return None if about is None else _text(about)

    async def hold(self, leases: Sequence[Lease]) -> tuple[Held, ...]:
        """Let conversations go on; see `Store`."""
        held: list[Held] = []
        for start in range(0, len(leases), _HELD_AT_ONCE):
            some = leases[start : start + _HELD_AT_ONCE]
            keys = [self._index, *chain.from_iterable(map(self._keys, some))]
            texts = chain.from_iterable((_spec(lease), lease.about) for lease in some)
            answers = await self._asked(self._run(_HOLD, keys, (_MOST_LISTED, *texts)))
            held += map(_held, some, answers)
        return tuple(held)

    async def let_go(self, name: str, slots: Sequence[Part]) -> None:
        """Forget a conversation that is over; see `Store`."""
        keys = [
            self._index,
            self._lease(name),
            *(self._principal(part.principal) for part in slots),
        ]
        await self._asked(self._run(_LET_GO, keys, (name, *_amounts(slots))))

    async def leases(self) -> tuple[str, ...]:
        """Return what the live conversations are about; see `Store`."""
        answer = await self._asked(self._run(_LEASES, [self._index], (MOST_TOLD,)))
        names = sorted(map(_text, answer))
        told: list[str] = []
        for start in range(0, len(names), _READ_AT_ONCE):
            keys = [self._lease(name) for name in names[start : start + _READ_AT_ONCE]]
            kept = await self._asked(self._client().mget(keys))
            told += [_text(each).partition("\n")[2] for each in kept if each is not None]
        return tuple(told)

    async def end(self, name: str) -> bool:
        """Ask that a conversation ends; see `Store`."""
        return bool(await self._asked(self._run(_END, [self._lease(name)], (self._channel,))))

    async def revoke(self, principal: str, at: float, seconds: float) -> None:
        """Refuse credentials issued before; see `Store`."""
        arguments = (repr(float(at)), whole(seconds), self._channel)
        await self._asked(self._run(_REVOKE, [self._revocation(principal)], arguments))

    async def woken(self) -> None:
        """Wait until somebody called `end()` or `revoke()`; see `Store`."""
        loop = asyncio.get_running_loop()
        if loop not in self._listening:
            self._listening[loop] = task = loop.create_task(self._listen())
            task.add_done_callback(lambda _: self._listening.pop(loop, None))
        await self._bell.wait()

    def start(self) -> None:
        """Look, beside all else, whether the server may forget what it was told."""
        self._beside(self._report_eviction())

    async def aclose(self) -> None:
        """Close the connections that this store opened in the running event loop."""
        loop = asyncio.get_running_loop()
        if loop in self._listening:
            self._listening[loop].cancel()
            await asyncio.wait([self._listening[loop]])
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
        taking: bool,
    ) -> Reserved:
        principals = list(dict.fromkeys([principal for principal, _ in wanted]))
        quotas = [
            f"{principals.index(principal) + 1} {_written(quota)}" for principal, quota in wanted
        ]
        remembered = 0
        if move is not None:
            principals += move.visitor, move.person
            remembered = whole(move.seconds)
        keys = list(map(self._principal, principals))
        if standing is not None:
            keys.append(self._revocation(standing.principal))
        wishes = "\n".join([f"{taking:d} {remembered} {_issued(standing)}", *quotas, ""])
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
        return self._prefix + _digest(name, b"note")

    def _revocation(self, principal: str) -> str:
        return f"{self._prefix}revoked:{_digest(principal)}"

    def _lease(self, name: str) -> str:
        return f"{self._prefix}lease:{name}"

    def _keys(self, lease: Lease) -> list[str]:
        """Return what `HOLD` wants to know of, in its order."""
        standing = lease.standing
        revoked = [] if standing is None else [self._revocation(standing.principal)]
        slots = [self._principal(part.principal) for part in lease.slots]
        return [self._lease(lease.name), *revoked, *slots]

    @property
    def _index(self) -> str:
        return f"{self._prefix}leases"

    @property
    def _channel(self) -> str:
        return f"{self._prefix}woken"

    async def _listen(self) -> None:
        """Ring when somebody calls; where that can't be heard, try again, less and less often."""
        pause = _SOONEST
        while True:
            try:
                async with self._client().pubsub() as calls:
                    await calls.subscribe(self._channel)
                    while await self._heard(calls):
                        pause = _SOONEST
            except Exception as error:  # as in _asked()
                logger.info("nobody can be heard who revokes: %s", type(error).__name__)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LATEST)

    async def _heard(self, calls: Any) -> bool:
        """Ring at the next call, or once it listens; tell whether the connection still lives."""
        heard = await calls.get_message(timeout=_SILENCE)
        if heard is None:
            await calls.ping()
            heard = await calls.get_message(timeout=self._timeout)
        if heard is not None and heard["type"] in ("message", "subscribe"):
            self._bell.ring()
        return heard is not None

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
_HOLD: Final = _Script(scripts.HOLD)
_LET_GO: Final = _Script(scripts.LET_GO)
_LEASES: Final = _Script(scripts.LEASES)
_END: Final = _Script(scripts.END)
_REVOKE: Final = _Script(scripts.REVOKE)

#: What most names of notes begin with, and what those do that don't where they are listed.
_USUAL: Final = "conv_"
_UNUSUAL: Final = "/"
#: The words on a lease, as `HOLD` writes them.
_WORDS: Final[dict[str, Literal["", "ended", "revoked"]]] = {
    "-": "",
    "e": "ended",
    "r": "revoked",
}
#: What stands in a note before an amount; what is issued stays counted, so rates don't.
_MARKS: Final = {"time": ":", "slot": "/", "rate": ""}
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def _digest(name: str, kind: bytes = b"") -> str:
    """Return 22 letters that stand for a principal or a note, and tell nobody who that is."""
    octets = name.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(octets, digest_size=16, person=kind).digest()
    return base64.urlsafe_b64encode(digest)[:22].decode()


def _line(principal: str, parts: Sequence[Part]) -> str:
    """Return what may come back of one principal, as short as it can be read again."""
    taken = [
        f"{part.field}{mark}{_short(part.mark)}{mark}{_short(part.amount)}"
        for part in parts
        if part.principal == principal and (mark := _MARKS[part.kind])
    ]
    return " ".join([_digest(principal), *taken])


def _short(number: int) -> str:
    """Return a whole number, not below 0, in base 36."""
    letters = ""
    while number or not letters:
        number, digit = divmod(number, 36)
        letters = _DIGITS[digit] + letters
    return letters


def _listed(name: str) -> str:
    """Return a note's name without what most begin with: each person's hash would repeat it."""
    rest = name.removeprefix(_USUAL)
    return _UNUSUAL + name if rest == name or rest.startswith(_UNUSUAL) else rest


def _unlisted(text: str) -> str:
    return text[1:] if text.startswith(_UNUSUAL) else _USUAL + text


def _amounts(parts: Sequence[Part]) -> tuple[str | int, ...]:
    return tuple(chain.from_iterable((part.field, part.mark, part.amount) for part in parts))


def _issued(standing: Standing | None) -> str:
    if standing is None:
        return "-"
    return "?" if standing.issued_at is None else repr(standing.issued_at)


def _spec(lease: Lease) -> str:
    length = whole(lease.seconds)
    words = (lease.name, length, step_of(length), _issued(lease.standing), *_amounts(lease.slots))
    return " ".join(map(str, words))


def _held(lease: Lease, answer: bytes | str) -> Held:
    word, *marks = _text(answer).split()
    pairs = zip(lease.slots, map(int, marks), strict=True)
    return Held(tuple([part._replace(mark=mark) for part, mark in pairs]), _WORDS[word])


def _text(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


@lru_cache(maxsize=1024)
def _written(quota: Quota) -> str:
    return (
        f"{quota.field} {quota.kind} {quota.most} {quota.amount} {quota.length} {quota.step} "
        f"{quota.held_length} {quota.held_step}"
    )


def _read(answer: bytes | str) -> Reserved:
    text = _text(answer)
    if text == "-":
        return Reserved(False, (), is_revoked=True)
    told, _, names = text.partition("\n")
    taken, *figures = map(int, told.split())
    left, waits, marks = figures[::3], figures[1::3], figures[2::3]
    levels = tuple(Level(n, wait / 1000) for n, wait in zip(left, waits, strict=True))
    if not taken:
        return Reserved(
            False, levels, open_notes=tuple(map(_unlisted, dict.fromkeys(names.split())))
        )
    return Reserved(True, levels, tuple(marks))


def _forget(tasks: set[asyncio.Task[Any]], task: asyncio.Task[Any]) -> None:
    tasks.discard(task)
    if not task.cancelled():
        task.exception()  # seen: what went wrong beside a request was answered with a 503 there
