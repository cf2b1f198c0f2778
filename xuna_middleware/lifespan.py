"""The ASGI lifespan protocol: start the gate with the server, whatever the wrapped app does.

An app that knows no lifespan (Django raises) is no obstacle, and one that fails to start is
reported as it reports itself.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuna_middleware.errors import ConfigurationError

logger = logging.getLogger("xuna_middleware")

_STARTUP_ANSWERS: Final = ("lifespan.startup.complete", "lifespan.startup.failed")
_LAST_ANSWERS: Final = (
    "lifespan.startup.failed",
    "lifespan.shutdown.complete",
    "lifespan.shutdown.failed",
)

Running = AbstractAsyncContextManager[Any, Any]


async def serve_lifespan(gate: Running, receive: Receive, send: Send) -> None:
    """Answer a server's lifespan for the gate alone."""
    await receive()
    if await _start(gate, send):
        await send({"type": "lifespan.startup.complete"})
        await _wait_for_shutdown(gate, receive, send)


async def wrap_lifespan(
    gate: Running, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Start the gate before the app, and end it after the app, in one lifespan."""
    startup = await receive()
    if not await _start(gate, send):
        return
    relayed = _Relayed(startup, receive, send, end=lambda: gate.__aexit__(None, None, None))
    try:
        await app(scope, relayed.receive, relayed.send)
    except Exception:
        if relayed.started:
            await relayed.end_once()
            raise
        logger.info("the wrapped app serves no lifespan; the gate goes on without it")
    if not relayed.ended:
        if not relayed.started:
            await send({"type": "lifespan.startup.complete"})
        await _wait_for_shutdown(gate, receive, send)


class _Relayed:
    """Hand the protocol on to the app: the startup that was read, then what comes."""

    def __init__(
        self, startup: Message, receive: Receive, send: Send, end: Callable[[], Awaitable[Any]]
    ) -> None:
        self._pending = [startup]
        self._receive = receive
        self._send = send
        self._end = end
        self.started = False
        self.ended = False

    async def receive(self) -> Message:
        return self._pending.pop() if self._pending else await self._receive()

    async def send(self, message: Message) -> None:
        if message["type"] in _STARTUP_ANSWERS:
            self.started = True
        if message["type"] in _LAST_ANSWERS:
            await self.end_once()
        await self._send(message)

    async def end_once(self) -> None:
        if not self.ended:
            self.ended = True
            await self._end()


async def _start(gate: Running, send: Send) -> bool:
    try:
        await gate.__aenter__()
    except ConfigurationError as error:
        logger.error("the gate cannot start: %s", error)
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return False
    return True


async def _wait_for_shutdown(gate: Running, receive: Receive, send: Send) -> None:
    await receive()
    await gate.__aexit__(None, None, None)
    await send({"type": "lifespan.shutdown.complete"})
