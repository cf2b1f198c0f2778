"""Which path a request means: by table, and against the routers of those who really route.

The reference is the wrapped app itself: whatever spelling reaches its protected handler must have
been guarded, whichever framework it is and whatever the server made of root_path.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from support.doubles import (
    DENIAL,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    exchange,
    http_scope,
    knock,
    make_gate,
    one_response,
    websocket_scope,
)
from support.signing import RSA
from test_protected_paths import AMBIGUOUS, PROTECTED

from xuna_middleware import ConfigurationError, XunaGate, XunaMiddleware
from xuna_middleware._core.paths import relative_path

REACHED: Final = b"the protected handler"


@pytest.mark.parametrize(
    ("path", "root_path", "relative"),
    [
        ("/xuna/x", "", "/xuna/x"),
        ("/sub/xuna/x", "/sub", "/xuna/x"),
        ("/sub/xuna/x", "/sub/", "/xuna/x"),
        ("/sub", "/sub", ""),
        ("/sub/", "/sub", "/"),
        ("/xuna/x", "/sub", "/xuna/x"),
        ("/subway/x", "/sub", "/subway/x"),
        ("/x/sub/y", "/sub", "/x/sub/y"),
        ("/sub/sub/x", "/sub", "/sub/x"),
        ("/x", "/", "/x"),
        ("", "", ""),
        ("", "/sub", ""),
        ("/SUB/x", "/sub", "/SUB/x"),
    ],
)
def test_root_path_is_removed_by_whole_segments(path: str, root_path: str, relative: str) -> None:
    """And only where the path starts with it."""
    assert relative_path(path, root_path) == relative


@pytest.mark.parametrize(
    "prefix", ["xuna", "/xuna/", "/", "/a b", "/x//y", "/x/../y", "/x%20", "/;"]
)
def test_prefix_must_be_plain(prefix: str) -> None:
    """The gate's own prefix, too."""
    with pytest.raises(ConfigurationError):
        XunaMiddleware(echo_app, make_gate(), prefix=prefix)


def test_public_url_ends_in_the_prefix() -> None:
    """Else one of the two is wrong."""
    gate = make_gate(public_url="https://acme.com/talk")
    with pytest.raises(ConfigurationError, match="prefix"):
        XunaMiddleware(echo_app, gate, prefix="/xuna")
    XunaMiddleware(echo_app, gate, prefix="/talk")


# What the gate claims


GATE_PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "plain": ("/xuna/get-signed-url", ""),
    "root_path in path": ("/sub/xuna/get-signed-url", "/sub"),
    "root_path not in path": ("/xuna/get-signed-url", "/sub"),
    "root_path with a slash": ("/sub/xuna/get-signed-url", "/sub/"),
    "root_path like the prefix": ("/xuna/xuna/get-signed-url", "/xuna"),
    "two levels": ("/a/b/xuna/get-signed-url", "/a/b"),
}


@pytest.mark.parametrize(("path", "root_path"), GATE_PATHS.values(), ids=GATE_PATHS.keys())
async def test_gate_is_found_in_every_scope_shape(path: str, root_path: str) -> None:
    """The same decision under a mount, a proxy's prefix and a server's own root path."""
    platform = CountedPlatform()
    wrapped = XunaMiddleware(echo_app, make_gate(platform))
    assert (await ask(wrapped, path, root_path=root_path)).status == 401
    answer = await ask(wrapped, path, root_path=root_path, headers=bearer(RSA.token()))
    assert answer.status == 200
    assert len(platform.requests) == 1


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/sub/get-signed-url", "/sub"),
        ("/get-signed-url", "/sub"),
        ("/get-signed-url", ""),
        ("/get-signed-url/", ""),
    ],
)
async def test_gate_mounted_by_itself(path: str, root_path: str) -> None:
    """As Starlette mounts it (whole path), and as Litestar does (prefix stripped, slash added)."""
    answer = await ask(make_gate(), path, root_path=root_path, headers=bearer(RSA.token()))
    assert answer.status == 200


@pytest.mark.parametrize(
    "path",
    [
        *("//xuna/get-signed-url", "/xuna//get-signed-url", "/xuna/../xuna/get-signed-url"),
        *("/xuna/%2e%2e/get-signed-url", "/xuna%2Fget-signed-url", "/xunafoo/get-signed-url"),
        *("/XUNA/get-signed-url", "/xuna/Get-Signed-Url", "/xuna;a=b/get-signed-url"),
        *("\\xuna\\get-signed-url", "/xuna\\get-signed-url", "/xuna/./get-signed-url"),
        *(
            "xuna/get-signed-url",
            "/get-signed-url",
            "/x/xuna/get-signed-url",
            "/xuna/get-signed-url;",
        ),
        *("http://host/xuna/get-signed-url", "*", "", "/xuna/get-signed-url\0"),
    ],
)
async def test_odd_spelling_of_a_route_issues_nothing(path: str) -> None:
    """Even with a good token: 404 from the gate, or the app's own answer."""
    platform = CountedPlatform()
    wrapped = XunaMiddleware(echo_app, make_gate(platform))
    answer = await ask(wrapped, path, headers=bearer(RSA.token()))
    assert answer.status in (200, 404)
    assert answer.status == 404 or answer.body == b"the app"
    assert platform.requests == []


