"""Turn a value or an error into ASGI messages."""

import http
import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xuna_middleware.errors import PRIVATE, GateError

#: What a WebSocket is closed with where the server can't send an HTTP denial (RFC 6455, 7.4.1).
_POLICY_VIOLATION: Final = 1008
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
_DENIAL_EXTENSION: Final = "websocket.http.response"


def answer(value: Mapping[str, Any], *, status: int = 200) -> Response:
    """Return a JSON answer that no cache keeps."""
    return Response(_json(value), status, PRIVATE, "application/json")


def problem(error: GateError) -> Response:
    """Return an error as problem+json (RFC 9457): fixed words, nothing of the request."""
    body = {
        "type": "about:blank",
        "title": _PHRASES.get(error.status_code, "Refused"),
        "status": error.status_code,
        "detail": error.detail,
        "code": error.code,
    }
    return Response(_json(body), error.status_code, error.headers, "application/problem+json")


async def deny(error: GateError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an HTTP request, or refuse a WebSocket before it is accepted."""
    if scope["type"] == "http":
        await problem(error)(scope, receive, send)
        return
    if (await receive())["type"] != "websocket.connect":
        return
    if _DENIAL_EXTENSION in (scope.get("extensions") or {}):
        await problem(error)(scope, receive, send)
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
