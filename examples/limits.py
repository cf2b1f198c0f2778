"""How often, how many at once, how long: counted in Redis, by all workers together.

uvicorn examples.limits:app --workers 4, with XUNA_AI_API_KEY, OIDC_ISSUER and REDIS_URL.
"""

import os

from xuna_middleware import (
    Agent,
    Concurrent,
    Limit,
    OIDCVerifier,
    RedisStore,
    TalkTime,
    XunaGate,
    claim,
)

gate = XunaGate(
    verifier=OIDCVerifier(
        os.environ.get("OIDC_ISSUER", "https://login.acme.com"), audience="voice"
    ),
    store=RedisStore(os.environ.get("REDIS_URL", "redis://127.0.0.1"), namespace="acme-voice"),
    limits=[Limit("10/minute", per="subject"), Limit("30/minute", per="address")],
    trusted_proxies=("10.0.0.0/8",),  # whose X-Forwarded-For is believed
    agents=[
        Agent(
            "support",
            id="agent_7101k5zvyjhmfg983brhmhkd98n6",
            max_duration=600,
            limits=[
                Concurrent(2, per="subject"),
                TalkTime("60 minutes/day", per="subject"),
                TalkTime("20 hours/day", per=claim("tenant"), on_unavailable="local"),
            ],
        )
    ],
)
app = gate
