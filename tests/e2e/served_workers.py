"""The app that several workers serve in `test_workers.py`.

SERVED_REDIS is where they count together; without it each counts by itself.
"""

import os

import httpx

from xuna_middleware import (
    Agent,
    Concurrent,
    Credentials,
    Identity,
    InvalidTokenError,
    Limit,
    MemoryStore,
    RedisStore,
    XunaGate,
    XunaPlatform,
)
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform


class OneToken:
    """Know one token."""

    async def verify(self, credentials: Credentials) -> Identity:
        if credentials.token != os.environ["SERVED_TOKEN"]:
            raise InvalidTokenError
        return Identity(subject="ada")


stage = SandboxPlatform(unknown_agents=SandboxAgent)
platform = XunaPlatform(
    stage.api_key, base_url="https://sandbox.invalid", http_transport=httpx.ASGITransport(stage)
)

redis = os.environ.get("SERVED_REDIS")
app = XunaGate(
    verifier=OneToken(),
    agents=[
        Agent(
            "support",
            id="agent_1",
            max_duration=60,
            limits=[Limit("50/hour"), Concurrent(60)],
        )
    ],
    platform=platform,
    store=RedisStore(redis, timeout=10, namespace="xuna") if redis else MemoryStore(),
)
