"""The client's end of a relayed conversation: its ASGI WebSocket."""

import asyncio
from collections.abc import Iterable
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from xuna_middleware.errors import UnavailableError
from xuna_middleware.platform.protocol import SUBPROTOCOL
from xuna_middleware.relay.close_codes import (
    BINARY_FRAME,
    BROKEN_OFF,
    FIRST_FRAME_TIMEOUT,
    FRAME_TOO_LARGE,
    GONE,
    NON_AUDIO_FRAME_TOO_LARGE,
    CloseReason,
    ConversationClosedError,
    hung_up,
    short,
)
from xuna_middleware.relay.usage import size_of
from xuna_middleware.web.servers import unfit_server

#: Seconds for the first frame, and for sending a close.
_FIRST: Final = 5.0
_CLOSE: Final = 2.0


class Client:
    """The client's WebSocket. `receive` and `send` are the server's own, for the pumps."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self.send = send
        self._offered: Iterable[str] = scope.get("subprotocols", ())
        self._is_open = False
        #: The task that sends the close; it may run longer than `close()` waits.
        self._leaving: asyncio.Future[None] | None = None

    def check_server(self) -> None:
        """Refuse a server that would buffer too much from a client while the gate doesn't read.

        Raises:
            UnavailableError: this is such a server; the cause names the fix.
        """
        unfit = unfit_server(self.receive, self.send)
        if unfit is not None:
            raise UnavailableError(cause=f"configuration: no relay on this server: {unfit}")

    async def accept(self) -> None:
        """Accept the WebSocket, with the sub-protocol `convai` if the client offers it.

        Raises:
            ConversationClosedError: the client has already gone.
        """
        message = await self.receive()
        if message["type"] != "websocket.connect":
            raise ConversationClosedError(GONE)
        chosen = SUBPROTOCOL if SUBPROTOCOL in self._offered else None
        try:
            await self.send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
        except Exception:  # servers raise different errors if the client has gone
            raise ConversationClosedError(GONE) from None
        self._is_open = True

    async def first(self, max_frame: int, max_non_audio_frame: int) -> str:
        """Return the first frame.

        Raises:
            ConversationClosedError: no frame comes in time, or it is binary or too large, or the
                client closes.
        """
        try:
            async with asyncio.timeout(_FIRST):
                message = await self.receive()
        except TimeoutError:
            raise ConversationClosedError(FIRST_FRAME_TIMEOUT) from None
        text = message.get("text")
        if text is None:
            raise ConversationClosedError(without_text(message))
        size = size_of(text)
        if size > max_frame:
            raise ConversationClosedError(FRAME_TOO_LARGE)
        if size > max_non_audio_frame:
            raise ConversationClosedError(NON_AUDIO_FRAME_TOO_LARGE)
        return str(text)

    async def close(self, ending: CloseReason) -> None:
        """Send a close, unless the client never connected or has left."""
        if not self._is_open or ending.by == "client":
            return
        self._is_open = False
        goodbye = {"type": "websocket.close", "code": ending.code, "reason": short(ending.reason)}
        leaving = self._leaving = asyncio.ensure_future(self._say(goodbye))
        await asyncio.wait((leaving,), timeout=_CLOSE)
        leaving.cancel()  # without waiting: a server's send() may ignore it

    async def _say(self, goodbye: Message) -> None:
        try:
            await self.send(goodbye)
        except Exception:  # servers raise different errors if the client has gone
            return


def without_text(message: Message) -> CloseReason:
    """Return how a message without text ends the conversation: a binary frame, or a close."""
    if message["type"] != "websocket.disconnect":
        return BINARY_FRAME
    return hung_up(int(message.get("code") or BROKEN_OFF), str(message.get("reason") or ""))
