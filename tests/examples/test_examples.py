"""Each example, run as it stands with its framework's own test client."""

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from litestar.testing import AsyncTestClient
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp

from examples import (
    api_keys,
    bare_asgi,
    django_app,
    fastapi_app,
    litestar_app,
    mounted,
    own_provider,
    quart_app,
    starlette_app,
    starlette_backend,
)
from xuna_middleware import Identity, XunaPlatform, new_api_key
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform
from xuna_middleware.testing import Sandbox, sandboxed

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    path
    for path in (ROOT / "examples").iterdir()
    if path.suffix in (".py", ".html") and path.stem != "__init__"
)
MODULES = [path.stem for path in EXAMPLES if path.suffix == ".py"]
TALK = ["voice:talk"]


@contextmanager
def started(example: ModuleType) -> Iterator[tuple[TestClient, Sandbox]]:
    """Run an example's app with its lifespan, its gate on the sandbox."""
    with sandboxed(example.gate) as sandbox, TestClient(example.app) as client:
        yield client, sandbox


@asynccontextmanager
async def calling(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path: Path) -> None:
    """At most 40 lines, so that it can be read at once."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 40


def test_every_example_is_run() -> None:
    """A new example is run here, or by the tests that are named here."""
    sign_in = "tests/examples/test_sign_in_examples.py"
    access = "tests/examples/test_access_examples.py"
    elsewhere = {
        "browser": "tests/e2e/test_browser_example.py",
        **dict.fromkeys(("limits", "open_policy_agent", "public_agent", "relayed"), access),
        **dict.fromkeys(("cloudflare", "session_cookie"), sign_in),
        **dict.fromkeys(("fastapi_users_accounts", "fastapi_users_app"), sign_in),
    }
    here = Path(__file__).read_text(encoding="utf-8")
    for name in (path.stem for path in EXAMPLES):
        text = (ROOT / elsewhere[name]).read_text(encoding="utf-8") if name in elsewhere else here
        assert text.count(name) > 1, name


def test_examples_can_be_imported_with_an_empty_environment() -> None:
    """Keys and issuers are needed when a server runs, not when a module is imported."""
    code = "import " + ", ".join(f"examples.{name}" for name in MODULES)
    environment = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_starlette() -> None:
    """A pass beneath /xuna, and `requires()` on the app's own path."""
    with started(starlette_app) as (client, sandbox):
        ada = sandbox.sign_in("user-1", scopes=TALK, claims={"name": "Ada"})
        answer = client.get("/xuna/get-signed-url", headers=ada)
        assert answer.json()["session"]["dynamicVariables"] == {"user_name": "Ada"}
        assert client.get("/api/me", headers=ada).json() == {"user": "user-1"}
        assert client.get("/api/me", headers=sandbox.sign_in("user-1")).status_code == 403
        assert client.get("/api/me").status_code == 401


def test_starlette_backend() -> None:
    """A backend's user may talk, by a fetch of the page itself and within what it grants."""
    with started(starlette_backend) as (client, _):
        page = {"sec-fetch-site": "same-origin"}
        anna, ben = ({**page, "cookie": f"session={name}"} for name in ("s-anna", "s-ben"))
        assert client.get("/xuna/get-signed-url", headers=anna).status_code == 200
        assert client.get("/xuna/get-signed-url", headers=ben).status_code == 403
        assert client.get("/xuna/get-signed-url", headers=page).status_code == 401
        elsewhere = {**anna, "sec-fetch-site": "cross-site"}
        assert client.get("/xuna/get-signed-url", headers=elsewhere).status_code == 403


async def test_api_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kiosk's key opens at the gate as it stands; a made-up one doesn't."""
    made = new_api_key()
    monkeypatch.setenv("KIOSK_HASH", made.hash)
    example = importlib.reload(api_keys)
    platform = SandboxPlatform()
    client = XunaPlatform("sandbox-key", http_transport=httpx.ASGITransport(platform))
    with example.gate.overridden(platform=client):
        async with calling(example.app) as http:
            kiosk = {"authorization": f"Bearer {made.key}"}
            agents = await http.get("/agents", headers=kiosk)
            assert [each["name"] for each in agents.json()["agents"]] == ["reception"]
            other = {"authorization": f"Bearer {new_api_key().key}"}
            assert (await http.get("/agents", headers=other)).status_code == 401


def test_testing_routes() -> None:
    """The example of a test is run as its docstring says."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "examples/testing_routes.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout


def test_fastapi() -> None:
    """Mounted, and in a route of its own that lets the client say which page it is on."""
    with started(fastapi_app) as (client, sandbox):
        headers = sandbox.sign_in("user-1")
        assert client.get("/xuna/get-signed-url", headers=headers).status_code == 200
        assert client.post("/help/pricing", headers=headers).json()["transport"] == "webrtc"
        refused = client.post("/help/pricing")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert [each.dynamic_variables for each in sandbox.issued] == [{}, {"page": "pricing"}]


def test_fastapi_websocket() -> None:
    """One dependency for both: a stranger's WebSocket is refused before it is accepted."""
    with started(fastapi_app) as (client, sandbox):
        headers = sandbox.sign_in("user-1")
        with client.websocket_connect("/captions", headers=headers) as socket:
            assert socket.receive_text() == "Hello user-1"
        with (
            pytest.raises(WebSocketDenialResponse) as denial,
            client.websocket_connect("/captions"),
        ):
            pass
    assert denial.value.status_code == 401
    assert denial.value.headers["www-authenticate"] == "Bearer"


