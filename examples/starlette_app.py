"""Starlette: the gate beneath /xuna, and the app's own /api for those whom the gate knows.

uvicorn examples.starlette_app:app, with XUNA_AI_API_KEY and OIDC_ISSUER in the environment.
"""

import os

from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from xuna_middleware import Agent, OIDCVerifier, XunaGate, XunaMiddleware, claim, require_scopes

gate = XunaGate(
    verifier=OIDCVerifier(
        os.environ.get("OIDC_ISSUER", "https://login.acme.com"), audience="voice"
    ),
    agents=[
        Agent(
            "support",
            id="agent_7101k5zvyjhmfg983brhmhkd98n6",
            allow=require_scopes("voice:talk"),
            dynamic_variables={"user_name": claim("name", default="there")},
        )
    ],
)


@requires("voice:talk")
async def me(request: Request) -> JSONResponse:
    return JSONResponse({"user": request.user.subject})


app = Starlette(
    routes=[Route("/api/me", me)],
    middleware=[Middleware(XunaMiddleware, gate=gate, protect=["/api"])],
)
