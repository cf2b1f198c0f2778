"""Gates that carry conversations, served by uvicorn in processes of their own.

What they need is told in the environment: where the platform is, and the key that signs tokens.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from benchmarks.servers import free_port, serving, uvicorn
from benchmarks.tokens import AUDIENCE, ISSUER, Mint
from xuna_middleware import Agent, JWTVerifier, RelayRules, XunaGate, XunaPlatform

#: Every rule that there is, none of which a measured conversation meets.
RULES: Final = RelayRules(
    idle_timeout=3600,
    frames_per_second=100_000,
    client_frames=("audio", "user_activity", "user_message"),
)
_PLATFORM: Final = "BENCH_PLATFORM"
_KEYS: Final = "BENCH_KEYS"


def unruled() -> XunaGate:
    """Return a gate whose agent has no rule for frames."""
    return gate(Agent("support", id="agent_1", transports=("relay",)))


def ruled() -> XunaGate:
    """Return a gate whose agent has all of them, and an end of its own."""
    return gate(
        Agent("support", id="agent_1", transports=("relay",), relay=RULES, max_duration=7200)
    )


def gate(*agents: Agent, **options: Any) -> XunaGate:
    """Return a gate for these agents, set up as the environment says."""
    return XunaGate(
        verifier=JWTVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=json.loads(os.environ[_KEYS])),
        agents=agents,
        platform=XunaPlatform("benchmark", base_url=os.environ[_PLATFORM]),
        public_url="http://127.0.0.1",
        **options,
    )


@contextmanager
def running_gate(app: str, platform: str, mint: Mint, **more: str) -> Iterator[tuple[int, str]]:
    """Serve a gate, `module:factory`; yields its process id and where conversations are opened."""
    port = free_port()
    keys = json.dumps({"keys": [mint.public_jwk()]})
    environment = {_PLATFORM: platform, _KEYS: keys, **more}
    with serving(uvicorn(app, port), port, environment) as process:
        yield process, f"ws://127.0.0.1:{port}/conversation"
