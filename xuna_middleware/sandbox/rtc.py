"""The door of a token's session: `/rtc/v1`, where LiveKit clients knock.

It imports nothing of WebRTC before the first session comes. Without the extra it says which.
"""

import logging
from importlib.util import find_spec
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.websockets import WebSocket

from xuna_middleware.sandbox.cors import cors_headers
from xuna_middleware.sandbox.passes import PassError
from xuna_middleware.sandbox.refusals import RefusalError
from xuna_middleware.sandbox.workspace import UNAUTHORIZED, Admission, AdmissionError, Workspace

_NEEDED: Final = ("aiortc", "livekit.protocol")
logger = logging.getLogger("xuna_middleware.sandbox")


async def signal(workspace: Workspace, socket: WebSocket, *, ping_interval: float) -> None:
    """Serve one session. A refusal comes before the accept, as a LiveKit server's does."""
    try:
        _check_extra()
        from xuna_middleware.sandbox.webrtc import joining, session

        join = joining.read(_given(socket, "join_request"))
        admission = _admitted(workspace, _given(socket, "access_token"))
    except RefusalError as refused:
        logger.warning("session refused: %s", refused.detail)
        await _deny(socket, refused)
        return
    await session.Session(workspace, socket, admission, ping_interval=ping_interval).run(join)


def validate(workspace: Workspace, request: Request) -> Response:
    """Answer GET `/rtc/v1/validate`: a client that was refused asks here why."""
    try:
        _check_extra()
        workspace.passes.check_token(_given(request, "access_token"))
    except RefusalError as refused:
        return PlainTextResponse(refused.detail, refused.status, headers=cors_headers(request))
    except PassError as refused:
        return PlainTextResponse(f"sandbox: {refused}", 401, headers=cors_headers(request))
    return PlainTextResponse("success", headers=cors_headers(request))


def missing_extra() -> str | None:
    """Return what to say where the extra is missing, with the fix; None where it is there."""
    missing = ", ".join(name for name in _NEEDED if not _installed(name))
    return f'WebRTC needs {missing}: pip install "xuna-middleware[webrtc]"' if missing else None


def _check_extra() -> None:
    if (lacking := missing_extra()) is not None:
        raise RefusalError(501, lacking)


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of the package that it would lie in
        return False


def _given(connection: HTTPConnection, name: str) -> str:
    """Return a parameter that must be given once."""
    values = connection.query_params.getlist(name)
    if len(values) != 1:
        raise RefusalError(400, f"sandbox: give {name}, once")
    return values[0]


def _admitted(workspace: Workspace, token: str) -> Admission:
    try:
        return workspace.admit(agent_id=None, signature=None, token=token)
    except AdmissionError as refused:
        status = 401 if refused.code == UNAUTHORIZED else 403
        raise RefusalError(status, refused.reason) from None


async def _deny(socket: WebSocket, refused: RefusalError) -> None:
    """Answer in HTTP where the server can; elsewhere a close before the accept is a bare 403."""
    if "websocket.http.response" in socket.scope.get("extensions", {}):
        await socket.send_denial_response(PlainTextResponse(refused.detail, refused.status))
    else:
        await socket.close()
