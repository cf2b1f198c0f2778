"""Turn a value or an error into ASGI messages."""

import http
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from xuna_middleware.errors import PRIVATE, GateError, InvalidRequestError, LimitReachedError

#: Close code of a WebSocket if the server can't send an HTTP denial (RFC 6455, 7.4.1).
_POLICY_VIOLATION: Final = 1008
_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}
_DENIAL_EXTENSION: Final = "websocket.http.response"
#: A problem type has one title, the same each time (RFC 9457 section 3.1.3).
_TITLES: Final = {LimitReachedError.problem_type: "Quota exceeded"}
_PROBLEM_TYPE: Final = (b"content-type", b"application/problem+json")


def not_found() -> InvalidRequestError:
    """Return the 404 for an unknown path."""
    return InvalidRequestError(
        "There is nothing here.", status_code=404, code="not_found", cause="path: no route"
    )


def method_not_allowed(allowed: Iterable[str]) -> InvalidRequestError:
    """Return the 405 for a path that accepts only other methods."""
    return InvalidRequestError(
        "This method is not served here.",
        status_code=405,
        code="method_not_allowed",
        cause="method: not served",
        headers={"Allow": ", ".join(allowed)},
    )


def answer(
    value: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a JSON answer that no cache stores."""
    return Response(_json(value), status, {**PRIVATE, **(headers or {})}, "application/json")


@lru_cache(maxsize=256)
def _problem(
    status: int, detail: str, code: str, problem_type: str, policies: tuple[str, ...]
) -> bytes:
    """Return an error as problem+json (RFC 9457): fixed words, nothing from the request."""
    violated = {"violated-policies": policies} if policies else {}
    return _json(
        {
            "type": problem_type,
            "title": _TITLES.get(problem_type) or _PHRASES.get(status, "Refused"),
            "status": status,
            "detail": detail,
            "code": code,
            **violated,
        }
    )


async def deny(error: GateError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer an HTTP request, or refuse a WebSocket before it is accepted."""
    if scope["type"] == "http":
        await _refuse(error, "http.response", send)
        return
    if (await receive())["type"] != "websocket.connect":
        return
    if _DENIAL_EXTENSION in (scope.get("extensions") or {}):
        await _refuse(error, _DENIAL_EXTENSION, send)
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


async def _refuse(error: GateError, kind: str, send: Send) -> None:
    """Send the two messages directly: a flood of refusals must cost as little as possible."""
    policies = error.policies if isinstance(error, LimitReachedError) else ()
    body = _problem(error.status_code, error.detail, error.code, error.problem_type, policies)
    headers = [
        (name.lower().encode("ascii"), value.encode("ascii"))
        for name, value in (error.headers or {}).items()
    ]
    headers += ((b"content-length", b"%d" % len(body)), _PROBLEM_TYPE)
    await send({"type": f"{kind}.start", "status": error.status_code, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
