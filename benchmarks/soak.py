"""Conversations that come and go for half an hour, and what is left when all are gone: nothing.

`python -m benchmarks.soak [--minutes 30] [--conversations 200]` runs Redis, a platform and a gate
under uvicorn, each a process of its own on loopback, and ends by itself. Each conversation has a
random length and one of the ends in `ENDS`. Every minute a line says what the gate's process holds.
At the end no task, socket, lease, slot, note or second may be left over; it exits with 1 else.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from benchmarks.conversations import (
    ACTIVITY,
    CLOSE,
    FIRST,
    METADATA,
    SUBPROTOCOL,
    exchange,
)
from benchmarks.gates import running_gate
from benchmarks.relay import running_platform
from benchmarks.servers import resident, running_redis
from benchmarks.soaked import AT_ONCE, IDLE, OPERATOR, PATIENCE, REDIS, SHORT, TALK
from benchmarks.tokens import Mint, claims
from xuna_middleware import RedisStore
from xuna_middleware.stores import StoreError

#: Callers who have several conversations; some ends need a caller of their own.
CALLERS: Final = 40
#: Mean seconds of a conversation, its most, and those between two of its exchanges.
MEAN: Final = 20.0
MOST: Final = 100.0
PAUSE: Final = 2.5
#: Seconds within which all must be given back: the longest lease, and a look at it.
DRAINED: Final = 45.0
TURNED_AWAY: Final = ("turned away: 429", "turned away: 503", "turned away: 504")
#: Milliseconds by which rounding may differ, for each conversation.
ROUNDED: Final = 1.0


@dataclass(slots=True, kw_only=True)
class Run:
    """Hold what all conversations of a run share, and how they ended."""

    url: str
    mint: Mint
    http: httpx.AsyncClient
    #: When no conversation begins any more, by the monotonic clock.
    until: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    numbers: Any = field(default_factory=count)
    open: int = 0
    ends: Counter[tuple[str, str]] = field(default_factory=Counter)

    def token(self, subject: str, scope: str = "voice:talk") -> dict[str, str]:
        said = {**claims(next(self.numbers)), "sub": subject, "scope": scope}
        return {"Authorization": f"Bearer {self.mint.signed(said)}"}

    def length(self) -> float:
        return min(MOST, self.draw.expovariate(1 / MEAN))


@dataclass(slots=True, kw_only=True)
class Talk:
    """Hold one open conversation, and whose it is."""

    run: Run
    subject: str
    socket: ClientConnection

    async def go_on(self, seconds: float) -> None:
        """Say a quarter of a second now and then."""
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            await exchange(self.socket, number)
            number += 1
            await asyncio.sleep(min(PAUSE, max(0.0, until - time.monotonic())))

    async def closed(self) -> str:
        """Hear what still comes, and return the code and reason that end it."""
        try:
            async with asyncio.timeout(IDLE + 30):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as error:
            return "broken off" if error.rcvd is None else f"{error.rcvd.code} {error.rcvd.reason}"
        except TimeoutError:
            return "never"


async def _client_closes(talk: Talk) -> str:
    await talk.go_on(talk.run.length())
    await talk.socket.close()
    return "closed"


async def _platform_closes(talk: Talk) -> str:
    await talk.go_on(talk.run.length())
    await talk.socket.send(CLOSE)
    return await talk.closed()


async def _client_vanishes(talk: Talk) -> str:
    await talk.go_on(talk.run.length())
    talk.socket.transport.abort()
    return "vanished"


async def _client_goes_deaf(talk: Talk) -> str:
    """Stay connected, read nothing, say nothing: the gate may not wait for a goodbye to arrive."""
    await talk.go_on(talk.run.length() / 4)
    talk.socket.transport.pause_reading()
    await asyncio.sleep(IDLE + 5)
    talk.socket.transport.abort()
    return "deaf"


async def _client_falls_silent(talk: Talk) -> str:
    await talk.go_on(talk.run.length() / 4)
    return await talk.closed()


async def _operator_ends(talk: Talk) -> str:
    return await _ended_by(talk, _end_as_operator(talk))


async def _is_revoked(talk: Talk) -> str:
    return await _ended_by(talk, _revoke(talk))


async def _ended_by(talk: Talk, somebody: Coroutine[Any, Any, None]) -> str:
    """Talk on until somebody else has ended it, however long that takes them."""
    await talk.go_on(talk.run.length() / 2)
    acting = asyncio.create_task(somebody)
    with suppress(ConnectionClosed):
        await talk.go_on(MOST / 2)
    await acting
    return await talk.closed()


async def _end_as_operator(talk: Talk) -> None:
    operator = talk.run.token("operator", OPERATOR)
    listed = (await talk.run.http.get("/sessions", headers=operator)).raise_for_status()
    (mine,) = (one["id"] for one in listed.json()["sessions"] if one["subject"] == talk.subject)
    (await talk.run.http.delete(f"/sessions/{mine}", headers=operator)).raise_for_status()


async def _revoke(talk: Talk) -> None:
    (await talk.run.http.post(f"/debug/revoke/{talk.subject}")).raise_for_status()


async def _lasts_too_long(talk: Talk) -> str:
    try:
        await talk.go_on(2 * SHORT)
    except ConnectionClosed:
        return await talk.closed()
    return "never"


async def _sends_binary(talk: Talk) -> str:
    await talk.go_on(talk.run.length())
    await talk.socket.send(b"\0")
    return await talk.closed()


async def _sends_another_first(talk: Talk) -> str:
    await talk.go_on(talk.run.length())
    await talk.socket.send(FIRST)
    return await talk.closed()


async def _floods(talk: Talk) -> str:
    await talk.go_on(talk.run.length())
    with suppress(ConnectionClosed):
        for _ in range(500):
            await talk.socket.send(ACTIVITY)
    return await talk.closed()


async def _first_is_refused(talk: Talk) -> str:
    return await talk.closed()


async def _first_never_comes(talk: Talk) -> str:
    return await talk.closed()


async def _leaves_at_once(talk: Talk) -> str:
    talk.socket.transport.abort()
    return "vanished"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """Say how a conversation ends, what its client sees then, and how often that is.

    `first` is its first frame, None for none. `is_own` gives it a caller of its own.
    """

    play: Callable[[Talk], Awaitable[str]]
    seen: tuple[str, ...]
    often: int = 1
    agent: str = "support"
    first: str | None = FIRST
    is_heard: bool = True
    is_own: bool = False

    @property
    def name(self) -> str:
        return self.play.__name__.strip("_").replace("_", " ")


ENDS: Final = (
    End(play=_client_closes, seen=("closed",), often=6),
    End(play=_platform_closes, seen=("1000 ",), often=4),
    End(play=_client_vanishes, seen=("vanished",), often=4),
    End(play=_client_goes_deaf, seen=("deaf",)),
    End(play=_client_falls_silent, seen=("4408 idle_timeout",)),
    End(play=_operator_ends, seen=("4412 ended_by_operator",), often=2, is_own=True),
    End(play=_is_revoked, seen=("4411 revoked",), often=2, is_own=True),
    End(play=_lasts_too_long, seen=("4410 max_duration",), often=2, agent="short"),
    End(play=_sends_binary, seen=("1003 binary_frame",)),
    End(play=_sends_another_first, seen=("4400 second_first_frame",)),
    # What it sent after the gate had gone may break the goodbye off: TCP resets then.
    End(play=_floods, seen=("4429 too_many_frames", "broken off")),
    End(
        play=_first_is_refused,
        seen=("4400 member_not_allowed",),
        often=2,
        first='{"type":"conversation_initiation_client_data","custom_llm_extra_body":{}}',
        is_heard=False,
    ),
    End(play=_first_never_comes, seen=("4408 first_frame_timeout",), first=None, is_heard=False),
    End(play=_leaves_at_once, seen=("vanished",), is_heard=False),
)


async def _come_and_go(run: Run) -> None:
    """Have one conversation after another. Not all begin at once."""
    await asyncio.sleep(run.length())
    weights = [end.often for end in ENDS]
    while time.monotonic() < run.until:
        (end,) = run.draw.choices(ENDS, weights)
        run.ends[end.name, await _had(run, end)] += 1


async def _had(run: Run, end: End) -> str:
    """Have one conversation, and return what its client saw of its end."""
    own = f"caller-{next(run.numbers)}"
    subject = own if end.is_own else f"user-{run.draw.randrange(CALLERS)}"
    try:
        return await _opened(run, end, subject)
    except InvalidStatus as refused:
        return await _turned_away(refused.response.status_code)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def _opened(run: Run, end: End, subject: str) -> str:
    async with connect(
        f"{run.url}?agent={end.agent}",
        additional_headers=run.token(subject),
        compression=None,
        subprotocols=[SUBPROTOCOL],
        open_timeout=30,
        close_timeout=5,
    ) as connection:
        run.open += 1
        try:
            return await _played(end, Talk(run=run, subject=subject, socket=connection))
        finally:
            run.open -= 1


async def _turned_away(status: int) -> str:
    """Come again a little later: a caller may have too many conversations already."""
    await asyncio.sleep(1)
    return f"turned away: {status}"


async def _played(end: End, talk: Talk) -> str:
    if end.first is not None:
        await talk.socket.send(end.first)
    if end.is_heard and await talk.socket.recv() != METADATA:
        return "no metadata"
    return await end.play(talk)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatus:
    """Hold what the gate's process and the store hold at one moment.

    Sockets are told apart by whose end is at the other side. `seconds` of talk are what the store
    counts less what conversations took.
    """

    tasks: Mapping[str, int]
    clients: int
    lines: int
    to_redis: int
    leases: int
    slots: int
    notes: int
    seconds: float
    kib: float
    ended: int

    def __str__(self) -> str:
        parts = (
            f"{sum(self.tasks.values()):4} tasks",
            f"sockets {self.clients:3} clients {self.lines:3} platform {self.to_redis:2} Redis",
            f"{self.leases:3} leases",
            f"{self.slots:3} slots",
            f"{self.notes:3} notes",
            f"{self.kib / 1024:6.1f} MiB",
            f"{self.ended:6} ended",
        )
        return " | ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Look at a gate's process and its store from outside."""

    process: int
    gate: int
    platform: int
    redis: int
    http: httpx.AsyncClient
    store: RedisStore
    client: Any
    mint: Mint

    async def look(self) -> LeaseStatus:
        """Return what there is now; the connection that asks is not counted."""
        told = (await self.http.get("/debug/counts")).json()
        left = await self._left()
        sockets = Counter(_sockets(self.process))
        return LeaseStatus(
            tasks=told["tasks"],
            clients=sockets["local", self.gate] - 1,
            lines=sockets["remote", self.platform],
            to_redis=sockets["remote", self.redis],
            leases=len(await self.store.leases()),
            slots=AT_ONCE.most - int(left[AT_ONCE.title]),
            notes=await self._notes(),
            seconds=TALK.most - left[TALK.title] - told["seconds"],
            kib=resident(self.process),
            ended=told["events"].get("conversation_ended", 0),
        )

    async def _left(self) -> dict[str, float]:
        """Return what is left of the limits that count everybody, as any caller is told."""
        token = {"Authorization": f"Bearer {self.mint.signed(claims(0))}"}
        answer = (await self.http.get("/agents", headers=token)).raise_for_status()
        return {each["limit"]: each["left"] for each in answer.json()["agents"][0]["limits"]}

    async def _notes(self) -> int:
        """Count open notes: values that are neither a lease nor a revocation."""
        keys = [key async for key in self.client.scan_iter(count=1000, _type="string")]
        return sum(b":lease:" not in key and b":revoked:" not in key for key in keys)


