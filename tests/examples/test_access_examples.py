"""The examples about limits, visitors and a policy elsewhere, run as they stand."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from examples import limits, open_policy_agent, public_agent, relayed
from xuna_middleware import MemoryStore
from xuna_middleware.gate import core_of
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.testing import sandboxed

PAGE = {"Sec-Fetch-Site": "same-origin"}
ELSEWHERE = {"Sec-Fetch-Site": "cross-site"}


def test_public_agent() -> None:
    """Five in an hour for a visitor; a page elsewhere gets none."""
    with sandboxed(public_agent.gate) as sandbox, TestClient(public_agent.app) as client:
        asked = [client.get("/xuna/get-signed-url", headers=PAGE).status_code for _ in range(6)]
        elsewhere = client.get("/xuna/get-signed-url", headers=ELSEWHERE).status_code
    assert asked == [200] * 5 + [429]
    assert elsewhere == 403
    assert len({each.subject for each in sandbox.issued}) == 1


def test_limits_without_their_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens where the example looks by default: closed, and nothing is issued."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        if probe.connect_ex(("127.0.0.1", 6379)) == 0:
            pytest.skip("a Redis of somebody else's listens on port 6379")
    with sandboxed(limits.gate) as sandbox, TestClient(limits.app) as client:
        headers = sandbox.sign_in("user-1", claims={"tenant": "acme"})
        assert client.get("/get-signed-url", headers=headers).status_code == 503
    assert not sandbox.issued


def test_limits_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a store that is there: two at once."""
    monkeypatch.setattr(limits.gate, "_core", with_store(MemoryStore()))
    with sandboxed(limits.gate) as sandbox, TestClient(limits.app) as client:
        headers = sandbox.sign_in("user-1", claims={"tenant": "acme"})
        told = [client.get("/get-signed-url", headers=headers).status_code for _ in range(3)]
    assert told == [200, 200, 429]


def with_store(store: MemoryStore) -> Any:
    from dataclasses import replace

    from xuna_middleware.access.limits.reservations import Stores

    core = core_of(limits.gate)
    stores = Stores(shared=store, fallback=store)
    return replace(core, pipeline=replace(core.pipeline, stores=stores))


class Policy:
    """What an OPA is told to say; it keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Any = None
        self.asked: list[Any] = []
        self.status = 200
        self.seconds = 0.0


@contextmanager
def opa(policy: Policy) -> Iterator[str]:
    """Run a server of OPA's shape: POST /v1/data/<path> with `input`, an answer with `result`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            policy.asked.append((self.path, body["input"]))
            time.sleep(policy.seconds)
            answer = json.dumps({} if policy.answer is None else {"result": policy.answer})
            self.send_response(policy.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/data/voice/allow"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("answer", "status", "told", "code"),
    [
        (True, 200, 200, None),
        (False, 200, 403, "access_denied"),
        (None, 200, 403, "access_denied"),
        ("true", 200, 403, "access_denied"),
        ({"allow": True}, 200, 200, None),
        ({"allow": False, "reason": "Your plan has no voice."}, 200, 403, "policy"),
        (True, 500, 503, "unavailable"),
    ],
)
def test_open_policy_agent(
    monkeypatch: pytest.MonkeyPatch, answer: Any, status: int, told: int, code: str | None
) -> None:
    """The policy's word counts; what it can't say refuses."""
    policy = Policy()
    policy.answer, policy.status = answer, status
    monkeypatch.setattr(open_policy_agent, "client", httpx.AsyncClient())
    with (
        opa(policy) as url,
        sandboxed(open_policy_agent.gate) as sandbox,
        TestClient(open_policy_agent.app) as client,
    ):
        monkeypatch.setattr(open_policy_agent, "opa_url", url)
        headers = sandbox.sign_in("user-1", scopes=["voice:talk"])
        got = client.get("/get-signed-url", headers=headers)
    assert (got.status_code, got.json().get("code")) == (told, code)
    (path, asked), *_ = policy.asked
    assert path == "/v1/data/voice/allow"
    assert (asked["subject"], asked["scopes"]) == ("user-1", ["voice:talk"])


def test_open_policy_agent_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed: nobody is admitted on nobody's word."""
    monkeypatch.setattr(open_policy_agent, "client", httpx.AsyncClient())
    monkeypatch.setattr(open_policy_agent, "opa_url", "http://127.0.0.1:1/v1/data/voice/allow")
    with sandboxed(open_policy_agent.gate) as sandbox, TestClient(open_policy_agent.app) as client:
        headers = sandbox.sign_in("user-1", scopes=["voice:talk"])
        assert client.get("/get-signed-url", headers=headers).status_code == 503


def test_relayed() -> None:
    """One conversation at once, which an operator sees and ends; the platform has the secret."""
    platform = SandboxPlatform(unknown_agents=SandboxAgent)
    with (
        sandboxed(relayed.gate, platform=platform) as sandbox,
        TestClient(relayed.app) as client,
    ):
        ada = sandbox.sign_in("ada", claims={"plan": "pro"})
        olga = sandbox.sign_in("olga", scopes=["voice:oversee"])
        url = client.get("/xuna/get-signed-url", headers=ada).json()["signed_url"]
        with client.websocket_connect(url, subprotocols=["convai"]) as talk:
            talk.send_json({"type": "conversation_initiation_client_data"})
            assert talk.receive_json()["type"] == "conversation_initiation_metadata"
            assert client.get("/xuna/get-signed-url", headers=ada).status_code == 429
            (session,) = client.get("/xuna/sessions", headers=olga).json()["sessions"]
            assert client.delete(f"/xuna/sessions/{session['id']}", headers=ada).status_code == 403
            assert client.delete(f"/xuna/sessions/{session['id']}", headers=olga).status_code == 202
            assert talk.receive_json()["type"] == "agent_response"
            with pytest.raises(WebSocketDisconnect) as ended:
                talk.receive_json()
    assert (ended.value.code, ended.value.reason) == (4412, "ended_by_operator")
    (record,) = platform.conversations
    assert record.dynamic_variables["secret__core"] == "ada"
