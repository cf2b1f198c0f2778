"""The gate that is soaked, and beside it what tells of its process: no part of the package.

- `GET /debug/counts`: asyncio tasks by where they stand, events, seconds talked.
- `POST /debug/revoke/{subject}`: `gate.revoke()`, which has no route.

Everything else is the gate.
"""

import asyncio
import os
from collections import Counter
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.gates import gate
from benchmarks.tokens import ISSUER
from xuna_middleware import (
    Agent,
    Concurrent,
    Event,
    Limit,
    RedisStore,
    RelayRules,
    TalkTime,
    XunaGate,
    require_scopes,
)

OPERATOR = "voice:operate"
#: Seconds after which a conversation of the agent `short` is over.
SHORT = 8.0
LONGEST = 120.0
IDLE = 20.0
#: Seconds for the store: what is soaked is the gate, not how busy its machine is.
PATIENCE = 10.0

REDIS = "BENCH_REDIS"
AT_ONCE = Concurrent(1_000, per="all", name="at once")
EACH = Concurrent(8)
TALK = TalkTime("100000 hours/day", per="all", name="talk")
OFTEN = Limit("1000000/day", per="all", name="often")

_RULES = RelayRules(
    idle_timeout=IDLE,
    frames_per_second=200,
    client_frames=("audio", "user_activity", "contextual_update"),
)


class Debugged:
    """Serve a gate, and what it did so far."""

    def __init__(self, agents: list[Agent], redis: str) -> None:
        self._events: Counter[str] = Counter()
        self._seconds = 0.0
        self.gate: XunaGate = gate(
            *agents,
            store=RedisStore(redis, timeout=PATIENCE, namespace="xuna"),
            limits=(AT_ONCE, EACH, TALK, OFTEN),
            operators=require_scopes(OPERATOR),
            on_event=(self._note,),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        app: ASGIApp = self.gate
        if path == "/debug/counts":
            app = JSONResponse(self._counts())
        elif path.startswith("/debug/revoke/"):
            app = await self._revoked(Request(scope, receive))
        await app(scope, receive, send)

    async def _revoked(self, request: Request) -> Response:
        await self.gate.revoke(ISSUER, request.url.path.rpartition("/")[2])
        return Response(status_code=204)

    def _note(self, event: Event) -> None:
        self._events[event.name] += 1
        if event.name == "conversation_ended":
            self._seconds += event.seconds or 0.0

    def _counts(self) -> dict[str, object]:
        tasks = Counter(_name(task) for task in asyncio.all_tasks())
        return {"tasks": tasks, "events": self._events, "seconds": self._seconds}


def app() -> Debugged:
    """Return the gate with an agent for long conversations, and one whose are short."""
    agents = [
        Agent(name, id="agent_1", transports=("relay",), relay=_RULES, max_duration=seconds)
        for name, seconds in (("support", LONGEST), ("short", SHORT))
    ]
    return Debugged(agents, os.environ[REDIS])


def _name(task: asyncio.Task[object]) -> str:
    """Return where a task stands: each coroutine that waits for the next."""
    names: list[str] = []
    waiting: Any = task.get_coro()
    while waiting is not None and hasattr(waiting, "__qualname__"):
        names.append(waiting.__qualname__)
        waiting = getattr(waiting, "cr_await", None)
    return " > ".join(names) or "?"
