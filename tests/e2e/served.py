"""The apps that real servers serve in `test_unfit_servers.py`; the environment says the rest.

SERVED_JOURNAL names a file that what happens is written to, one word a line.
"""

import os
from pathlib import Path
from typing import Any

import httpx
from quart import Quart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from xuna_middleware import (
    Agent,
    Credentials,
    Identity,
    InvalidTokenError,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
)
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform


def note(word: str) -> None:
    with Path(os.environ["SERVED_JOURNAL"]).open("a", encoding="utf-8") as journal:
        journal.write(f"{word}\n")


class OneToken:
    """Know one token, and note when the gate starts and ends."""

    async def verify(self, credentials: Credentials) -> Identity:
        if credentials.token != os.environ["SERVED_TOKEN"]:
            raise InvalidTokenError
        return Identity(subject="ada")

    def start(self) -> None:
        note("started")

    @property
    def ready(self) -> bool:
        return True

    async def aclose(self) -> None:
        note("ended")


def rehearsal() -> XunaPlatform:
    stage = SandboxPlatform(unknown_agents=SandboxAgent)
    transport = httpx.ASGITransport(stage)
    return XunaPlatform(stage.api_key, base_url="https://sandbox.invalid", http_transport=transport)


def new_gate(platform: XunaPlatform | None = None) -> XunaGate:
    agents = [Agent("support", id="agent_1")]
    return XunaGate(verifier=OneToken(), agents=agents, platform=platform or rehearsal())


async def me(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.user.display_name)


async def hello(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.display_name)
    await websocket.close()


class WithoutDenial:
    """Take away what a server offers beyond the core specification, as daphne has it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "extensions": {}}, receive, send)


site = Starlette(routes=[Route("/api/me", me), WebSocketRoute("/api/hello", hello)])
app = XunaMiddleware(site, new_gate(), protect=["/api"])
without_denial = WithoutDenial(app)
mounted = Starlette(routes=[Mount("/xuna", new_gate())])
without_key = XunaMiddleware(site, new_gate(XunaPlatform()))

quart_site: Any = Quart(__name__)
quart_site.get("/api/me")(lambda: "reached")
quart = XunaMiddleware(quart_site, new_gate(), protect=["/api"])