def _sockets(process: int) -> list[tuple[str, int]]:
    """Return the ports of a process's established TCP sockets, each as `local` and as `remote`."""
    mine = {link for each in Path(f"/proc/{process}/fd").iterdir() if (link := _inode(each))}
    ports = []
    for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]:
        local, remote, state, inode = (line.split()[place] for place in (1, 2, 3, 9))
        if inode in mine and state != "0A":  # 0A listens
            ports += [("local", _port(local)), ("remote", _port(remote))]
    return ports


def _inode(descriptor: Path) -> str | None:
    try:
        target = str(descriptor.readlink())
    except OSError:  # closed meanwhile
        return None
    return target[8:-1] if target.startswith("socket:[") else None


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


async def _told_every_minute(run: Run, watch: Watch) -> None:
    started = time.monotonic()
    for minute in count(1):
        await asyncio.sleep(started + 60 * minute - time.monotonic())
        try:
            seen = str(await watch.look())
        except (httpx.HTTPError, StoreError) as error:  # such as a store that is slow just now
            seen = f"not told: {type(error).__name__}"
        print(f"{minute:3} min | {run.open:3} open | {seen}", flush=True)


async def _drained(watch: Watch, before: LeaseStatus | None = None) -> LeaseStatus:
    """Wait until no more is held than before, no longer than leases may last."""
    until = time.monotonic() + DRAINED
    while True:
        held = await watch.look()
        if time.monotonic() > until or not _left_over(before or held, held):
            return held
        await asyncio.sleep(1)


