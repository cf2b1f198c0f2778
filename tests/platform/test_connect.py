"""The WebSocket to the platform, against a real server on loopback."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
from support.signing import CANARY
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from xuna_middleware import ConfigurationError, XunaPlatform
from xuna_middleware.errors import PlatformError
from xuna_middleware.platform import connect as dialling
from xuna_middleware.platform.connect import open_line

KIBIBYTE: Final = 1024


@pytest.fixture
def dials_anew() -> Iterator[None]:
    """Prepare what dials again: a test changes what it is prepared from."""
    dialling._dialling.cache_clear()
    yield
    dialling._dialling.cache_clear()


@asynccontextmanager
async def serving(converse: Any, **options: Any) -> AsyncIterator[str]:
    """Serve a WebSocket, and say at which signed URL."""
    async with serve(converse, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/convai/conversation?conversation_signature={CANARY}"


async def echoes(connection: ServerConnection) -> None:
    async for frame in connection:
        await connection.send(frame)


async def test_frames_both_ways() -> None:
    """With the platform's sub-protocol, uncompressed even where that is offered, unnamed."""
    asked: list[Request] = []

    async def notes(connection: ServerConnection) -> None:
        assert connection.request is not None
        asked.append(connection.request)
        await echoes(connection)

    async with serving(notes, subprotocols=["convai"]) as url:
        line = await open_line(url, max_frame=KIBIBYTE)
        await line.send("é")
        assert await line.recv() == "é"
        await line.close(4000, "bye")
        await line.close(1000, "")
        assert line.ended is None
    headers = asked[0].headers
    assert headers["Sec-WebSocket-Protocol"] == "convai"
    assert "Sec-WebSocket-Extensions" not in headers
    assert headers["User-Agent"] == "xuna-middleware"


@pytest.mark.parametrize("told", [(4321, "a word"), (1000, ""), (1005, "")])
async def test_close_of_the_platforms_own(told: tuple[int, str]) -> None:
    """Its code and reason, after its last frame."""

    async def says_goodbye(connection: ServerConnection) -> None:
        await connection.send("last words")
        if told[0] == 1005:
            connection.protocol.send_close()
            connection.send_data()
        else:
            await connection.close(*told)

    async with serving(says_goodbye) as url:
        line = await open_line(url, max_frame=KIBIBYTE)
        assert await line.recv() == "last words"
        with pytest.raises(Exception, match=r"."):
            await line.recv()
        assert line.ended == told
        await line.close(1000, "")


@pytest.mark.parametrize("how", ["breaks off", "sends too much"])
async def test_platform_that_says_no_goodbye(how: str) -> None:
    """Then there is none to pass on."""

    async def fails(connection: ServerConnection) -> None:
        if how == "breaks off":
            connection.transport.abort()
        else:
            await connection.send("x" * 2 * KIBIBYTE)
            await connection.wait_closed()

    async with serving(fails) as url:
        line = await open_line(url, max_frame=KIBIBYTE)
        with pytest.raises(Exception, match=r"."):
            await line.recv()
        assert line.ended is None
        await line.close(1000, "")


@pytest.mark.parametrize("status", [302, 401, 403, 500])
async def test_platform_that_does_not_let_in(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """502; a redirect is not followed; no text of ours or of a log holds the signed URL."""
    asked: list[str] = []

    async def refuse(connection: ServerConnection, request: Request) -> Response:
        asked.append(request.path)
        return Response(status, "No", Headers(Location=f"/elsewhere?{CANARY}"), CANARY.encode())

    with caplog.at_level(logging.DEBUG):
        async with serving(echoes, process_request=refuse, logger=silent()) as url:
            with pytest.raises(PlatformError) as caught:
                await open_line(url, max_frame=KIBIBYTE)
    assert (caught.value.status_code, caught.value.code) == (502, "platform_error")
    assert caught.value.cause == f"platform: the WebSocket: refused with status {status}"
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert len(asked) == 1
    assert CANARY not in caplog.text


def silent() -> logging.Logger:
    """Return a logger for the server of a test, which tells its own secrets."""
    return logging.Logger("test", logging.CRITICAL + 1)


async def test_nobody_is_there() -> None:
    """502."""
    async with serving(echoes) as url:
        pass
    with pytest.raises(PlatformError) as caught:
        await open_line(url, max_frame=KIBIBYTE)
    assert caught.value.status_code == 502
    assert CANARY not in f"{caught.value!r} {caught.value.cause}"


@pytest.mark.usefixtures("dials_anew")
async def test_platform_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """504."""
    monkeypatch.setattr(dialling, "_OPEN", 0.05)
    done = asyncio.Event()

    async def wait(connection: ServerConnection, request: Request) -> None:
        await done.wait()

    async with serving(echoes, process_request=wait, logger=silent()) as url:
        with pytest.raises(PlatformError) as caught:
            await open_line(url, max_frame=KIBIBYTE)
        done.set()
    assert (caught.value.status_code, caught.value.code) == (504, "platform_timeout")


async def test_platform_that_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is still to be written."""
    monkeypatch.setattr(dialling, "_CLOSE", 0.05)
    done = asyncio.Event()

    async def deaf(connection: ServerConnection) -> None:
        connection.transport.pause_reading()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await done.wait()
        connection.transport.abort()

    async with serving(deaf) as url:
        line = await open_line(url, max_frame=KIBIBYTE)
        await line.send("x" * 32 * KIBIBYTE * KIBIBYTE)
        stuck = asyncio.ensure_future(line.send("waits for the one before"))
        await asyncio.wait((stuck,), timeout=0.2)
        assert not stuck.done()
        async with asyncio.timeout(5):
            await line.close(1000, "")
            await asyncio.wait((stuck,))
        done.set()


@pytest.mark.usefixtures("dials_anew")
async def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text names the extra, when the gate is built and when somebody comes."""
    monkeypatch.setitem(sys.modules, "websockets.asyncio.client", None)
    with pytest.raises(ConfigurationError, match=r"\[relay\]"):
        XunaPlatform("xi-key").check_relay()
    with pytest.raises(ConfigurationError, match=r"\[relay\]"):
        await open_line("ws://127.0.0.1:9/", max_frame=KIBIBYTE)
