"""Cross-origin requests to the gate and to protected paths of the app (Fetch standard, CORS).

A browser sends a preflight without credentials, and anybody can send a request that looks like one:
an app that handled it would run for an unverified caller. So the gate answers preflights by its own
`cors_origins`; or the app does, if its operator configured that. The app then gets only the headers
of CORS, `Host` and a proxy's headers (`Forwarded`, `X-Forwarded-For`, `-Host` and `-Proto`), since
others, such as X-HTTP-Method-Override, can make it run something else; and only the status and the
headers of CORS of its answer are sent back.
"""

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuna_middleware.errors import PRIVATE, AccessDeniedError, UnavailableError
from xuna_middleware.web.requests import has_large_headers

#: Methods that a page may use; the app decides which of them a path serves.
_METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
_MAX_AGE: Final = "600"
#: A list of header names (RFC 9110 section 5.6.2); no browser asks for so many.
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,2048}")
#: Seconds for an app to answer a preflight, and then to end.
PREFLIGHT_SECONDS: Final = 5.0
_ENDING_SECONDS: Final = 1.0
_ALLOW_ORIGIN: Final = b"access-control-allow-origin"
_OF_CORS: Final = b"access-control-"
#: The headers of a preflight that an app gets if it answers preflights.
_ASKING: Final = frozenset(
    {
        *(b"host", b"origin", b"access-control-request-method"),
        *(b"access-control-request-headers", b"access-control-request-private-network"),
        # Without them an app behind a proxy redirects to https, or refuses the host.
        *(b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
    }
)


def is_preflight(scope: Scope) -> bool:
    """Return whether a request is a preflight, exactly as the Fetch standard defines it."""
    if scope.get("method") != "OPTIONS" or has_large_headers(scope):
        return False
    names = [name for name, _ in scope["headers"]]
    return names.count(b"origin") == 1 and names.count(b"access-control-request-method") == 1


class GateCORS:
    """Let the listed origins read the gate's own answers, denials included.

    Args:
        origins: exact origins; without one, nothing is added.
        credentials: whether requests may include cookies.
        allowed_headers, exposed_headers: headers that a page may send and read.
    """

    def __init__(
        self,
        origins: tuple[str, ...],
        *,
        credentials: bool,
        allowed_headers: Sequence[str],
        exposed_headers: Sequence[str],
    ) -> None:
        self._origins = origins
        self._options: dict[str, Any] = {
            "allow_origins": origins,
            "allow_methods": ("GET", "POST", "DELETE"),
            "allow_headers": allowed_headers,
            "allow_credentials": credentials,
            "expose_headers": exposed_headers,
        }

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Wrap the app to add CORS headers to its answers and to answer preflights. Not where the
        header fields are too large: the app refuses such a request.
        """
        if not self._origins:
            return app
        cors = CORSMiddleware(app, **self._options)
        cors.preflight_headers.update(PRIVATE)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await (app if has_large_headers(scope) else cors)(scope, receive, send)

        return serve


class AppCORS:
    """Answer preflights for the app's protected paths, and let the listed origins read answers.

    Args:
        origins: exact origins.
        credentials: whether requests may include cookies.
    """

    def __init__(self, origins: tuple[str, ...], *, credentials: bool) -> None:
        self._origins = frozenset(origins)
        self._with_credentials = (
            ((b"access-control-allow-credentials", b"true"),) if credentials else ()
        )

    def preflight(self, scope: Scope) -> Response:
        """Return the answer to a preflight.

        Raises:
            AccessDeniedError: its origin is not listed.
        """
        headers = Headers(scope=scope)
        if headers["origin"] not in self._origins:
            raise AccessDeniedError(
                "This origin may not ask.",
                code="cross_site",
                cause="preflight: its Origin is not one of cors_origins; list it there, or say "
                'preflight="app" if the app answers preflights by itself',
            )
        answer = Response(status_code=204, headers={**PRIVATE, "Vary": "Origin"})
        answer.raw_headers += self._allowing(headers["origin"])
        answer.headers["Access-Control-Allow-Methods"] = _METHODS
        answer.headers["Access-Control-Max-Age"] = _MAX_AGE
        names = headers.get("access-control-request-headers", "")
        if names and _HEADER_NAMES.fullmatch(names):
            answer.headers["Access-Control-Allow-Headers"] = names
        return answer

    def readable(self, scope: Scope, send: Send) -> Send:
        """Return a `send` that lets a listed origin read the answer; CORS headers that the app sets
        stay.
        """
        origin = Headers(scope=scope).get("origin") if self._origins else None
        if origin is None or origin not in self._origins or scope["type"] != "http":
            return send
        return partial(_send_readable, [*self._allowing(origin), (b"vary", b"Origin")], send)

    def _allowing(self, origin: str) -> list[tuple[bytes, bytes]]:
        return [(_ALLOW_ORIGIN, origin.encode("latin-1")), *self._with_credentials]


async def pass_preflight_on(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the app answer a preflight; only the status and headers of CORS are sent back, and the
    app gets nothing of the request's body, query or other headers. It is cancelled once it has
    answered, or after 5 seconds.

    Raises:
        UnavailableError: it didn't answer in time.
    """
    is_asked = is_sent = is_cancelled = False
    is_over = asyncio.Event()

    async def receive_nothing() -> Message:
        nonlocal is_asked
        if not is_asked:
            is_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        # An app that calls again waits for the client's disconnect: apps do that in a loop.
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return message

    async def send_bare(message: Message) -> None:
        nonlocal is_sent
        if is_cancelled:
            raise OSError("nobody waits for the answer to this preflight")
        if is_sent:
            await asyncio.Event().wait()  # until cancelled: nobody reads a body
        if message["type"] != "http.response.start":
            return
        is_sent = True
        headers = [
            (name.lower(), value)
            for name, value in message.get("headers", ())
            if name.lower().startswith(_OF_CORS) or name.lower() == b"vary"
        ]
        if message["status"] not in (204, 304):
            headers.append((b"content-length", b"0"))
        await send({"type": message["type"], "status": message["status"], "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        is_over.set()

    asking = [(name, value) for name, value in scope["headers"] if name in _ASKING]
    bare = {**scope, "headers": asking, "query_string": b""}
    answering = asyncio.ensure_future(app(bare, receive_nothing, send_bare))
    waiting = asyncio.ensure_future(is_over.wait())
    try:
        await asyncio.wait(
            (answering, waiting), timeout=PREFLIGHT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        waiting.cancel()
        has_ended, is_answered = answering.done(), is_sent
        is_cancelled = True
        answering.cancel()
        await asyncio.wait((answering, waiting), timeout=_ENDING_SECONDS)
        failure = _failure(answering)
    if is_answered:
        return
    if not has_ended:
        raise UnavailableError(
            cause=f"preflight: the app did not answer within {PREFLIGHT_SECONDS:g} s; "
            'preflight="gate" answers by cors_origins instead'
        )
    if failure is not None:
        raise failure


def _failure(task: asyncio.Future[None]) -> Exception | None:
    """Return the app's exception; None if it raised none, was cancelled, or is still running."""
    error = task.exception() if task.done() and not task.cancelled() else None
    return error if isinstance(error, Exception) else None


async def _send_readable(allowing: list[tuple[bytes, bytes]], send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        headers = list(message.get("headers", ()))
        if all(name.lower() != _ALLOW_ORIGIN for name, _ in headers):
            message = {**message, "headers": [*headers, *allowing]}
    await send(message)
