"""The conversation itself goes through the gate: nothing leaves that a browser could change.

uvicorn examples.relayed:app --ws websockets-sansio, with XUNA_AI_API_KEY and OIDC_ISSUER.
"""

import os

from starlette.applications import Starlette

from xuna_middleware import (
    Agent,
    Concurrent,
    OIDCVerifier,
    RelayRules,
    XunaGate,
    XunaMiddleware,
    claim,
    require_scopes,
)

gate = XunaGate(
    verifier=OIDCVerifier(
        os.environ.get("OIDC_ISSUER", "https://login.acme.com"), audience="voice"
    ),
    public_url=os.environ.get("PUBLIC_URL", "http://localhost:8000/xuna"),
    operators=require_scopes("voice:oversee"),  # GET /xuna/sessions, DELETE /xuna/sessions/{id}
    agents=[
        Agent(
            "bank",
            id="agent_7101k5zvyjhmfg983brhmhkd98n6",
            transports=("relay",),
            max_duration=600,
            dynamic_variables={"plan": claim("plan"), "secret__core": lambda who: who.subject},
            limits=[Concurrent(1)],
            relay=RelayRules(idle_timeout=120, frames_per_second=50),
        )
    ],
)
app = XunaMiddleware(Starlette(), gate)
