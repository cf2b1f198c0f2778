"""People from a provider, and devices with an API key, at one gate.

`xuna-gate api-key new --subject kiosk-7` prints a key once, and the line for KIOSK here.
uvicorn examples.api_keys:app, with XUNA_AI_API_KEY, OIDC_ISSUER and KIOSK_HASH in the environment.
"""

import os

from xuna_middleware import (
    Agent,
    APIKey,
    APIKeyVerifier,
    OIDCVerifier,
    XunaGate,
    any_of,
    require_roles,
    require_scopes,
)

issuer = os.environ.get("OIDC_ISSUER", "https://login.acme.com")
kiosk_hash = os.environ.get("KIOSK_HASH", f"sha256:{0:064x}")  # no key has this one

gate = XunaGate(
    verifier=[
        OIDCVerifier(issuer, audience="voice"),
        # To rotate: list the new key beside the old one for a while.
        APIKeyVerifier([APIKey(hash=kiosk_hash, subject="kiosk-7", roles=["kiosk"])]),
    ],
    agents=[
        Agent(
            "reception",
            id="agent_7101k5zvyjhmfg983brhmhkd98n6",
            allow=any_of(require_roles("kiosk"), require_scopes("voice:talk")),
        )
    ],
)
app = gate
