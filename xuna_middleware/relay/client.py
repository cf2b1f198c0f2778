"""The client's end of a relayed conversation: its WebSocket, as ASGI gives it."""

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

#: Seconds for the first frame, and for a close to leave.
_FIRST: Final = 5.0
_CLOSE: Final = 2.0


class Client:
    """The client's WebSocket. `receive` and `send` are the server's own, for the pumps."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self.send = send
        self._offered: Iterable[str] = scope.get("subprotocols", ())
        self._is_open = False
        #: The goodbye, which may be under way for longer than anybody waits.
        self._leaving: asyncio.Future[None] | None = None

    def check_server(self) -> None:
        """Refuse a server that would hold too much of a client that isn't read.

        Raises:
            UnavailableError: it is one of those; the cause names the fix.
        """
        unfit = unfit_server(self.receive, self.send)
        if unfit is not None:
            raise UnavailableError(cause=f"configuration: no relay on this server: {unfit}")

    async def accept(self) -> None:
        """Accept the WebSocket, with the sub-protocol `convai` where that is offered.

        Raises:
            EndedError: it was gone already.
        """
        message = await self.receive()
        if message["type"] != "websocket.connect":
            raise ConversationClosedError(GONE)
        chosen = SUBPROTOCOL if SUBPROTOCOL in self._offered else None
        try:
            await self.send({"type": "websocket.accept", "subprotocol": chosen, "headers": []})
        except Exception:  # servers raise what they like where the client has gone
            raise ConversationClosedError(GONE) from None
        self._is_open = True

    async def first(self, max_frame: int, max_non_audio_frame: int) -> str:
        """Return the first frame.

        Raises:
            EndedError: none comes in time, or it is binary, too large, or the client's goodbye.
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
        """Say goodbye, if anybody is there to hear it."""
        if not self._is_open or ending.by == "client":
            return
        self._is_open = False
        goodbye = {"type": "websocket.close", "code": ending.code, "reason": short(ending.reason)}
        leaving = self._leaving = asyncio.ensure_future(self._say(goodbye))
        await asyncio.wait((leaving,), timeout=_CLOSE)
        leaving.cancel()  # and nobody waits: a server's send() may go on in spite of that

    async def _say(self, goodbye: Message) -> None:
        try:
            await self.send(goodbye)
        except Exception:  # servers raise what they like where the client has gone
            return


def without_text(message: Message) -> CloseReason:
    """Return the end that a message without text makes: a binary frame, or a goodbye."""
    if message["type"] != "websocket.disconnect":
        return BINARY_FRAME
    return hung_up(int(message.get("code") or BROKEN_OFF), str(message.get("reason") or ""))
