"""A platform over real sockets that does what its agents' names say. It runs on the test's loop.

One port serves both: the REST call that issues a signed URL, and the WebSocket behind it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qs, urlsplit

from support.scripted import GREETING
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

ISSUE: Final = "/v1/convai/conversation/get-signed-url"
TALK: Final = "/v1/convai/conversation"
#: In each signed URL; it must turn up nowhere.
SIGNATURE: Final = "canary-9d1e77aa-signature"
TURN: Final = json.dumps({"type": "agent_response", "agent_response_event": {}})
_MANY: Final = json.dumps({"type": "audio", "audio_event": {"audio_base_64": "A" * 65_536}})
_TOO_LARGE: Final = json.dumps({"type": "audio", "more": "A" * 2 * 1024 * 1024})


@dataclass(kw_only=True)
class ScriptedPlatform:
    """Know what happened at the platform."""

    port: int
    #: Frames of clients, and how each conversation was closed there, in order.
    heard: list[str] = field(default_factory=list)
    closed: list[int | None] = field(default_factory=list)
    #: Bytes of frames that were taken off its hands.
    flooded: int = 0
    _running: set[ServerConnection] = field(default_factory=set)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_quiet(self) -> bool:
        """Whether no conversation is open."""
        return not self._running

    async def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the REST call, and the WebSockets of agents that are not let in."""
        url = urlsplit(request.path)
        agent = parse_qs(url.query)["agent_id"][0]
        if url.path == ISSUE:
            query = f"agent_id={agent}&conversation_signature={SIGNATURE}"
            return _json(200, {"signed_url": f"ws://127.0.0.1:{self.port}{TALK}?{query}"})
        if agent == "stalls":
            await self._stopping.wait()
        if agent == "redirects":
            location = f"ws://127.0.0.1:{self.port}{TALK}?agent_id=talks"
            return Response(302, "Found", Headers(Location=location), b"")
        return _json(int(agent[-3:]), {}) if agent.startswith("refuses_") else None

    async def converse(self, connection: ServerConnection) -> None:
        """Do as the agent's name says."""
        assert connection.request is not None
        agent = parse_qs(urlsplit(connection.request.path).query)["agent_id"][0]
        self._running.add(connection)
        try:
            with suppress(ConnectionClosed):
                await _BEHAVIOURS.get(agent, _talks)(self, connection)
        finally:
            self._running.discard(connection)
            self.closed.append(connection.close_code)

    def stop(self) -> None:
        """Let go of whoever waits at the door."""
        self._stopping.set()


async def _talks(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await connection.send(GREETING)
    async for frame in connection:
        platform.heard.append(str(frame))
        await connection.send(TURN)


async def _mute(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    async for frame in connection:
        platform.heard.append(str(frame))


async def _begins_with(first: str | bytes, connection: ServerConnection) -> None:
    await connection.send(first)
    await connection.wait_closed()


async def _garbage(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await _begins_with("<html>", connection)


async def _binary(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await _begins_with(b"\x00\x01", connection)


async def _dies(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await connection.send(GREETING)
    await connection.recv()
    connection.transport.abort()


async def _closes(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await connection.send(GREETING)
    await connection.send(TURN)
    await connection.close(4321, "a word of its own")


async def _large(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await connection.send(GREETING)
    await connection.send(_TOO_LARGE)
    await connection.wait_closed()


async def _floods(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await connection.send(GREETING)
    while True:
        await connection.send(_MANY)
        platform.flooded += len(_MANY)


async def _deaf(platform: ScriptedPlatform, connection: ServerConnection) -> None:
    await connection.send(GREETING)
    connection.transport.pause_reading()
    await platform._stopping.wait()
    connection.transport.abort()


_Behaviour = Callable[[ScriptedPlatform, ServerConnection], Awaitable[None]]
_BEHAVIOURS: Final[Mapping[str, _Behaviour]] = {
    "mute": _mute,
    "garbage": _garbage,
    "binary": _binary,
    "dies": _dies,
    "closes": _closes,
    "large": _large,
    "floods": _floods,
    "deaf": _deaf,
}


@asynccontextmanager
async def scripted_platform(port: int) -> AsyncIterator[ScriptedPlatform]:
    """Serve on a port until the block ends."""
    platform = ScriptedPlatform(port=port)
    async with serve(
        platform.converse,
        "127.0.0.1",
        port,
        process_request=platform.answer,
        compression=None,
        close_timeout=1,
    ):
        try:
            yield platform
        finally:
            platform.stop()


def _json(status: int, members: Mapping[str, object]) -> Response:
    body = json.dumps(members).encode()
    headers = Headers()
    headers["Content-Type"] = "application/json"
    headers["Content-Length"] = f"{len(body)}"
    headers["Connection"] = "close"
    return Response(status, "As the name says", headers, body)
