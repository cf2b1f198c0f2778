"""The ASGI lifespan protocol: start the gate with the server, whatever the wrapped app does.

- Each phase is answered once. If the app doesn't answer, because it returned or has no lifespan
  (Django raises), the gate answers for it; a failure that the app reports is passed on.
- The gate starts before the app and stops before the last answer, also when cancelled.
- If the gate can't be closed cleanly, the answer is `lifespan.shutdown.failed`; the log has the
  traceback.
"""

import logging
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuna_middleware.errors import ConfigurationError

logger = logging.getLogger("xuna_middleware")

_STARTUP: Final = "lifespan.startup"
_SHUTDOWN: Final = "lifespan.shutdown"
#: Every possible answer, with the phase that it answers.
_ANSWERS: Final = {
    f"{phase}.{outcome}": phase
    for phase in (_STARTUP, _SHUTDOWN)
    for outcome in ("complete", "failed")
}

Running = AbstractAsyncContextManager[Any, Any]


async def serve_lifespan(gate: Running, receive: Receive, send: Send) -> None:
    """Answer a server's lifespan for the gate alone."""
    await wrap_lifespan(gate, _no_app, {"type": "lifespan"}, receive, send)


async def wrap_lifespan(
    gate: Running, app: ASGIApp, scope: Scope, receive: Receive, send: Send
) -> None:
    """Start the gate before the app, and stop it after the app, in one lifespan."""
    startup = await receive()
    if not await _start(gate, send):
        return
    relay = _Relay(gate, startup, receive, send)
    try:
        await _run(app, scope, relay)
        await relay.finish()
    finally:
        await relay.end()


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave every answer to the relay."""


class _Relay:
    """Pass the protocol on to the app: the startup already read, then later messages."""

    def __init__(self, gate: Running, startup: Message, receive: Receive, send: Send) -> None:
        self._gate = gate
        self._pending = [startup]
        self._receive = receive
        self._send = send
        self._ended = False
        self.asked = {_STARTUP}
        self.answered: set[str] = set()

    async def receive(self) -> Message:
        message = self._pending.pop() if self._pending else await self._receive()
        self.asked.add(message["type"])
        return message

    async def send(self, message: Message) -> None:
        """Pass on the first answer to a phase; drop later ones."""
        phase = _ANSWERS.get(message["type"])
        if phase in self.answered:
            return
        if phase == _SHUTDOWN:
            await self.send({"type": "lifespan.startup.complete"})
        if phase is not None:
            self.answered.add(phase)
        await self._send(await self._last(message) if _is_last(message) else message)

    async def finish(self) -> None:
        """Answer the phases that the app left unanswered, each when it is due."""
        await self.send({"type": "lifespan.startup.complete"})
        if _SHUTDOWN in self.answered:
            return
        if _SHUTDOWN not in self.asked:
            await self._receive()
        await self.send({"type": "lifespan.shutdown.complete"})

    async def end(self) -> bool:
        """Close the gate, once; return whether it closed cleanly."""
        if self._ended:
            return True
        self._ended = True
        return await _close(self._gate)

    async def _last(self, message: Message) -> Message:
        """Stop the gate, and return the message to send after it."""
        self.answered.add(_SHUTDOWN)
        if await self.end() or message["type"] != "lifespan.shutdown.complete":
            return message
        return _failed(_SHUTDOWN, "the gate did not close cleanly; its log says why")


async def _run(app: ASGIApp, scope: Scope, relay: _Relay) -> None:
    try:
        await app(scope, relay.receive, relay.send)
    except Exception as error:
        if _STARTUP in relay.answered:
            if _SHUTDOWN in relay.asked:
                await relay.send(_failed(_SHUTDOWN, "the wrapped app raised at its shutdown"))
            raise
        if "lifespan" in str(error):  # Django's error says so
            logger.info("the wrapped app serves no lifespan; the gate goes on without it")
            return
        logger.warning(
            "the wrapped app raised before it answered the lifespan's startup, as apps do that "
            "serve no lifespan; the gate goes on without it",
            exc_info=True,
        )


async def _start(gate: Running, send: Send) -> bool:
    try:
        await gate.__aenter__()
    except ConfigurationError as error:
        logger.error("the gate cannot start: %s", error)
        await send(_failed(_STARTUP, str(error)))
        return False
    except Exception:
        logger.exception("the gate cannot start")
        await _close(gate)
        await send(_failed(_STARTUP, "the gate cannot start; its log says why"))
        return False
    return True


async def _close(gate: Running) -> bool:
    try:
        await gate.__aexit__(None, None, None)
    except Exception:
        logger.exception("the gate did not close cleanly")
        return False
    return True


def _is_last(message: Message) -> bool:
    return (
        message["type"] == "lifespan.startup.failed" or _ANSWERS.get(message["type"]) == _SHUTDOWN
    )


def _failed(phase: str, reason: str) -> Message:
    return {"type": f"{phase}.failed", "message": reason}
