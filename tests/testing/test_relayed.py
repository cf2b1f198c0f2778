"""A relayed conversation in a test of one's own: Starlette's TestClient, and no network."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect
from support.talking import FIRST

from xuna_middleware import Agent, OIDCVerifier, XunaGate, XunaMiddleware
from xuna_middleware.errors import PlatformError
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.testing import sandboxed
from xuna_middleware.testing.lines import connect_in_process


def new_gate() -> XunaGate:
    return XunaGate(
        verifier=OIDCVerifier("https://id.example.com", audience="voice"),
        agents=[
            Agent(
                "support",
                id="agent_1",
                transports=("relay",),
                dynamic_variables={"plan": "pro"},
                overrides={"agent.first_message": "Hello, {{plan}}"},
            )
        ],
        public_url="http://testserver/xuna",
    )


def platform(**options: Any) -> SandboxPlatform:
    allowed = frozenset({"agent.first_message"})
    return SandboxPlatform(agents=[SandboxAgent("agent_1", allowed_overrides=allowed, **options)])


def begin(socket: Any) -> None:
    socket.send_json({"type": FIRST})
    assert socket.receive_json()["type"] == "conversation_initiation_metadata"
    assert socket.receive_json()["type"] == "agent_response"


def test_conversation() -> None:
    """As a page has it: the signed URL is opened as it came; how it ended is told truly."""
    gate, stage = new_gate(), platform()
    app = XunaMiddleware(Starlette(), gate)
    with sandboxed(gate, platform=stage) as sandbox, TestClient(app) as client:
        url = client.get("/xuna/get-signed-url", headers=sandbox.sign_in("ada")).json()
        with client.websocket_connect(url["signed_url"], subprotocols=["convai"]) as socket:
            begin(socket)
            socket.send_json({"type": "user_message", "text": "hello"})
            assert socket.receive_json()["type"] == "agent_response"
    (conversation,) = stage.conversations
    assert conversation.dynamic_variables["plan"] == "pro"
    assert conversation.ended_by == "user"
    assert [each.transport for each in sandbox.issued] == ["relay"]


def test_platform_that_is_busy() -> None:
    """One conversation at a time at the platform: the second is refused before it is accepted."""
    gate, stage = new_gate(), platform(concurrency=1)
    app = XunaMiddleware(Starlette(), gate)
    with sandboxed(gate, platform=stage) as sandbox, TestClient(app) as client:
        route, headers = "/xuna/conversation", sandbox.sign_in("ada")
        with client.websocket_connect(route, headers=headers) as socket:
            begin(socket)
            with (
                pytest.raises(WebSocketDenialResponse) as refused,
                client.websocket_connect(route, headers=headers),
            ):
                pass
    assert refused.value.status_code == 503
    assert len(stage.conversations) == 1


async def test_platform_that_does_not_open() -> None:
    """There is no WebSocket at such an address."""
    with pytest.raises(PlatformError):
        await connect_in_process(platform(), "wss://platform.invalid/nowhere")


async def test_line_whose_platform_is_gone() -> None:
    """What is sent then fails, as it does over a socket; to close it again is harmless."""

    async def brief(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": b"x"})

    line = await connect_in_process(brief, "wss://platform.invalid/")
    assert await line.recv() == b"x"
    with pytest.raises(ConnectionError):
        await line.recv()
    with pytest.raises(ConnectionError):
        await line.send("anybody?")
    await line.close(1000, "")


def test_platform_that_ends_it() -> None:
    """By itself, with its own code, after its last words."""
    gate, stage = new_gate(), platform(max_duration=0.2)
    app = XunaMiddleware(Starlette(), gate)
    with sandboxed(gate, platform=stage) as sandbox, TestClient(app) as client:
        headers = sandbox.sign_in("ada")
        with client.websocket_connect("/xuna/conversation", headers=headers) as socket:
            begin(socket)
            assert socket.receive_json()["error_event"]["error_type"] == "max_duration_exceeded"
            with pytest.raises(WebSocketDisconnect) as ended:
                socket.receive_json()
    assert (ended.value.code, ended.value.reason) == (1000, "sandbox: max_duration_exceeded")
