"""Litestar: the gate mounted at /xuna, and its callers as a dependency of one's own handlers.

uvicorn examples.litestar_app:app, with XUNA_AI_API_KEY and OIDC_ISSUER in the environment.
"""

import os
from typing import Any

from litestar import Litestar, Request, asgi, get
from litestar.di import NamedDependency, Provide
from litestar.types import Receive, Scope, Send
from starlette.requests import HTTPConnection

from xuna_middleware import Agent, Identity, OIDCVerifier, XunaGate

issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
gate = XunaGate(
    verifier=OIDCVerifier(issuer, audience="voice"),
    agents=[Agent("support", id="agent_7101k5zvyjhmfg983brhmhkd98n6")],
)


@asgi("/xuna", is_mount=True, copy_scope=True)
async def xuna(scope: Scope, receive: Receive, send: Send) -> None:
    await gate(scope, receive, send)  # type: ignore[arg-type]


async def caller(request: Request[Any, Any, Any]) -> Identity:
    return await gate.identity(HTTPConnection(request.scope))  # type: ignore[arg-type]


@get("/me", dependencies={"who": Provide(caller)})
async def me(who: NamedDependency[Identity]) -> dict[str, str]:
    return {"user": who.subject}


app = Litestar([xuna, me], lifespan=[lambda _: gate])
