"""The demo's own small app: one page, what the page has to know, and the gate's decisions.

The gate wraps it. `/api/me` and `/api/revoke` lie on a protected path: they answer verified callers
only, and read who they are from what the gate put into the scope.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuna_middleware import ConfigurationError, Identity, XunaGate, get_identity
from xuna_middleware.demo.feed import Feed, stream
from xuna_middleware.demo.scene import OPERATORS, OVERSEE_SCOPE
from xuna_middleware.sandbox import VOICE_SCOPE

PAGE = Path(__file__).parent / "page"
_LARGEST_BODY: Final = 4096

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


def page_app(config: Mapping[str, Any], feed: Feed, gate: XunaGate) -> Starlette:
    """Build the app behind the gate.

    `config` is what `/demo/config` tells the page; its `connect` lists the origins that the page
    may speak to: the provider's (http), the platform's and, for the relay, its own (ws).
    """

    async def page(request: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    async def about(request: Request) -> Response:
        return JSONResponse(dict(config))

    async def events(request: Request) -> Response:
        return stream(feed, request)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/operator", page),
            Route("/demo/config", about),
            Route("/demo/events", events),
            Route("/api/me", me),
            Route("/api/revoke", revoking(gate), methods=["POST"]),
            Mount("/page", StaticFiles(directory=PAGE)),
        ],
        middleware=[
            # A foreign name that resolves to this machine must not get to read the events.
            Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"]),
            Middleware(PageHeaders, connect=config["connect"]),
        ],
    )


async def me(request: Request) -> Response:
    """Tell the caller who they are, in the words that the page shows."""
    identity = _caller(request)
    return JSONResponse(
        {
            "name": identity.claims.get("name", identity.subject),
            "plan": identity.claims.get("plan", "no"),
            "may_talk": VOICE_SCOPE in identity.scopes,
            "may_oversee": OVERSEE_SCOPE in identity.scopes,
        }
    )


def revoking(gate: XunaGate) -> Endpoint:
    """Return the route by which operators revoke somebody: `{"issuer": …, "subject": …}`."""

    async def revoke(request: Request) -> Response:
        await check_operator(request)
        issuer, subject = await _named(request)
        try:
            await gate.revoke(issuer, subject)
        except ConfigurationError:
            raise HTTPException(400, "Name an issuer and a subject.") from None
        return JSONResponse({"revoked": subject})

    return revoke


async def check_operator(request: Request) -> None:
    """Refuse who is no operator, and what an operator's own page didn't send.

    Checks: the rule of the gate's `/sessions`; that it is JSON, and from no page elsewhere.

    Raises:
        GateError: the rule says no. HTTPException: 403 or 415.
    """
    refusal = await OPERATORS.refusal(_caller(request), request)
    if refusal is not None:
        raise refusal
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "This request must come from the page itself.")
    if request.headers.get("content-type") != "application/json":
        raise HTTPException(415, "The body must be application/json.")


async def _named(request: Request) -> tuple[Any, Any]:
    """Return the issuer and the subject in a body, or what stands there instead.

    Raises:
        HTTPException: 413 or 400, it is too large or no JSON object.
    """
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _LARGEST_BODY:
            raise HTTPException(413, "The body is too large.")
    try:
        body = json.loads(raw)
        return body.get("issuer"), body.get("subject")
    except (ValueError, RecursionError, AttributeError):
        raise HTTPException(400, "The body must be a JSON object.") from None


def _caller(request: Request) -> Identity:
    identity = get_identity(request.scope)
    assert identity is not None, "the gate protects /api"  # noqa: S101
    return identity


class PageHeaders:
    """Put strict headers on every answer: nothing foreign, no frames, no address passed on."""

    def __init__(self, app: ASGIApp, *, connect: list[str]) -> None:
        self.app = app
        policy = "; ".join(
            [
                "default-src 'none'",
                "script-src 'self'",
                "style-src 'self'",
                "img-src 'self'",
                f"connect-src 'self' {' '.join(connect)}",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
                "require-trusted-types-for 'script'",
            ]
        )
        self.headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self.headers]}
            await send(message)

        await self.app(scope, receive, with_headers)
