"""The WebSocket: who may come in, over which sub-protocol, and how frames travel there."""

import logging
from typing import Final

from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket, WebSocketDisconnect

from xuna_middleware.sandbox.carrier import Ended
from xuna_middleware.sandbox.dialogue import Dialogue
from xuna_middleware.sandbox.workspace import AdmissionError, Workspace

_SUBPROTOCOL: Final = "convai"
logger = logging.getLogger("xuna_middleware.sandbox")


async def converse(workspace: Workspace, socket: WebSocket, *, ping_interval: float) -> None:
    """Serve one WebSocket. A refusal comes after the accept, where a browser can read its code."""
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(_SUBPROTOCOL if _SUBPROTOCOL in offered else None)
    carrier = WebSocketCarrier(socket)
    try:
        admission = workspace.admit(**_presented(socket.query_params))
    except AdmissionError as refused:
        logger.warning("conversation refused: %s", refused.reason)
        await carrier.close(refused.code, refused.reason)
        return
    await Dialogue(workspace, carrier, admission, ping_interval=ping_interval).run()


class WebSocketCarrier:
    """Carry frames as text messages of an accepted WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, text: str) -> None:
        """Send one frame. Raises Ended where the client is gone."""
        try:
            await self._socket.send_text(text)
        except WebSocketDisconnect:
            raise Ended(1006, by="user") from None

    async def receive(self) -> str:
        """Return the next frame. Raises Ended at a disconnect, and at a binary message."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise Ended(message.get("code", 1005), message.get("reason") or "", by="user")
        if message.get("text") is None:
            raise Ended(1003, "sandbox: frames are text", by="agent")
        return str(message["text"])

    async def close(self, code: int, reason: str) -> None:
        """Close with this code; a client that is already gone is no fault."""
        try:
            await self._socket.close(code, reason)
        except (RuntimeError, WebSocketDisconnect):
            logger.debug("the client was gone before the close")


def _presented(query: QueryParams) -> dict[str, str | None]:
    """Return what the URL brought. A parameter given twice says nothing; others don't matter."""
    names = {"agent_id": "agent_id", "signature": "conversation_signature", "token": "token"}
    values = {name: query.getlist(spelled) for name, spelled in names.items()}
    return {name: given[0] if len(given) == 1 else None for name, given in values.items()}
