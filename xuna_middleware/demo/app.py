"""The demo's own small app: one page, what the page has to know, and the gate's decisions.

The gate wraps it. `/api/me` lies on a protected path: it answers verified callers only, and reads
who they are from what the gate put into the scope.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuna_middleware import get_identity
from xuna_middleware.demo.feed import Feed, stream
from xuna_middleware.sandbox import VOICE_SCOPE

PAGE = Path(__file__).parent / "page"


def page_app(config: Mapping[str, Any], feed: Feed) -> Starlette:
    """Build the app behind the gate.

    `config` is what `/demo/config` tells the page; its `connect` lists the origins beside its own
    that the page may speak to: the provider's (http) and the platform's (ws).
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
            Route("/demo/config", about),
            Route("/demo/events", events),
            Route("/api/me", me),
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
    identity = get_identity(request.scope)
    assert identity is not None, "the gate protects /api"  # noqa: S101
    return JSONResponse(
        {
            "name": identity.claims.get("name", identity.subject),
            "plan": identity.claims.get("plan", "no"),
            "may_talk": VOICE_SCOPE in identity.scopes,
        }
    )


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
