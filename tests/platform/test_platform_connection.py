"""The WebSocket to the platform: a frame leaves at once, and waits where the platform is slow."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from xuna_middleware.platform.connect import open_line
from xuna_middleware.platform.protocol import PlatformConnection

#: More than all buffers between two sockets of one machine hold.
MANY = 128
LARGE = 512 * 1024


class Slow:
    """Be a platform that hears nothing until it may."""

    def __init__(self) -> None:
        self.may_hear = asyncio.Event()
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def talk(self, connection: ServerConnection) -> None:
        await self.may_hear.wait()
        async for frame in connection:
            self.heard.put_nowait(str(frame))

    @asynccontextmanager
    async def line(self) -> AsyncIterator[PlatformConnection]:
        """Serve on loopback, and yield a line to it."""
        async with serve(self.talk, "127.0.0.1", 0, compression=None) as server:
            port = server.sockets[0].getsockname()[1]
            line = await open_line(f"ws://127.0.0.1:{port}", max_frame=LARGE)
            try:
                yield line
            finally:
                self.may_hear.set()
                await line.close(1000, "")


async def send_all(line: PlatformConnection) -> None:
    for number in range(MANY):
        await line.send(f"{number} ".ljust(LARGE, "x"))


async def test_frames_wait_for_a_slow_platform_and_keep_their_order() -> None:
    """Memory stays bounded: not all fits in between, so the sender is still at it."""
    platform = Slow()
    async with platform.line() as line:
        sending = asyncio.create_task(send_all(line))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sending.done()
        platform.may_hear.set()
        await sending
        heard = [await platform.heard.get() for _ in range(MANY)]
    assert [int(frame.split()[0]) for frame in heard] == list(range(MANY))
    assert {len(frame) for frame in heard} == {LARGE}


async def test_a_closed_line_takes_no_frame() -> None:
    """It raises, and says nothing was sent."""
    platform = Slow()
    async with platform.line() as line:
        await line.close(1000, "")
        with pytest.raises(Exception, match=r"."):
            await line.send("{}")
        platform.may_hear.set()
    assert platform.heard.empty()
