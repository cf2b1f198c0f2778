"""What the tests stand on: a clock to move, a REST client in process, a WebSocket for real."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

import httpx
import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform, serve

KEY = "sandbox_key_of_the_tests"
BASE = "http://sandbox.test"
TALK = "/v1/convai/conversation"
AGENT = SandboxAgent("agent_one", name="One", first_message="Hello there.")


class Clock:
    """Stand still until moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def platform_with(*agents: SandboxAgent, **options: Any) -> SandboxPlatform:
    return SandboxPlatform(api_key=KEY, agents=agents or (AGENT,), **options)


def rest(platform: SandboxPlatform, *, key: str | None = KEY) -> httpx.AsyncClient:
    """Return a client that calls the platform in process, as if at `http://sandbox.test`."""
    headers = {} if key is None else {"xi-api-key": key}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(platform), base_url=BASE, headers=headers
    )


class Frames(Protocol):
    """What a caller needs of a transport."""

    async def send(self, message: str) -> None: ...

    async def recv(self) -> str | bytes: ...


S = TypeVar("S", bound=Frames)


class Caller(Generic[S]):
    """Talk to a conversation over a real transport, frame by frame."""

    def __init__(self, socket: S) -> None:
        self.socket = socket

    async def send(self, type_: str, **members: Any) -> None:
        await self.socket.send(json.dumps({"type": type_, **members}))

    async def receive(self) -> dict[str, Any]:
        frame = json.loads(await self.socket.recv())
        assert isinstance(frame, dict)
        return frame

    async def said(self) -> str:
        """Return the agent's next words."""
        frame = await self.receive()
        assert frame["type"] == "agent_response", frame
        return str(frame["agent_response_event"]["agent_response"])

    async def begin(self, **initiation: Any) -> str:
        """Send the initiation frame, take the metadata, and return the conversation's id."""
        await self.send("conversation_initiation_client_data", **initiation)
        frame = await self.receive()
        assert frame["type"] == "conversation_initiation_metadata", frame
        return str(frame["conversation_initiation_metadata_event"]["conversation_id"])

    async def until_closed(self) -> tuple[list[dict[str, Any]], int, str]:
        """Return the frames until the close, its code and its reason."""
        frames: list[dict[str, Any]] = []
        with pytest.raises(ConnectionClosed) as closed:
            await self._collect(frames)
        close = closed.value.rcvd
        assert close is not None
        return frames, close.code, close.reason

    async def _collect(self, frames: list[dict[str, Any]]) -> None:
        while True:
            frames.append(await self.receive())


class Stage:
    """Hold a served platform: REST calls and WebSockets go through a real server."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self.client = client

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, platform: SandboxPlatform) -> AsyncIterator[Self]:
        headers = {"xi-api-key": platform.api_key}
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
            yield cls(url, client)

    @classmethod
    @asynccontextmanager
    async def of(cls, platform: SandboxPlatform) -> AsyncIterator[Self]:
        """Serve the platform by itself."""
        async with serve(platform) as url, cls.at(url, platform) as stage:
            yield stage

    async def signed_url(self, agent_id: str = AGENT.id) -> str:
        answer = await self.client.get(f"{TALK}/get-signed-url", params={"agent_id": agent_id})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["signed_url"])

    async def token(self, agent_id: str = AGENT.id, **attached: Any) -> Mapping[str, Any]:
        answer = await self.client.post(f"{TALK}/token", json={"agent_id": agent_id, **attached})
        assert answer.status_code == 200, answer.text
        given = answer.json()
        assert isinstance(given, dict)
        return given

    def address(self, query: str) -> str:
        return f"{self.url.replace('http', 'ws', 1)}{TALK}?{query}"

    @asynccontextmanager
    async def dial(self, address: str, **options: Any) -> AsyncIterator[Caller[ClientConnection]]:
        async with connect(address, proxy=None, **options) as socket:
            yield Caller(socket)

    @asynccontextmanager
    async def talk(
        self, agent_id: str = AGENT.id, **initiation: Any
    ) -> AsyncIterator[Caller[ClientConnection]]:
        """Begin a conversation by signed URL; its metadata is already taken."""
        async with self.dial(await self.signed_url(agent_id)) as caller:
            await caller.begin(**initiation)
            yield caller


class Switchboard:
    """Stand behind one server and pass each call on to the platform of the running test."""

    def __init__(self) -> None:
        self.platform: SandboxPlatform | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.platform is not None
        await self.platform(scope, receive, send)


#: Puts a platform behind the one server.
StageOf: TypeAlias = Callable[[SandboxPlatform], AbstractAsyncContextManager[Stage]]
