"""The relay that real servers serve in `test_relay_faults.py`; the environment says the rest.

SERVED_PLATFORM is the platform's address, SERVED_PUBLIC_URL the gate's for clients, SERVED_REDIS
where leases are held; without it each process holds its own. Time runs faster than in earnest: what
takes seconds there takes tenths.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

import xuna_middleware.assembly
from xuna_middleware import (
    Agent,
    Concurrent,
    Credentials,
    Identity,
    InvalidTokenError,
    MemoryStore,
    RedisStore,
    RelayRules,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
)
from xuna_middleware.platform import connect as dialling
from xuna_middleware.relay import client
from xuna_middleware.relay import live as sessions
from xuna_middleware.relay import pumps as relay

LEASE: Final = 3.0
#: What the package's own constants are here, in seconds.
FASTER: Final[tuple[tuple[Any, str, float], ...]] = (
    (sessions, "LEASE", LEASE),
    (xuna_middleware.assembly, "LEASE", LEASE),
    (sessions, "BEAT", 0.25),
    (client, "_FIRST", 1.0),
    (relay, "_SPEAKS_WITHIN", 0.5),
    (relay, "_STUCK", 0.5),
    (dialling, "_OPEN", 0.5),
    (dialling, "_CLOSE", 0.3),
)
for _module, _name, _seconds in FASTER:
    assert getattr(_module, _name) > _seconds, f"{_name} is there, and slower"
    setattr(_module, _name, _seconds)

#: What the scripted platform does with each; see `scripted_platform.py`.
BEHAVIOURS: Final = (
    *("talks", "refuses_403", "refuses_500", "redirects", "stalls", "mute", "garbage"),
    *("binary", "dies", "closes", "large", "floods", "deaf"),
)


class NamedTokens:
    """Know tokens that say whose they are, after the one that the tests know."""

    async def verify(self, credentials: Credentials) -> Identity:
        known, _, subject = credentials.token.rpartition(".")
        if known != os.environ["SERVED_TOKEN"]:
            raise InvalidTokenError
        return Identity(subject=subject, issuer="tests", claims={"iat": time.time()})


def new_agent(name: str, **options: Any) -> Agent:
    limits = [Concurrent(1)]
    return Agent(
        name,
        **{"id": name, "transports": ("relay",), "max_duration": 60, "limits": limits, **options},
    )


redis = os.environ.get("SERVED_REDIS")
gate = XunaGate(
    verifier=NamedTokens(),
    agents=[
        *(new_agent(name) for name in BEHAVIOURS),
        new_agent("strict", id="talks", relay=RelayRules(frames_per_second=50)),
    ],
    platform=XunaPlatform("xi-canary-key", base_url=os.environ["SERVED_PLATFORM"]),
    store=RedisStore(redis, timeout=0.5, namespace="xuna") if redis else MemoryStore(),
    public_url=os.environ.get("SERVED_PUBLIC_URL", "http://127.0.0.1/xuna"),
    operators=lambda who: who.subject == "boss",
)


def memory() -> int:
    """Return the bytes that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def state(request: Request) -> JSONResponse:
    """Tell what there is in this process: tasks, open files, memory in bytes."""
    return JSONResponse(
        {
            "tasks": len(asyncio.all_tasks()),
            "files": len(os.listdir("/proc/self/fd")),
            "memory": memory(),
        }
    )


app = XunaMiddleware(Starlette(routes=[Route("/state", state)]), gate)
#: The same behind wrappers: a framework's own, which hide the server's `send`.
mounted = Starlette(routes=[Mount("/xuna", gate)])
