"""An identity provider of one's own: opaque keys that partners hold, looked up by their hash.

uvicorn examples.own_provider:app, with XUNA_AI_API_KEY and PARTNER_KEYS ("<sha-256> acme, …").
"""

import hashlib
import os

from xuna_middleware import Agent, Credentials, Identity, InvalidTokenError, XunaGate, require_roles


class PartnerKeys:
    """Verify a partner's key. One async method is all that makes a verifier.

    It returns an Identity or raises; a failure of yours (a database that is away) becomes a 503.
    """

    def __init__(self, table: str) -> None:
        # Hashes only, so that neither a leak of the table nor its look-up time tells a key.
        self._partners = dict(line.split() for line in table.split(",") if line.strip())

    async def verify(self, credentials: Credentials) -> Identity:
        digest = hashlib.sha256(credentials.token.encode()).hexdigest()
        partner = self._partners.get(digest)  # or await a query
        if partner is None:
            raise InvalidTokenError(cause="partner key: unknown")
        return Identity(subject=partner, issuer="partners", roles=frozenset({"partner"}))


gate = XunaGate(
    verifier=PartnerKeys(os.environ.get("PARTNER_KEYS", "")),
    agents=[
        Agent("support", id="agent_7101k5zvyjhmfg983brhmhkd98n6", allow=require_roles("partner"))
    ],
)
app = gate  # a gate is an ASGI app: by itself it serves at the root
