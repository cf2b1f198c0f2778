"""Quart with its own login: the session says who calls, and a route of one's own issues.

hypercorn examples.quart_app:app, with XUNA_AI_API_KEY and QUART_SECRET_KEY in the environment."""

from typing import Any

from quart import Quart, request, session
from starlette.requests import HTTPConnection

from xuna_middleware import Agent, GateError, Identity, XunaGate, XunaMiddleware

app = Quart(__name__)
app.config.from_prefixed_env()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"  # gate.issue leaves cross-site requests to you


async def signed_in(connection: HTTPConnection) -> Identity | None:
    opened = await app.session_interface.open_session(app, connection)  # type: ignore[arg-type]
    return Identity(subject=opened["user"]) if opened and "user" in opened else None


gate = XunaGate(authenticator=signed_in, agents=[Agent("support", id="agent_7101k5zvyjhmfg98")])
app.asgi_app = XunaMiddleware(app.asgi_app, gate)  # type: ignore[assignment, arg-type]


@app.post("/login")
async def login() -> str:
    session["user"] = (await request.form)["user"]  # once you have checked the password
    return "Welcome."


@app.post("/call")
async def call() -> dict[str, Any]:
    identity = await gate.identity(HTTPConnection(request.scope))  # type: ignore[arg-type]
    return (await gate.issue(identity, transport="webrtc")).to_dict()


@app.errorhandler(GateError)
async def refused(error: GateError) -> tuple[Any, ...]:
    return {"code": error.code, "detail": error.detail}, error.status_code, error.headers
