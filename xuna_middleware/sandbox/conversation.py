"""The WebSocket's door: who may come in, and over which sub-protocol."""

import logging
from typing import Final

from starlette.datastructures import QueryParams
from starlette.websockets import WebSocket

from xuna_middleware.sandbox.dialogue import Dialogue, close
from xuna_middleware.sandbox.workspace import AdmissionError, Workspace

_SUBPROTOCOL: Final = "convai"
logger = logging.getLogger("xuna_middleware.sandbox")


async def converse(workspace: Workspace, socket: WebSocket, *, ping_interval: float) -> None:
    """Serve one WebSocket. A refusal comes after the accept, where a browser can read its code."""
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(_SUBPROTOCOL if _SUBPROTOCOL in offered else None)
    try:
        admission = workspace.admit(**_presented(socket.query_params))
    except AdmissionError as refused:
        logger.warning("conversation refused: %s", refused.reason)
        await close(socket, refused.code, refused.reason)
        return
    await Dialogue(workspace, socket, admission, ping_interval=ping_interval).run()


def _presented(query: QueryParams) -> dict[str, str | None]:
    """Return what the URL brought. A parameter given twice says nothing; others don't matter."""
    names = {"agent_id": "agent_id", "signature": "conversation_signature", "token": "token"}
    values = {name: query.getlist(spelled) for name, spelled in names.items()}
    return {name: given[0] if len(given) == 1 else None for name, given in values.items()}