def _left_over(before: LeaseStatus, after: LeaseStatus) -> list[str]:
    """Name what is held that should not be."""
    counts = {
        "client sockets": after.clients,
        "platform sockets": after.lines,
        "leases": after.leases,
        "slots": after.slots,
        "notes": after.notes,
    }
    more = Counter(after.tasks)
    more.subtract(before.tasks)
    left = [f"{number} {name}" for name, number in counts.items() if number]
    left += [f"{number} tasks {name}" for name, number in more.items() if number > 0]
    if abs(after.seconds) > ROUNDED / 1000 * after.ended + 1:  # limits tell whole seconds
        left.append(f"{after.seconds:.1f} s of talk that nobody had")
    return left


def _unexpected(run: Run) -> list[str]:
    """Name ends that were seen otherwise than they should be.

    That a caller has enough, or that store or platform are slow on a busy machine, are answers.
    """
    wanted = {end.name: end.seen for end in ENDS}
    return [
        f"{number} × {name}: {seen}"
        for (name, seen), number in run.ends.items()
        if seen not in (*wanted[name], *TURNED_AWAY)
    ]


async def soak(run: Run, watch: Watch, minutes: float, conversations: int) -> list[str]:
    """Let conversations come and go, and return what is wrong after that."""
    await asyncio.gather(*(_had(run, end) for end in ENDS))  # so that all is loaded
    before = await _drained(watch)
    print(f"before  |   0 open | {before}", flush=True)
    run.until = time.monotonic() + 60 * minutes
    telling = asyncio.create_task(_told_every_minute(run, watch))
    await asyncio.gather(*(_come_and_go(run) for _ in range(conversations)))
    telling.cancel()
    after = await _drained(watch, before)
    print(f"after   | {run.open:3} open | {after}")
    for (name, seen), number in sorted(run.ends.items()):
        print(f"{number:6} × {name}: {seen}")
    return _left_over(before, after) + _unexpected(run)


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that its servers end, too
    mint = Mint()
    with running_redis() as redis, running_platform() as platform:
        told = {REDIS: redis}
        with running_gate("benchmarks.soaked:app", f"http://{platform}", mint, **told) as gate:
            return asyncio.run(_run(arguments, mint, gate, platform, redis))


async def _run(
    arguments: argparse.Namespace, mint: Mint, gate: tuple[int, str], platform: str, redis: str
) -> int:
    process, url = gate
    port = urlsplit(url).port or 0
    store, client = RedisStore(redis, timeout=PATIENCE, namespace="xuna"), Redis.from_url(redis)
    try:
        address = f"http://127.0.0.1:{port}"
        options: dict[str, Any] = {"base_url": address, "timeout": 60, "trust_env": False}
        async with (
            httpx.AsyncClient(limits=httpx.Limits(max_connections=1), **options) as http,
            httpx.AsyncClient(headers={"Connection": "close"}, **options) as others,
        ):
            watch = Watch(
                process=process,
                gate=port,
                platform=int(platform.rpartition(":")[2]),
                redis=urlsplit(redis).port or 0,
                http=http,
                store=store,
                client=client,
                mint=mint,
            )
            run = Run(url=url, mint=mint, http=others)
            wrong = await soak(run, watch, arguments.minutes, arguments.conversations)
    finally:
        await store.aclose()
        await client.aclose()
    print("LEFT OVER: " + "; ".join(wrong) if wrong else "nothing is left over")
    return 1 if wrong else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--conversations", type=int, default=200)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
