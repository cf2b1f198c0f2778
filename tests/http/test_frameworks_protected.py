"""Paths of the app's own behind the gate: what no spelling may reach, and what the app sees.

The oracle is the framework itself: whatever it would have served without the gate is a 401 with it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import pytest
from django.test import override_settings
from fastapi import FastAPI
from litestar import Litestar, get
from quart import Quart
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from support.doubles import make_gate
from support.places import DJANGO

from xuna_middleware import XunaGate, XunaMiddleware, get_identity
from xuna_middleware.testing import Sandbox, sandboxed

ORIGIN: Final = "https://www.acme.com"
PREFLIGHT: Final = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}

gate = make_gate()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandboxed(gate) as sandbox:
        yield sandbox


# -- No spelling reaches it -----------------------------------------------------------------------


async def reached(request: Request) -> PlainTextResponse:
    return PlainTextResponse("reached")


def starlette() -> ASGIApp:
    inner = Mount("/api", routes=[Route("/me", reached), Route("/{rest:path}", reached)])
    return Starlette(routes=[inner])


def fastapi() -> ASGIApp:
    app = FastAPI()
    app.get("/api/me")(lambda: "reached")
    return app


def litestar() -> ASGIApp:
    @get("/api/me")
    async def me() -> str:
        return "reached"

    app: Any = Litestar([me], logging_config=None, openapi_config=None)
    return app  # type: ignore[no-any-return]


def quart() -> ASGIApp:
    app: Any = Quart(__name__)

    @app.get("/api/me")  # type: ignore[untyped-decorator]
    async def me() -> str:
        return "reached"

    return app  # type: ignore[no-any-return]


FRAMEWORKS: Final[Mapping[str, ASGIApp]] = {
    "Starlette": starlette(),
    "FastAPI": fastapi(),
    "Litestar": litestar(),
    "Quart": quart(),
    "Django": DJANGO,
}
#: Paths as a server hands them on, decoded once.
SPELLINGS: Final = (
    *("/api/me", "/api/me/", "/api", "/api/", "//api/me", "/api//me", "///api///me//"),
    *("/./api/me", "/api/./me", "/x/../api/me", "/api/x/../me", "/api/me/.", "/../api/me"),
    *("/%61pi/me", "/api%2Fme", "/api/%6de", "/%2561pi/me", "/x/%2e%2e/api/me", "/api%2f/me"),
    *("/API/me", "/Api/Me", "/api;a=b/me", "/api/me;a=b", "/api\\me", "\\api\\me", "/api/me\\"),
    *("/api/me?x", "/api/me#x", "/api/me\0", "/api/me ", " /api/me", "/api/me\n", "api/me", ""),
    *("/api/me/..", "/api/..", "/x/api/me", "/p/api/me", "/p/p/api/me", "/P/api/me", "/p//api/me"),
    *("/p/../api/me", "/p/./api/me", "/p;x/api/me", "/papi/me", "/p/%61pi/me", "/api/p/api/me"),
    *("/x/p/api/me", "/x/papi/me", "/xp/api/me", "/p/x/../api/me", "/p/papi/me", "/p/api/p/api/me"),
    *("http://test/api/me", "HTTP://test/api/me", "x:/api/me", "x:api/me", "http://test/p/api/me"),
    *(
        "http:///api/me",
        "http:/api/me",
        "*/api/me",
        "?/api/me",
        "#/api/me",
        "\t/api/me",
        ";/api/me",
    ),
)


#: What a stranger is answered: by no credentials, or by a path that can't be read in one way.
REFUSED: Final = (400, 401)


class Spelled:
    """Hand an app a path to the letter, as some server might."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app = app
        self.path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, "path": self.path, "raw_path": None}, receive, send)


async def status(app: ASGIApp, path: str, root_path: str = "") -> int:
    transport = httpx.ASGITransport(
        Spelled(app, path), root_path=root_path, raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get("/")).status_code


@pytest.mark.parametrize("root_path", ["", "/p", "/p/", "/p/api"])
@pytest.mark.parametrize("name", FRAMEWORKS)
async def test_no_spelling_reaches_a_protected_path(
    sandbox: Sandbox, name: str, root_path: str
) -> None:
    """Where the framework alone answers 200, a stranger gets the gate's 400 or 401 before it."""
    app = FRAMEWORKS[name]
    guarded = XunaMiddleware(app, gate, protect=["/api"])
    reaching = [path for path in SPELLINGS if await status(app, path, root_path) == 200]
    assert reaching or root_path, "the list has no spelling that this framework serves"
    assert [
        path for path in reaching if await status(guarded, path, root_path) not in REFUSED
    ] == []


@pytest.mark.parametrize("root_path", ["", "/p", "/q"])
async def test_a_root_path_of_fastapis_own(sandbox: Sandbox, root_path: str) -> None:
    """`FastAPI(root_path=…)` stands in the server's place: /p/api/me is /api/me there."""
    app: Any = fastapi()
    app.root_path = "/p"  # as the constructor's option, which warns by now
    guarded = XunaMiddleware(app, gate, protect=["/api"])
    reaching = [path for path in SPELLINGS if await status(app, path, root_path) == 200]
    assert "/p/api/me" in reaching
    assert [
        path for path in reaching if await status(guarded, path, root_path) not in REFUSED
    ] == []


