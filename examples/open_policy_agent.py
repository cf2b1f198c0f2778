"""Leave the decision to Open Policy Agent: the rule asks its REST API.

uvicorn examples.open_policy_agent:app, with XUNA_AI_API_KEY, OIDC_ISSUER and OPA_URL.
"""

import os
from typing import Any

import httpx

from xuna_middleware import Agent, Identity, OIDCVerifier, XunaGate, deny, with_timeout

issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
opa_url = os.environ.get("OPA_URL", "http://127.0.0.1:8181/v1/data/voice/allow")
client = httpx.AsyncClient(timeout=1.0)


async def opa(who: Identity) -> Any:
    """Return what the policy says: true, or an object with `allow` and a `reason`."""
    asked = {"subject": who.subject, "issuer": who.issuer, "scopes": sorted(who.scopes)}
    reply = await client.post(opa_url, json={"input": asked})
    result = reply.raise_for_status().json().get("result")  # left out where nothing is decided
    if isinstance(result, dict) and result.get("allow") is not True:
        return deny("policy", result.get("reason") or "The policy says no.")
    return result is True or isinstance(result, dict)


gate = XunaGate(
    verifier=OIDCVerifier(issuer, audience="voice"),
    agents=[
        Agent(
            "support",
            id="agent_7101k5zvyjhmfg983brhmhkd98n6",
            allow=with_timeout(opa, seconds=1.5, on_unavailable="deny"),
        )
    ],
)
app = gate