async def test_prefix_owns_all_beneath_it() -> None:
    """404 from the gate for what it doesn't know; the app never sees it."""
    wrapped = XunaMiddleware(echo_app, make_gate())
    for path in ("/xuna", "/xuna/", "/xuna/x", "/xuna/x/y"):
        answer = await ask(wrapped, path)
        assert (answer.status, answer.json()["code"]) == (404, "not_found")
    for path in ("/xunafoo", "/", "/x/xuna", "/XUNA"):
        assert (await ask(wrapped, path)).body == b"the app"


async def test_empty_prefix_claims_the_issuing_routes_only() -> None:
    """The rest stays the app's."""
    wrapped = XunaMiddleware(echo_app, make_gate(), prefix="")
    for root_path in ("", "/sub"):
        for path in ("/get-signed-url", "/conversation-token"):
            assert (await ask(wrapped, root_path + path, root_path=root_path)).status == 401
    for path in ("/agents", "/readyz", "/", "", "/get-signed-url/x", "/x/get-signed-url"):
        assert (await ask(wrapped, path)).body == b"the app"


# Against the routers themselves


async def starlette_handler(request: Request) -> PlainTextResponse:
    return PlainTextResponse(REACHED)


async def starlette_socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


@cache
def starlette_app() -> ASGIApp:
    things = [
        Route("/", starlette_handler),
        Route("/things", starlette_handler),
        Route("/{rest:path}", starlette_handler),
    ]
    return Starlette(
        routes=[
            WebSocketRoute("/api/talk", starlette_socket),
            Route("/api", starlette_handler),
            Mount("/api", routes=things),
        ]
    )


@cache
def fastapi_app() -> ASGIApp:
    from fastapi import FastAPI

    app = FastAPI()
    for path in ("/api", "/api/things"):
        app.add_api_route(path, lambda: PlainTextResponse(REACHED))
    return app


@cache
def quart_app() -> Any:
    from quart import Quart

    app = Quart(__name__)

    async def handler(**_: str) -> bytes:
        return REACHED

    for number, path in enumerate(("/api", "/api/things", "/api/<path:rest>")):
        app.add_url_rule(path, str(number), handler)
    return app


@cache
def litestar_app() -> Any:
    from litestar import Litestar, get

    @get(["/api", "/api/things"], media_type="text/plain", sync_to_thread=False)
    def handler() -> str:
        return REACHED.decode()

    return Litestar([handler], openapi_config=None)


@contextmanager
def django_settings() -> Iterator[None]:
    """Configure Django for a moment; whatever another test configured comes back."""
    from django.conf import settings
    from django.utils.functional import empty

    before = settings._wrapped
    settings._wrapped = empty
    settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x", ROOT_URLCONF=__name__, MIDDLEWARE=[])
    try:
        yield
    finally:
        settings._wrapped = before


async def django_app(scope: Scope, receive: Receive, send: Send) -> None:
    from django.core.handlers.asgi import ASGIHandler

    with django_settings():
        await ASGIHandler()(scope, receive, send)


async def django_handler(request: Any, rest: Any = None) -> Any:
    from django.http import HttpResponse

    return HttpResponse(REACHED)


def __getattr__(name: str) -> Any:
    """Hand Django its routes when it asks for them, so that nobody else has to import it."""
    if name == "urlpatterns":
        from django.urls import re_path

        return [re_path("^api(/.*)?$", django_handler)]
    raise AttributeError(name)


ROUTERS: Final[Mapping[str, Callable[[], Any]]] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "quart": quart_app,
    "litestar": litestar_app,
    "django": lambda: django_app,
}


async def sent_by(app: ASGIApp, path: str, root_path: str) -> bytes:
    """Return what an app answers to a GET, or nothing where it fails by itself."""
    scope = http_scope(path, root_path=root_path, headers=[(b"host", b"testserver")])
    try:
        sent = await exchange(app, scope, [{"type": "http.request", "body": b""}])
    except Exception:
        return b""
    return b"".join(message.get("body", b"") for message in sent)


@cache
def gate() -> XunaGate:
    return make_gate()


@cache
def wrapped_app(framework: str) -> XunaMiddleware:
    return XunaMiddleware(ROUTERS[framework](), gate(), protect=["/api"])


async def is_open(framework: str, path: str, root_path: str) -> bool:
    """Tell whether a spelling gets through the gate to the protected handler, without a token."""
    return REACHED in await sent_by(wrapped_app(framework), path, root_path)


