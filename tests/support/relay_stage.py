"""A gate that carries conversations, on the rehearsal stage, within one process."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.requests import HTTPConnection

from support.doubles import Answer, ask, echo_app
from support.signing import CANARY
from xuna_middleware import (
    Agent,
    AnonymousAccess,
    Concurrent,
    Event,
    Identity,
    Immediate,
    Limit,
    OIDCVerifier,
    SignedUrl,
    TalkTime,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.testing import Sandbox, sandboxed

URL: Final = "https://acme.com/xuna"
PAGE: Final = (b"origin", b"https://page.example.com")
HOME: Final = (b"origin", b"https://acme.com")
EVIL: Final = (b"origin", b"https://evil.example.com")
JSON: Final = (b"content-type", b"application/json")
REFRESH: Final = "xuna_gate_refresh"
PROMPT: Final = "agent.prompt.prompt"
OPEN: Final = frozenset({PROMPT, "agent.language", "agent.first_message"})

Pair = tuple[bytes, bytes]


@dataclass(kw_only=True)
class Stage:
    """Hold a gate on the rehearsal stage, and what happened there."""

    gate: XunaGate
    app: XunaMiddleware
    sandbox: Sandbox
    platform: SandboxPlatform
    events: list[Event] = field(default_factory=list)

    def sign_in(self, subject: str = "user-1", **options: Any) -> list[Pair]:
        headers = self.sandbox.sign_in(subject, **options)
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    def token(self, subject: str = "user-1", **options: Any) -> str:
        """Return the token alone."""
        value: str = self.sandbox.sign_in(subject, **options)["Authorization"]
        return value.removeprefix("Bearer ")

    async def ask(self, path: str, headers: Iterable[Pair] = (), **scope: Any) -> Answer:
        return await ask(self.app, f"/xuna{path}", headers=list(headers), **scope)

    async def signed_url(
        self, headers: Iterable[Pair] | None = None, **members: Any
    ) -> Mapping[str, Any]:
        """Ask for a signed URL as a page does, and get one."""
        answer = await self.ask(
            "/get-signed-url",
            [*(self.sign_in() if headers is None else headers), JSON],
            method="POST",
            body=json.dumps(members).encode(),
        )
        assert answer.status == 200, answer.body
        told: Mapping[str, Any] = answer.json()
        return told

    async def ticket(self, headers: Iterable[Pair] | None = None, **members: Any) -> str:
        """Return the ticket in such a URL."""
        url = (await self.signed_url(headers, **members))["signed_url"]
        ticket: str = parse_qs(urlsplit(url).query)["ticket"][0]
        return ticket

    async def left(self, headers: Iterable[Pair] | None = None) -> list[int]:
        """Return what is left of the limits of the one agent."""
        answer = await self.ask("/agents", self.sign_in() if headers is None else headers)
        return [limit["left"] for limit in answer.json()["agents"][0]["limits"]]

    def named(self, name: str) -> list[Event]:
        return [event for event in self.events if event.name == name]

    async def ended(self) -> Event:
        """Return how the latest conversation ended, once it has."""
        async with asyncio.timeout(10):
            while not self.named("conversation_ended"):  # noqa: ASYNC110 - events wake nobody
                await asyncio.sleep(0.005)
        return self.named("conversation_ended")[-1]

    @property
    def untouched(self) -> bool:
        """Whether the platform was asked for nothing."""
        return not self.platform.issued and not self.platform.conversations


def agent(**options: Any) -> Agent:
    return Agent("support", **{"id": "agent_1", "transports": ("relay",), **options})


def verifier() -> OIDCVerifier:
    return OIDCVerifier("https://id.example.com", audience="voice")


@asynccontextmanager
async def on_stage(*agents: Agent, **options: Any) -> AsyncIterator[Stage]:
    """Put a gate on the stage until the block ends, and close it then."""
    events: list[Event] = []
    platform = options.pop("platform", None) or SandboxPlatform(
        api_key=f"xi-{CANARY}-key",
        agents=[SandboxAgent(f"agent_{number}", allowed_overrides=OPEN) for number in range(5)],
    )
    if "authenticator" not in options:
        options["verifier"] = verifier()
    gate = XunaGate(
        agents=agents or [agent()], public_url=URL, on_event=[Immediate(events.append)], **options
    )
    app = XunaMiddleware(echo_app, gate)
    with sandboxed(gate, platform=platform) as sandbox:
        async with gate:
            yield Stage(gate=gate, app=app, sandbox=sandbox, platform=platform, events=events)


def swap_line(stage: Stage, monkeypatch: pytest.MonkeyPatch, line: Any) -> list[SignedUrl]:
    """Let the platform's WebSocket be a line of the test's, or an error; return what opened it."""
    opened: list[SignedUrl] = []

    async def connect(signed: SignedUrl, *, max_frame: int) -> Any:
        opened.append(signed)
        if isinstance(line, Exception):
            raise line
        return line

    monkeypatch.setattr(stage.gate.platform, "connect", connect)
    return opened


def limited(**options: Any) -> Agent:
    limits = [Concurrent(1), TalkTime("10 minutes/day"), Limit("3/day")]
    return agent(max_duration=60, limits=limits, **options)


async def cookie(connection: HTTPConnection) -> Identity | None:
    name = connection.cookies.get("name")
    return Identity(subject=name) if name else None


@asynccontextmanager
async def with_visitors(**options: Any) -> AsyncIterator[Stage]:
    """Open one agent to visitors, beside one that isn't."""
    faq = Agent(
        "faq",
        id="agent_1",
        transports=("relay",),
        anonymous=True,
        max_duration=60,
        limits=[Limit("100/day", per="all")],
    )
    private = Agent("private", id="agent_2", transports=("relay",))
    visitors = AnonymousAccess(secret="s" * 43)
    async with on_stage(faq, private, anonymous=visitors, **options) as stage:
        yield stage


def boss(who: Identity) -> bool:
    return who.subject == "boss"
