"""Mount the gate at a prefix, started and stopped with the server; pages elsewhere may use it.

uvicorn examples.mounted:app, with XUNA_AI_API_KEY and OIDC_ISSUER in the environment.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

from xuna_middleware import Agent, OIDCVerifier, XunaGate, require_scopes

issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
gate = XunaGate(
    verifier=OIDCVerifier(issuer, audience="voice"),
    agents=[
        Agent("support", id="agent_7101k5zvyjhmfg983brhmhkd98n6"),
        Agent("staff", id="agent_2801k0q6m7v3", allow=require_scopes("voice:admin")),
    ],
    # Behind a proxy that serves this app beneath /app; the gate reads no Host header.
    public_url="https://api.acme.com/app/voice",
    cors_origins=("https://www.acme.com",),
)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    """Start the gate with the server: a missing key stops the start, not the first caller."""
    async with gate:
        yield


app = Starlette(routes=[Mount("/voice", gate)], lifespan=lifespan)
