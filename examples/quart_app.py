"""Quart with a login of its own: its session says who calls, and a route of its own issues.

hypercorn examples.quart_app:app, with XUNA_AI_API_KEY and QUART_SECRET_KEY in the environment.
"""

from typing import Any

from quart import Quart, request, session
from quart.sessions import SecureCookieSessionInterface
from starlette.requests import HTTPConnection

from xuna_middleware import Agent, GateError, Identity, XunaGate, XunaMiddleware

app = Quart(__name__)
app.config.from_prefixed_env()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"


async def signed_in(connection: HTTPConnection) -> Identity | None:
    """Read Quart's session where Quart itself isn't asked: on the gate's own routes."""

gate = XunaGate(authenticator=signed_in, agents=[...])