def test_fastapi_dependency_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """`gate.identity` is a dependency like any other, so tests may replace it."""
    someone = Identity(subject="somebody")
    overrides = fastapi_app.app.dependency_overrides
    monkeypatch.setitem(overrides, fastapi_app.gate.identity, lambda: someone)
    with started(fastapi_app) as (client, sandbox):
        assert client.post("/help/pricing").status_code == 200
        with client.websocket_connect("/captions") as socket:
            assert socket.receive_text() == "Hello somebody"
    assert sandbox.issued[0].subject == "somebody"


async def test_quart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed in by Quart's own form: the session opens its route, and the gate's to its pages."""
    monkeypatch.setitem(quart_app.app.config, "SECRET_KEY", "of this test")
    with sandboxed(quart_app.gate) as sandbox:
        async with quart_app.app.test_app() as running:
            client = running.test_client()
            stranger = await client.post("/call")
            await client.post("/login", form={"user": "ada"})
            answers = [
                await client.post("/call"),
                await client.get("/xuna/get-signed-url", headers={"Sec-Fetch-Site": "same-origin"}),
                await client.get("/xuna/get-signed-url"),
            ]
    assert (stranger.status_code, await stranger.get_json()) == (
        401,
        {"code": "not_authenticated", "detail": "Credentials are required."},
    )
    assert [answer.status_code for answer in answers] == [200, 200, 403]
    assert [(each.subject, each.issuer) for each in sandbox.issued] == [("ada", "local")] * 2


async def test_a_forged_quart_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate believes Quart's signature only."""
    monkeypatch.setitem(quart_app.app.config, "SECRET_KEY", "of this test")
    headers = {"Cookie": "session=eyJ1c2VyIjoiYWRhIn0.awSA5w.AAAA", "Sec-Fetch-Site": "same-origin"}
    with sandboxed(quart_app.gate):
        client = quart_app.app.test_client()
        answer = await client.get("/xuna/get-signed-url", headers=headers)
    assert answer.status_code == 401


async def test_litestar() -> None:
    """Mounted, and its callers as a dependency."""
    with sandboxed(litestar_app.gate) as sandbox:
        async with AsyncTestClient(litestar_app.app) as client:
            headers = sandbox.sign_in("user-1")
            answer = await client.get("/xuna/conversation-token", headers=headers)
            assert answer.json()["token"]
            assert (await client.get("/me", headers=headers)).json() == {"user": "user-1"}
            refused = [await client.get(path) for path in ("/me", "/xuna/get-signed-url")]
    assert [answer.status_code for answer in refused] == [401, 401]


async def test_django() -> None:
    """Wrapped: the gate's routes before Django, and the caller in Django's own views."""
    with sandboxed(django_app.gate) as sandbox:
        async with calling(django_app.app) as client:
            headers = sandbox.sign_in("user-1")
            assert (await client.get("/xuna/get-signed-url", headers=headers)).status_code == 200
            assert (await client.get("/api/me", headers=headers)).json() == {"user": "user-1"}
            assert (await client.get("/api/me")).status_code == 401
            assert (await client.get("/elsewhere")).status_code == 404


def test_bare_asgi() -> None:
    """An app of fifteen lines, which knows no lifespan."""
    with started(bare_asgi) as (client, sandbox):
        headers = sandbox.sign_in("user-1")
        assert client.get("/xuna/conversation-token", headers=headers).json()["token"]
        assert client.get("/api", headers=headers).text == "Hello user-1"
        assert client.get("/", headers=headers).text == "Hello stranger"
        assert client.get("/api").status_code == 401


def test_mounted() -> None:
    """Beneath its prefix, for a page from elsewhere; several agents have names."""
    with started(mounted) as (client, sandbox):
        headers = {**sandbox.sign_in("user-1"), "Origin": "https://www.acme.com"}
        address = "/voice/get-signed-url"
        answers = [
            client.get(f"{address}?agent=support", headers=headers),
            client.get(f"{address}?agent=staff", headers=headers),
            client.get(address, headers=headers),
            client.get("/get-signed-url", headers=headers),
        ]
    assert [answer.status_code for answer in answers] == [200, 403, 400, 404]
    allowed = [a.headers.get("access-control-allow-origin") for a in answers[:3]]
    assert allowed == ["https://www.acme.com"] * 3


async def test_own_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verifier of one's own stays in place here; only the platform is the sandbox's."""
    table = f"{hashlib.sha256(b'key-of-acme').hexdigest()} acme"
    partners = own_provider.PartnerKeys(table)
    stage = SandboxPlatform(unknown_agents=SandboxAgent)
    platform = XunaPlatform(
        stage.api_key, base_url="https://sandbox.invalid", http_transport=httpx.ASGITransport(stage)
    )
    with own_provider.gate.overridden(verifier=partners, platform=platform):
        async with calling(own_provider.app) as client:
            good, bad = ({"Authorization": f"Bearer key-of-{name}"} for name in ("acme", "nobody"))
            answers = [await client.get("/get-signed-url", headers=each) for each in (good, bad)]
    assert [answer.status_code for answer in answers] == [200, 401]
    assert answers[1].json()["code"] == "invalid_token"
    assert len(stage.issued) == 1
