"""Starlette's signed session cookie says who calls, for the gate's routes as for the app's own.

uvicorn examples.session_cookie:app, with XUNA_AI_API_KEY and SESSION_SECRET in the environment.
"""

import os
import secrets

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from xuna_middleware import Agent, Identity, XunaGate, XunaMiddleware


async def signed_in(connection: HTTPConnection) -> Identity | None:
    user = connection.session.get("user")
    return Identity(subject=user) if user else None


gate = XunaGate(authenticator=signed_in, agents=[Agent("support", id="agent_7101k5zvyjhmfg98")])


async def login(request: Request) -> JSONResponse:
    request.session["user"] = (await request.json())["user"]  # once you have checked the password
    return JSONResponse({})


# Without a secret of its own each process forgets its sessions when it ends.
secret = os.environ.get("SESSION_SECRET") or secrets.token_hex()
app = Starlette(
    routes=[Route("/login", login, methods=["POST"])],
    middleware=[
        Middleware(SessionMiddleware, secret_key=secret, https_only=True),
        Middleware(XunaMiddleware, gate=gate),  # within: it reads what the session holds
    ],
)