@pytest.mark.parametrize("framework", ROUTERS)
async def test_reference_router_works(framework: str) -> None:
    """The control: the app alone serves the protected path, and with a token behind the gate."""
    assert REACHED in await sent_by(ROUTERS[framework](), "/api", "")
    wrapped = wrapped_app(framework)
    headers = [(b"host", b"testserver"), *bearer(RSA.token())]
    assert REACHED in (await ask(wrapped, "/api", headers=headers)).body


TRICKS: Final[Mapping[str, tuple[str, str]]] = {
    **{
        path: (path, "")
        for path in (*PROTECTED, *AMBIGUOUS, "/api\0", "/api ", "/api?x", "/api#x", "/api%3F")
    },
    "absolute form": ("http://host/api", ""),
    "absolute form, https": ("https://host/api/things", ""),
    "absolute form, no host": ("http:///api", ""),
    "absolute form, any scheme": ("x:/api", ""),
    "absolute form, a query": ("http://host/api?x", ""),
    "no slash": ("api", ""),
    "no slash, more": ("api/things", ""),
    "a dot, no slash": ("./api", ""),
    "root_path glued": ("/subapi", "/sub"),
    "root_path glued, more": ("/subapi/things", "/sub"),
    "root_path in the middle": ("/x/sub/api", "/sub"),
    "root_path twice": ("/sub/sub/api", "/sub"),
    "root_path in a word": ("/xsub/api", "/sub"),
    "root_path with a slash": ("/sub/api", "/sub/"),
    "root_path with a slash, glued": ("/sub/api", "/sub/"),
    "root_path of a slash": ("/api", "/"),
    "root_path doubled slash": ("/sub//api", "/sub"),
    "root_path, absolute form": ("http://host/sub/api", "/sub"),
    "root_path before absolute form": ("/subhttp://host/api", "/sub"),
    "root_path with odd letters": ("/a;b/api", "/a;b"),
    "root_path with odd letters, doubled": ("/a;b//api", "/a;b"),
    "root_path percent-encoded": ("/a%20b/api", "/a%20b"),
    "root_path with doubled slashes": ("/a//b/api", "/a//b"),
    "root_path without a slash": ("sub/api", "sub"),
}


@pytest.mark.parametrize("framework", ROUTERS)
async def test_no_trick_reaches_a_protected_handler(framework: str) -> None:
    """A protected path can't be reached by any spelling that the wrapped app would route to it."""
    tricks = TRICKS.items()
    assert [name for name, (path, root) in tricks if await is_open(framework, path, root)] == []


PIECES: Final = (
    *("/", "/", "/api", "api", "/sub", "sub", "things", "x", "..", ".", "//", "\\", ";a=b", "%2F"),
    *("%2e", "%61pi", "API", " ", "\0", "http:", "?", "#", "é", "%", "%5C", "-", "\t", "\n"),
)
spellings = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)
root_paths = st.sampled_from(("", "", "", "/sub", "/sub/", "/", "/x", "/api", "sub", "/a b"))


@given(path=spellings, root_path=root_paths, framework=st.sampled_from(sorted(ROUTERS)))
@example(path="/api", root_path="", framework="starlette")
async def test_no_generated_spelling_reaches_a_protected_handler(
    path: str, root_path: str, framework: str
) -> None:
    """The same for spellings that Hypothesis puts together."""
    assert not await is_open(framework, path, root_path)


@given(path=spellings, root_path=root_paths)
async def test_no_generated_spelling_opens_a_protected_websocket(path: str, root_path: str) -> None:
    """The same for WebSockets, by Starlette's router."""
    scope = websocket_scope(path + "/api/talk", root_path=root_path)
    wrapped = XunaMiddleware(starlette_app(), gate(), protect=["/api"])
    sent = await exchange(wrapped, scope, [{"type": "websocket.connect"}])
    assert all(message["type"] != "websocket.accept" for message in sent)


async def test_websocket_at_a_protected_path() -> None:
    """Denied before accept without a token, and let through with one."""
    wrapped = XunaMiddleware(starlette_app(), gate(), protect=["/api"])
    sent = await knock(wrapped, "/api/talk", extensions=DENIAL)
    assert one_response(sent, "websocket.http.response").status == 401
    sent = await knock(wrapped, "/api/talk", headers=bearer(RSA.token()))
    assert sent[0]["type"] == "websocket.accept"


async def test_protected_path_passes_everything_else_of_the_request() -> None:
    """Method and body are the app's affair; the scope that came in is not touched."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope["method"], await receive()))
        await echo_app(scope, receive, send)

    wrapped = XunaMiddleware(app, gate(), protect=["/api"])
    scope = http_scope("/api", method="PATCH", headers=bearer(RSA.token()))
    before = dict(scope)
    sent = await exchange(wrapped, scope, [{"type": "http.request", "body": b"x"}])
    assert one_response(sent) == Answer(status=200, headers=[], body=b"the app")
    assert seen == [("PATCH", {"type": "http.request", "body": b"x"})]
    assert scope == before
