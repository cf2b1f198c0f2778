"""A WebSocket to the local platform within one process: what the relay talks over in tests."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message

from xuna_middleware.errors import PlatformError

_WAITING: Final = 8
_CONNECTED: Final = "websocket.accept"
_SECONDS: Final = 5.0


async def connect_in_process(app: ASGIApp, url: str) -> "InProcessLine":
    """Open a WebSocket of an ASGI app.

    Raises:
        PlatformError: the app doesn't accept it.
    """
    line = InProcessLine(app, url)
    async with asyncio.timeout(_SECONDS):
        answer = await line.opened()
    if answer["type"] != _CONNECTED:
        await line.close(1000, "")
        raise PlatformError(cause="platform: the WebSocket: refused")
    return line


class InProcessLine:
    """Speak with an ASGI app as the relay speaks with the platform; a `PlatformConnection`."""

    def __init__(self, app: ASGIApp, url: str) -> None:
        self._to_app: asyncio.Queue[Message] = asyncio.Queue(_WAITING)
        self._from_app: asyncio.Queue[Message] = asyncio.Queue(_WAITING)
        self._to_app.put_nowait({"type": "websocket.connect"})
        self._ended: tuple[int, str] | None = None
        scope = _scope(url)
        self._task = asyncio.get_running_loop().create_task(
            _run(app(scope, self._to_app.get, self._from_app.put), self._from_app)
        )
        self.recv: Callable[[], Awaitable[str | bytes]] = self._recv
        self.send: Callable[[str], Awaitable[None]] = self._send

    @property
    def ended(self) -> tuple[int, str] | None:
        """How the app closed it; None where it didn't."""
        return self._ended

    async def opened(self) -> Message:
        """Return what the app answers to the connect."""
        return await self._from_app.get()

    async def close(self, code: int, reason: str) -> None:
        """Hang up, and wait until the app has seen it."""
        while not self._from_app.empty():  # nobody reads on, and the app may have more to say
            self._from_app.get_nowait()
        if not self._task.done():
            await self._to_app.put({"type": "websocket.disconnect", "code": code, "reason": reason})
            await asyncio.wait((self._task,), timeout=_SECONDS)
            self._task.cancel()

    async def _recv(self) -> str | bytes:
        message = await self._from_app.get()
        if message["type"] != "websocket.send":
            self._ended = message.get("code", 1000), message.get("reason") or ""
            raise ConnectionError("the local platform closed the WebSocket")
        text: str | None = message.get("text")
        return message["bytes"] if text is None else text

    async def _send(self, text: str) -> None:
        if self._task.done():
            raise ConnectionError("the local platform closed the WebSocket")
        await self._to_app.put({"type": "websocket.receive", "text": text})


async def _run(app: Awaitable[None], from_app: asyncio.Queue[Message]) -> None:
    try:
        await app
    finally:
        await from_app.put({"type": "websocket.close", "code": 1000})


def _scope(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": parts.scheme,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [(b"host", parts.netloc.encode())],
        "client": ("127.0.0.1", 0),
        "server": (parts.hostname, parts.port),
        "subprotocols": ["convai"],
        "state": {},
        "extensions": {},
    }
