"""The relay over real sockets, with uvicorn, where everything goes wrong on either side of it.

Each fault has its close code, and leaves nothing behind: no task, no open file, no lease, no slot.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from stores.redis_server import RedisServer, running_redis
from support.talking import FIRST
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .scripted_platform import SIGNATURE, ScriptedPlatform, scripted_platform
from .servers import TOKEN, Running, free_port, running

#: In seconds: for whatever has to come to pass.
PATIENCE: Final = 15
MEBIBYTE: Final = 1024 * 1024
BEGIN: Final = json.dumps({"type": FIRST})
HELLO: Final = '{"type":"user_message","text":"hello"}'
#: Pings of the server's, so that half-open connections are noticed soon.
PINGS: Final = ("--ws-ping-interval", "2", "--ws-ping-timeout", "2")


@dataclass(frozen=True, kw_only=True)
class Served:
    """Know a served gate and its platform's port."""

    server: Running
    platform_port: int

    @asynccontextmanager
    async def talking(
        self, agent: str = "talks", who: str = "ada", **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """Open a conversation with an agent, up to the accept."""
        url = f"ws://127.0.0.1:{self.server.port}/xuna/conversation?agent={agent}"
        async with connect(
            url,
            additional_headers=as_user(who),
            subprotocols=["convai"],  # type: ignore[list-item]
            **{"compression": None, "max_size": None, "close_timeout": 1, "proxy": None, **options},
        ) as talk:
            yield talk

    async def ask(self, path: str, who: str = "boss", method: str = "GET") -> Any:
        """Ask by HTTP, over a connection of its own."""
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            answer = await client.request(method, self.server.url + path, headers=as_user(who))
        return answer.json()

    async def state(self) -> dict[str, int]:
        told: dict[str, int] = await self.ask("/state")
        return told

    async def sessions(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = (await self.ask("/xuna/sessions"))["sessions"]
        return told

    async def left(self, who: str = "ada") -> int | None:
        """Return how many slots somebody has left with the agent `talks`; None where it can't
        be known.
        """
        told = await self.ask("/xuna/agents", who)
        slots: int | None = told["agents"][0]["limits"][0]["left"] if "agents" in told else None
        return slots


def as_user(who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}.{who}"}


async def until(is_so: Callable[[], Awaitable[Any]]) -> Any:
    """Wait until something is so, and return it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if told := await is_so():
                return told
            await asyncio.sleep(0.05)


async def begun(talk: ClientConnection) -> None:
    """Send the first frame, and hear the platform's."""
    await talk.send(BEGIN)
    frame = json.loads(await talk.recv())
    assert frame["type"] == "conversation_initiation_metadata"


async def ending(talk: ClientConnection) -> tuple[int | None, str | None]:
    """Hear until the end, and return its code and reason."""
    async with asyncio.timeout(PATIENCE):
        with suppress(ConnectionClosed):
            while True:
                await talk.recv()
    return talk.close_code, talk.close_reason


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve one gate for all that needs no Redis."""
    port = free_port()
    with running("uvicorn", tmp_path_factory.mktemp("relay"), **options_for(port)) as server:
        yield Served(server=server, platform_port=port)


def options_for(port: int, **environment: str) -> dict[str, Any]:
    address = {"SERVED_PLATFORM": f"http://127.0.0.1:{port}", **environment}
    return {"module": "served_relay", "environment": address, "more": PINGS}


@pytest.fixture
async def platform(served: Served) -> AsyncIterator[ScriptedPlatform]:
    """Run the platform, and see afterwards that nothing is left of what happened."""
    before = await until(served.state)
    async with scripted_platform(served.platform_port) as platform:
        yield platform
        await until(lambda: is_at_rest(served, before))
        platform.stop()
        await until(lambda: is_quiet(platform))
    log = served.server.log.read_text(encoding="utf-8")
    assert "Traceback" not in log
    assert SIGNATURE not in log
    assert TOKEN not in log


async def is_at_rest(served: Served, before: Mapping[str, int]) -> bool:
    """Tell whether no task, file, lease or slot is left."""
    now = await served.state()
    is_small = now["tasks"] <= before["tasks"] and now["files"] <= before["files"]
    return is_small and not await served.sessions() and await served.left() == 1


async def is_quiet(platform: ScriptedPlatform) -> bool:
    return platform.is_quiet


PLATFORM_FAULTS: Final[Mapping[str, tuple[int, str]]] = {
    "refuses_403": (4502, "platform_error"),
    "refuses_500": (4502, "platform_error"),
    "redirects": (4502, "platform_error"),
    "stalls": (4504, "platform_timeout"),
    "mute": (4504, "platform_timeout"),
    "garbage": (4502, "platform_error"),
    "binary": (4502, "platform_error"),
    "dies": (4502, "platform_error"),
    "large": (4502, "platform_error"),
    "closes": (4321, "a word of its own"),
}


@pytest.mark.parametrize("agent", PLATFORM_FAULTS)
async def test_platform_that_fails(agent: str, served: Served, platform: ScriptedPlatform) -> None:
    """Refusing, redirecting, stalling, silent, with no frames, too large ones, dying, closing."""
    async with served.talking(agent) as talk:
        await talk.send(BEGIN)
        await talk.send(HELLO)
        assert await ending(talk) == PLATFORM_FAULTS[agent]
    assert agent != "redirects" or platform.heard == []


async def test_platform_that_is_not_there(served: Served) -> None:
    """Nobody listens: refused before the WebSocket is accepted."""
    with pytest.raises(InvalidStatus) as refused:
        async with served.talking():
            pass
    assert refused.value.response.status_code == 502
    assert json.loads(refused.value.response.body or b"")["code"] == "platform_error"
    assert await served.sessions() == []
    assert await served.left() == 1


async def test_conversation_over_real_sockets(served: Served, platform: ScriptedPlatform) -> None:
    """As it should be: in order, and with the client's own goodbye at the platform."""
    async with served.talking() as talk:
        assert talk.subprotocol == "convai"
        await begun(talk)
        for number in range(100):
            await talk.send(f'{{"type":"user_message","text":"{number}"}}')
        for _ in range(101):
            assert json.loads(await talk.recv())["type"] == "agent_response"
        await talk.close(4000, "bye")
    await until(platform_closed(platform))
    assert [json.loads(each).get("text") for each in platform.heard[1:]] == [
        f"{number}" for number in range(100)
    ]
    assert platform.closed == [4000]


def platform_closed(platform: ScriptedPlatform) -> Callable[[], Awaitable[bool]]:
    async def is_closed() -> bool:
        return bool(platform.closed)

    return is_closed


CLIENT_FAULTS: Final[Mapping[str, tuple[str | bytes, tuple[int, str]]]] = {
    "second first frame": (BEGIN, (4400, "second_first_frame")),
    "escaped": (BEGIN.replace("init", "\\u0069nit"), (4400, "second_first_frame")),
    "binary": (b"\x00\x01", (1003, "binary_frame")),
    "2 MiB": (f'{{"type":"{"x" * 2 * MEBIBYTE}"}}', (1009, "frame_too_large")),
}


@pytest.mark.parametrize("name", CLIENT_FAULTS)
async def test_client_that_sends_what_it_may_not(
    name: str, served: Served, platform: ScriptedPlatform
) -> None:
    """It is told so, and the platform never sees it."""
    frame, told = CLIENT_FAULTS[name]
    async with served.talking() as talk:
        await begun(talk)
        await talk.send(frame)
        assert await ending(talk) == told
    await until(platform_closed(platform))
    assert len(platform.heard) == 1
    assert platform.closed == [1000]


async def test_frame_of_20_megabytes(served: Served, platform: ScriptedPlatform) -> None:
    """The server itself refuses it, before there is a frame; memory stays what it was."""
    before = await served.state()
    async with served.talking() as talk:
        await begun(talk)
        with suppress(ConnectionClosed):
            await talk.send("x" * 20 * MEBIBYTE)
        code, _ = await ending(talk)
    assert code in (1009, 1006)
    assert (await served.state())["memory"] - before["memory"] < 24 * MEBIBYTE
    await until(platform_closed(platform))
    assert len(platform.heard) == 1


async def test_client_that_floods(served: Served, platform: ScriptedPlatform) -> None:
    """No more a second than the agent's rule says."""
    async with served.talking("strict") as talk:
        await begun(talk)
        with suppress(ConnectionClosed):
            for _ in range(2_000):
                await talk.send(HELLO)
        assert await ending(talk) == (4429, "too_many_frames")
    await until(platform_closed(platform))
    assert len(platform.heard) < 1_000


async def test_client_that_floods_a_platform_that_does_not_read(
    served: Served, platform: ScriptedPlatform
) -> None:
    """It is held back, until the platform is given up."""
    before = await served.state()
    sent = 0
    async with served.talking("deaf") as talk:
        await begun(talk)
        frame = '{"user_audio_chunk":"' + "x" * 65_536 + '"}'
        with suppress(ConnectionClosed):
            for _ in range(4_096):
                await talk.send(frame)
                sent += len(frame)
        assert await ending(talk) == (4504, "platform_timeout")
    assert sent < 64 * MEBIBYTE, "held back by what the kernel keeps"
    assert (await served.state())["memory"] - before["memory"] < 32 * MEBIBYTE


async def test_client_that_never_reads(served: Served, platform: ScriptedPlatform) -> None:
    """A platform that floods is held back, memory stays bounded, and the client is given up."""
    before = await served.state()
    async with served.talking("floods", max_queue=1, ping_interval=None) as talk:
        await talk.send(BEGIN)
        talk.transport.pause_reading()

        async def is_over() -> bool:
            return not await served.sessions()

        await until(lambda: flooded(platform))
        await until(is_over)
        stopped_at = platform.flooded
        assert stopped_at < 64 * MEBIBYTE
        assert (await served.state())["memory"] - before["memory"] < 32 * MEBIBYTE
        talk.transport.abort()


async def flooded(platform: ScriptedPlatform) -> bool:
    return platform.flooded > 0


async def test_half_open_client(served: Served, platform: ScriptedPlatform) -> None:
    """It hears nothing and says nothing, and its connection stands: pings find out."""
    async with served.talking(ping_interval=None) as talk:
        await begun(talk)
        talk.transport.pause_reading()

        async def is_over() -> bool:
            return not await served.sessions()

        await until(is_over)
        talk.transport.abort()
    await until(platform_closed(platform))


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("stage", ["opened", "first frame", "begun", "talking"])
async def test_client_that_leaves(
    stage: str, how: str, served: Served, platform: ScriptedPlatform
) -> None:
    """At every stage, in good order or not."""
    async with served.talking() as talk:
        if stage == "first frame":
            await talk.send(BEGIN)
        elif stage != "opened":
            await begun(talk)
        if stage == "talking":
            for _ in range(50):
                await talk.send(HELLO)
        if how == "close":
            await talk.close(1000)
        else:
            talk.transport.abort()


async def test_client_that_leaves_while_it_is_not_accepted(
    served: Served, platform: ScriptedPlatform
) -> None:
    """The handshake was sent, and nobody waits for the answer."""
    request = (
        "GET /xuna/conversation?agent=talks HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {TOKEN}.ada\r\n\r\n"
    )
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
        writer.write(request.encode())
        await writer.drain()
        writer.transport.abort()


async def test_client_that_leaves_while_the_platform_stalls(
    served: Served, platform: ScriptedPlatform
) -> None:
    """Its platform is given up all the same."""
    async with served.talking("stalls") as talk:
        await talk.send(BEGIN)
        await talk.close()


async def test_client_that_says_nothing(served: Served, platform: ScriptedPlatform) -> None:
    """Five seconds in earnest."""
    async with served.talking() as talk:
        assert await ending(talk) == (4408, "first_frame_timeout")
    assert platform.heard == []


async def test_many_come_and_go(served: Served, platform: ScriptedPlatform) -> None:
    """A hundred conversations, ended in every way at once; see the fixture for what is left."""

    async def one(number: int) -> None:
        async with served.talking(who=f"user-{number}") as talk:
            await begun(talk)
            await talk.send(HELLO)
            await talk.recv()
            if number % 3 == 0:
                talk.transport.abort()
            elif number % 3 == 1:
                await talk.send(b"\x00")
                assert (await ending(talk))[0] == 1003

    for start in range(0, 100, 20):
        await asyncio.gather(*(one(number) for number in range(start, start + 20)))
    assert len(await until(lambda: hundred(platform))) == 100


async def hundred(platform: ScriptedPlatform) -> list[int | None]:
    return platform.closed if len(platform.closed) == 100 else []


# --- Redis, and several processes -----------------------------------------------------------


@asynccontextmanager
async def two_workers(directory: Path) -> AsyncIterator[tuple[Served, Served, RedisServer]]:
    """Serve from two processes with one Redis and one platform."""
    port = free_port()
    with running_redis() as redis:
        options = options_for(port, SERVED_REDIS=redis.url)
        for name in "ab":
            (directory / name).mkdir()
        with (
            running("uvicorn", directory / "a", **options) as one,
            running("uvicorn", directory / "b", **options) as other,
        ):
            async with scripted_platform(port):
                yield (
                    Served(server=one, platform_port=port),
                    Served(server=other, platform_port=port),
                    redis,
                )


async def test_two_workers(tmp_path: Path) -> None:
    """Slots count together; an operator ends it from the other; one dies, and its slot with it."""
    async with two_workers(tmp_path) as (one, other, _):
        async with one.talking() as talk:
            await begun(talk)
            with pytest.raises(InvalidStatus) as refused:
                async with other.talking():
                    pass
            assert refused.value.response.status_code == 429
            (session,) = await other.sessions()
            await other.ask(f"/xuna/sessions/{session['id']}", method="DELETE")
            assert await ending(talk) == (4412, "ended_by_operator")
        await until(lambda: is_free(other, "ada"))
        async with one.talking() as lost, other.talking(who="bob") as kept:
            await begun(lost)
            await begun(kept)
            os.kill(one.server.process.pid, signal.SIGKILL)
            assert (await ending(lost))[0] == 1006
            assert await other.left() == 0, "held until the lease has run out"
            await until(lambda: is_free(other, "ada"))
            await kept.send(HELLO)
            await kept.recv()
            assert [each["subject"] for each in await other.sessions()] == ["bob"]
            async with other.talking() as anew:
                await begun(anew)


async def is_free(served: Served, who: str) -> bool:
    return await served.left(who) == 1


async def test_redis_that_loses_everything(tmp_path: Path) -> None:
    """Restarted empty, within the lease: what runs is counted again at the next beat."""
    async with two_workers(tmp_path) as (one, other, redis):
        async with one.talking() as talk:
            await begun(talk)
            redis.kill()
            redis.start()
            await until(lambda: is_taken(other))
            assert len(await other.sessions()) == 1
            await talk.send(HELLO)
            await talk.recv()
        await until(lambda: is_free(other, "ada"))


async def is_taken(served: Served) -> bool:
    return await served.left() == 0


async def test_redis_that_is_gone(tmp_path: Path) -> None:
    """When the lease has run out nobody could end it any more: it ends, and none begins."""
    async with two_workers(tmp_path) as (one, _, redis):
        async with one.talking() as talk:
            await begun(talk)
            redis.kill()
            assert await ending(talk) == (4503, "lease_lost")
        with pytest.raises(InvalidStatus) as refused:
            async with one.talking():
                pass
        assert refused.value.response.status_code == 503
        redis.start()
        async with one.talking() as talk:
            await begun(talk)
