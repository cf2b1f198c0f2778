"""Bare ASGI, no framework: wrap any app. Only verified callers reach what lies beneath /api.

uvicorn examples.bare_asgi:app, with XUNA_AI_API_KEY and OIDC_ISSUER in the environment.
"""

import os

from starlette.types import Receive, Scope, Send

from xuna_middleware import Agent, OIDCVerifier, XunaGate, XunaMiddleware, get_identity


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError  # as the protocol wants it; the gate's lifespan runs regardless
    who = get_identity(scope)
    text = f"Hello {who.subject}" if who else "Hello stranger"
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
gate = XunaGate(
    verifier=OIDCVerifier(issuer, audience="voice"),
    agents=[Agent("support", id="agent_7101k5zvyjhmfg983brhmhkd98n6")],
)
app = XunaMiddleware(site, gate, protect=["/api"])
