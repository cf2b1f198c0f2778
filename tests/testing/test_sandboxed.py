"""`sandboxed(gate)`: what the author of a test may rely on."""

import asyncio
import subprocess
import sys
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.testclient import TestClient

from xuna_middleware import (
    Agent,
    Identity,
    OIDCVerifier,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
    claim,
    require_roles,
    require_scopes,
)
from xuna_middleware.errors import UnavailableError
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.testing import sandboxed

SCOPES = ["voice:talk"]
EXTRAS = ("uvicorn", "websockets", "typer", "python_multipart", "aiohttp", "httpx2")


def agents() -> list[Agent]:
    return [
        Agent(
            "support",
            id="agent_support",
            allow=require_scopes("voice:talk"),
            dynamic_variables={"user_name": claim("name", default="there")},
            overrides={"agent.first_message": "Hello."},
            client_variables=("page",),
            client_overrides=("agent.language",),
        ),
        Agent("staff", id="agent_staff", allow=require_roles("staff")),
    ]


def out_of_reach(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nothing leaves a test", request=request)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> XunaGate:
    """Return a gate as a user has it: its provider is out of reach here, and there is no key."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    verifier = OIDCVerifier(
        "https://login.acme.com", audience="voice", http_transport=httpx.MockTransport(out_of_reach)
    )
    return XunaGate(verifier=verifier, agents=agents())


def client_of(gate: XunaGate) -> TestClient:
    return TestClient(XunaMiddleware(Starlette(), gate))


def ask(client: TestClient, headers: dict[str, str], agent: str = "support") -> Any:
    return client.get(f"/xuna/get-signed-url?agent={agent}", headers=headers)


def test_the_first_screen_of_the_documentation(gate: XunaGate) -> None:
    """Sign in, ask, look at what left: no key, no provider, no network."""
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        answer = ask(client, sandbox.sign_in("user-1", scopes=SCOPES, claims={"name": "Ada"}))

    assert answer.status_code == 200
    assert answer.json()["session"]["dynamicVariables"] == {"user_name": "Ada"}
    (issued,) = sandbox.issued
    assert (issued.agent, issued.agent_id) == ("support", "agent_support")
    assert (issued.transport, issued.subject) == ("websocket", "user-1")
    assert issued.dynamic_variables == {"user_name": "Ada"}
    assert issued.overrides == {"agent.first_message": "Hello."}


def test_each_request_may_run_on_another_event_loop(gate: XunaGate) -> None:
    """Outside a `with`, TestClient makes a loop for each request, and the first has no token."""
    with sandboxed(gate) as sandbox:
        client = client_of(gate)
        headers = sandbox.sign_in("user-1", scopes=SCOPES)
        presented: list[dict[str, str]] = [{}, headers, headers]
        answers = [ask(client, each) for each in presented]
    assert [answer.status_code for answer in answers] == [401, 200, 200]


async def test_it_works_within_a_running_loop(gate: XunaGate) -> None:
    """`httpx.ASGITransport`, several at once."""
    transport = httpx.ASGITransport(XunaMiddleware(Starlette(), gate))
    with sandboxed(gate) as sandbox:
        headers = sandbox.sign_in("user-1", scopes=SCOPES)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            address = "/xuna/conversation-token?agent=support"
            answers = await asyncio.gather(
                *(client.get(address, headers=headers) for _ in range(20))
            )
    assert {answer.status_code for answer in answers} == {200}
    assert len(sandbox.issued) == 20


def test_a_client_that_was_started_before(gate: XunaGate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lifespan may be under way already: a session-wide client is no obstacle."""
    monkeypatch.setenv("XUNA_AI_API_KEY", "of-the-test-environment")
    with client_of(gate) as client:
        for _ in range(2):
            with sandboxed(gate) as sandbox:
                assert ask(client, sandbox.sign_in("user-1", scopes=SCOPES)).status_code == 200


def test_rules_stay_the_users(gate: XunaGate) -> None:
    """Scopes and roles are what `sign_in` says; who is refused leaves nothing in `issued`."""
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        refused = [
            ask(client, sandbox.sign_in("user-1")),
            ask(client, sandbox.sign_in("user-1", scopes=SCOPES), "staff"),
        ]
        left_by_then = len(sandbox.issued)
        admitted = ask(client, sandbox.sign_in("user-2", roles=["staff"]), "staff")
    assert [answer.status_code for answer in refused] == [403, 403]
    assert (left_by_then, admitted.status_code) == (0, 200)
    (issued,) = sandbox.issued
    assert (issued.agent, issued.rule) == ("staff", "require_roles('staff')")


def test_tokens_are_really_verified(gate: XunaGate) -> None:
    """A token that has ended or was tampered with is a 401: the sandbox opens no gate."""
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        ended = sandbox.sign_in("user-1", scopes=SCOPES, expires_in=-60)
        tampered = {"Authorization": sandbox.sign_in("user-1")["Authorization"][:-8] + "AAAAAAAA"}
        assert [ask(client, each).status_code for each in (ended, tampered)] == [401, 401]


def test_what_a_client_adds_is_seen(gate: XunaGate) -> None:
    """`issued` shows the server's and the client's values together, overrides by path."""
    body = {
        "agent": "support",
        "dynamic_variables": {"page": "/pricing"},
        "overrides": {"agent": {"language": "de"}},
    }
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        headers = sandbox.sign_in("user-1", scopes=SCOPES)
        answer = client.post("/xuna/conversation-token", json=body, headers=headers)
    (issued,) = sandbox.issued
    assert issued.dynamic_variables == {"user_name": "there", "page": "/pricing"}
    assert issued.overrides == {"agent.first_message": "Hello.", "agent.language": "de"}
    assert issued.conversation_id == answer.json()["conversation_id"]


def test_agents_appear_private(gate: XunaGate) -> None:
    """An id that the local platform hasn't seen is there at its first use."""
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        ask(client, sandbox.sign_in("user-1", scopes=SCOPES))
        (agent,) = sandbox.platform.agents
    assert (agent.id, agent.private) == ("agent_support", True)


@pytest.mark.parametrize(
    ("platform", "status"),
    [
        (SandboxPlatform(agents=[SandboxAgent("agent_support")]), 200),
        (SandboxPlatform(agents=[]), 502),
        (SandboxPlatform(agents=[SandboxAgent("agent_support")], quota=0), 502),
    ],
    ids=["knows it", "knows nobody", "quota used up"],
)
def test_a_platform_of_ones_own(gate: XunaGate, platform: SandboxPlatform, status: int) -> None:
    """How one's routes behave when the platform refuses; nothing was issued then."""
    with sandboxed(gate, platform=platform) as sandbox, client_of(gate) as client:
        answer = ask(client, sandbox.sign_in("user-1", scopes=SCOPES))
    assert answer.status_code == status
    assert len(sandbox.issued) == (status == 200)


@pytest.mark.parametrize(("personalization", "carried"), [("body", False), ("client", True)])
def test_the_options_of_ones_platform_stay(personalization: Any, carried: bool) -> None:
    """With "client" a token's answer carries what `startSession` takes, as it will in earnest."""

    async def nobody(connection: HTTPConnection) -> Identity | None:
        return None

    platform = XunaPlatform("sk_real", personalization=personalization)
    gate = XunaGate(authenticator=nobody, agents=agents(), platform=platform)
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        headers = sandbox.sign_in("user-1", scopes=SCOPES)
        answer = client.get("/xuna/conversation-token?agent=support", headers=headers)
    assert ("session" in answer.json()) is carried
    assert sandbox.issued[0].dynamic_variables == {"user_name": "there"}


def test_a_gate_with_sessions_only() -> None:
    """An authenticator stays in charge of its cookie, and `sign_in` works beside it."""

    async def signed_in(connection: HTTPConnection) -> Identity | None:
        name = connection.cookies.get("name")
        return Identity(subject=name, scopes=frozenset(SCOPES)) if name else None

    gate = XunaGate(authenticator=signed_in, agents=agents())
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        by_cookie = {"Cookie": "name=ada", "Sec-Fetch-Site": "same-origin"}
        answers = [
            ask(client, each)
            for each in (by_cookie, sandbox.sign_in("user-1", scopes=SCOPES), {"Cookie": "a=b"})
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    assert [each.subject for each in sandbox.issued] == ["ada", "user-1"]


async def test_issuing_in_a_route_of_ones_own(gate: XunaGate) -> None:
    """`gate.issue` goes the same way, without any app around it."""
    with sandboxed(gate) as sandbox:
        who = Identity(subject="ada", scopes=frozenset(SCOPES))
        credential = await gate.issue(who, "support", transport="webrtc")
    assert sandbox.issued[0].conversation_id == credential.conversation_id
    assert sandbox.issued[0].issuer == "local"


async def test_afterwards_everything_is_as_before(gate: XunaGate) -> None:
    """The gate has its own provider and platform again, and an old sign-in opens nothing."""
    with sandboxed(gate) as sandbox:
        headers = sandbox.sign_in("user-1", scopes=SCOPES)
    with pytest.raises(UnavailableError):  # no key in the environment
        await gate.issue(
            Identity(subject="ada", scopes=frozenset(SCOPES)), "support", transport="webrtc"
        )
    transport = httpx.ASGITransport(gate)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/get-signed-url?agent=support", headers=headers)
    assert answer.status_code == 401


def test_nothing_secret_is_shown(gate: XunaGate) -> None:
    """No rendering holds a token, a pass, a key or the value of a variable."""
    with sandboxed(gate) as sandbox, client_of(gate) as client:
        headers = sandbox.sign_in("user-1", scopes=SCOPES, claims={"name": "CanaryName"})
        pass_ = ask(client, headers).json()["signed_url"]
        shown = f"{sandbox!r} {sandbox.issued!r} {sandbox.platform!r}"
        secrets = [headers["Authorization"], pass_, sandbox.platform.api_key, "CanaryName"]
        assert [secret in shown for secret in secrets] == [False] * 4


@pytest.mark.parametrize("claims", [{"sub": "other"}, {"exp": 1}])
def test_claims_that_the_provider_writes(gate: XunaGate, claims: dict[str, Any]) -> None:
    """Who it is and how long it lasts are arguments of their own."""
    with sandboxed(gate) as sandbox, pytest.raises(ValueError, match="provider alone"):
        sandbox.sign_in("user-1", claims=claims)


def test_the_core_install_suffices() -> None:
    """No extra is needed: it works where none of their packages can be imported."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS!r}))
import asyncio
from xuna_middleware import Agent, Identity, JWTVerifier, XunaGate
from xuna_middleware.testing import sandboxed
jwks = {{"keys": [{{"kty": "oct", "k": "A" * 43}}]}}
verifier = JWTVerifier(issuer="i", audience="a", jwks=jwks, algorithms=("HS256",))
gate = XunaGate(verifier=verifier, agents=[Agent("a", id="agent_a")])
with sandboxed(gate) as sandbox:
    asyncio.run(gate.issue(Identity(subject="ada"), transport="webrtc"))
print([each.agent for each in sandbox.issued])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("['a']", 0), done.stderr
