"""Behind Cloudflare Access: whoever it signed in may talk, and the agent knows their address.

uvicorn examples.cloudflare:app, with XUNA_AI_API_KEY, ACCESS_TEAM and ACCESS_AUD in the environment
(the AUD tag of the application). Let nobody reach this server but Cloudflare: cloudflared does.
"""

import os

import httpx

from xuna_middleware import Agent, XunaGate, claim, providers


def make(transport: httpx.AsyncBaseTransport | None = None) -> XunaGate:
    """Return the gate; a test gives a transport that has keys of its own."""
    access = providers.cloudflare_access(
        os.environ.get("ACCESS_TEAM", "acme"),
        audience=os.environ.get("ACCESS_AUD", "the application's AUD tag"),
        http_transport=transport,
    )
    email = claim("email")
    return XunaGate(
        authenticator=access,  # ambient, so callers must come from the page itself
        agents=[
            Agent("support", id="agent_7101k5zvyjhmfg98", dynamic_variables={"user_email": email})
        ],
    )


app = make()