async def test_a_script_name_that_django_is_told(sandbox: Sandbox) -> None:
    """FORCE_SCRIPT_NAME does the same."""
    guarded = XunaMiddleware(DJANGO, gate, protect=["/api"])
    with override_settings(FORCE_SCRIPT_NAME="/p"):
        reaching = [path for path in SPELLINGS if await status(DJANGO, path) == 200]
        assert "/p/api/me" in reaching
        assert [path for path in reaching if await status(guarded, path) not in REFUSED] == []


# -- What the app sees ----------------------------------------------------------------------------


@requires(["authenticated", "voice:talk"])
async def me(request: Request) -> JSONResponse:
    identity = get_identity(request.scope)
    return JSONResponse(
        {
            "user": request.user.display_name,
            "authenticated": request.user.is_authenticated,
            "scopes": sorted(request.auth.scopes),
            "same": identity is request.user,
        }
    )


async def open_to_all(request: Request) -> JSONResponse:
    return JSONResponse({"user": "user" in request.scope, "who": get_identity(request.scope)})


async def hello(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.user.display_name)
    await websocket.close()


def site(framework: type[Starlette] = Starlette, **options: Any) -> Starlette:
    app = framework(**options)
    app.router.routes += [
        Route("/api/me", me),
        Route("/open", open_to_all),
        WebSocketRoute("/api/hello", hello),
    ]
    return app


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
def test_starlettes_own_words_work(sandbox: Sandbox, framework: type[Starlette]) -> None:
    """`requires()`, `request.user` and `request.auth`, behind `add_middleware`."""
    app = site(framework)
    app.add_middleware(XunaMiddleware, gate=gate, protect=["/api"])
    client = TestClient(app)
    admitted = client.get("/api/me", headers=sandbox.sign_in("ada", scopes=["voice:talk", "x"]))
    assert admitted.json() == {
        "user": "ada",
        "authenticated": True,
        "scopes": ["authenticated", "voice:talk", "x"],
        "same": True,
    }
    assert client.get("/api/me", headers=sandbox.sign_in("ada", scopes=["x"])).status_code == 403
    assert client.get("/api/me").status_code == 401


def test_elsewhere_nobody_is_known(sandbox: Sandbox) -> None:
    """A path that isn't protected passes untouched, with a token or without."""
    client = TestClient(XunaMiddleware(site(), gate, protect=["/api"]))
    for headers in ({}, sandbox.sign_in("ada"), {"Authorization": "Bearer x"}):
        assert client.get("/open", headers=headers).json() == {"user": False, "who": None}


def test_a_protected_websocket(sandbox: Sandbox) -> None:
    """Verified before it is accepted; a stranger gets the whole 401."""
    client = TestClient(XunaMiddleware(site(), gate, protect=["/api"]))
    with client.websocket_connect("/api/hello", headers=sandbox.sign_in("ada")) as socket:
        assert socket.receive_text() == "ada"
    with pytest.raises(WebSocketDenialResponse) as denial, client.websocket_connect("/api/hello"):
        pass
    answer = denial.value
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


# -- CORS of the app's own ------------------------------------------------------------------------


def with_cors(framework: type[Starlette], gate: XunaGate) -> TestClient:
    """Return an app whose CORSMiddleware is outside the gate, as the documentation says."""
    app = site(framework)
    app.add_middleware(XunaMiddleware, gate=gate, protect=["/api"])
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN], allow_headers=["Authorization"])
    return TestClient(app)


@pytest.mark.parametrize("path", ["/api/me", "/xuna/get-signed-url"])
@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize("own", [(), (ORIGIN,)], ids=["the app's alone", "the gate's too"])
def test_cors_outside_the_gate(framework: type[Starlette], path: str, own: tuple[str, ...]) -> None:
    """Preflights are answered without credentials, and a denial can be read: one header each."""
    client = with_cors(framework, make_gate(cors_origins=own))
    preflight = client.options(path, headers=PREFLIGHT)
    denial = client.get(path, headers={"Origin": ORIGIN})
    assert (preflight.status_code, denial.status_code) == (200, 401)
    for answer in (preflight, denial):
        assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]
    foreign = client.get(path, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_middleware_in_a_list(sandbox: Sandbox) -> None:
    """In `middleware=[…]` the first is the outermost: CORS before the gate."""
    app = site(
        middleware=[
            Middleware(CORSMiddleware, allow_origins=[ORIGIN]),
            Middleware(XunaMiddleware, gate=gate, protect=["/api"]),
        ]
    )
    denial = TestClient(app).get("/api/me", headers={"Origin": ORIGIN})
    assert denial.status_code == 401
    assert denial.headers["access-control-allow-origin"] == ORIGIN
