"""Gates that real servers serve, in front of a real provider; the environment says the rest.

SERVED_ISSUER is the provider, SERVED_PUBLIC_URL the gate's public address, in which `{port}` stands
for the server's port, SERVED_BINDING how tokens may be bound: `none`, `dpop`, `nonce` or `mtls`.
"""

import os
from typing import Any, Final

from served import me, rehearsal  # type: ignore[import-not-found]
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from xuna_middleware import Agent, DPoP, OIDCVerifier, XunaGate, XunaMiddleware
from xuna_middleware.identity import JWKSRefresh

BINDINGS: Final[dict[str, dict[str, Any]]] = {
    "none": {},
    "dpop": {"dpop": "required"},
    "nonce": {"dpop": DPoP(mode="required", nonce=True)},
    "mtls": {"mtls": "required"},
}


def new_gate() -> XunaGate:
    binding = os.environ["SERVED_BINDING"]
    proxied: dict[str, Any] = (
        {"trusted_proxies": ("127.0.0.1",), "client_cert_header": "Client-Cert"}
        if binding == "mtls"
        else {}
    )
    return XunaGate(
        verifier=OIDCVerifier(
            os.environ["SERVED_ISSUER"],
            audience="voice",
            freshness=JWKSRefresh(refresh_after=10, max_stale=60, cooldown=1),
            **BINDINGS[binding],
        ),
        agents=[Agent("support", id="agent_1")],
        platform=rehearsal(),
        public_url=os.environ["SERVED_PUBLIC_URL"].format(port=os.environ["SERVED_PORT"]),
        **proxied,
    )


site = Starlette(routes=[Route("/api/me", me)])
wrapped = XunaMiddleware(site, new_gate(), protect=["/api"])
mounted = Starlette(routes=[Mount("/xuna", new_gate())])
