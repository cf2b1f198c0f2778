"""One app in each framework, and which of its handlers runs for a scope: the framework decides.

Every app has the same addresses (`HANDLERS`), written in the framework's own way, and handlers
that only note that they ran. Most are asked by running the whole ASGI app. Two are too slow for
200,000 spellings and are asked at the router, with the input that the framework would give it:

- Quart: the request that `ASGIHTTPConnection` or `ASGIWebsocketConnection` makes of the scope, and
  the URL adapter that the app makes of that request.
- Django: `ASGIRequest(scope).path_info` and the app's resolver, as `resolve_request` has it.

`tests/web/test_routers.py` compares these two with the whole apps.
"""

import asyncio
import io
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from starlette.types import Message, Scope

#: Handlers, and where each is: the ones behind /api, the open one, and what is neither.
HANDLERS: Final[Mapping[str, str]] = {
    "secret": "/api/secret",
    "users": "/api/users",
    "user": "/api/users/7",
    "api": "/api/files/a/b",
    "talk": "/api/talk",
    "open": "/open/x",
    "elsewhere": "/blog/x",
}
#: The rest of the addresses of every app; `*` is whatever follows, with its slashes.
_ELSEWHERE: Final = (("/open", "open"), ("/open/*", "open"), ("/*", "elsewhere"))
_BENEATH: Final = (
    ("/api/secret", "secret"),
    ("/api/users", "users"),
    ("/api/users/:", "user"),
    ("/api/*", "api"),
    ("/api", "api"),
)
_ADDRESSES: Final = (*_BENEATH, *_ELSEWHERE)
_SOCKETS: Final = (("/api/talk", "talk"), *_ELSEWHERE)
#: What runs behind a WebSocket's handshake, in the frameworks that have any.
WEBSOCKETS: Final = ("talk", "open", "elsewhere")

#: Which handlers ran, of all apps.
RAN: list[str] = []
Reach = Callable[[Scope], Awaitable[str | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Hold a framework's way to say which handler a scope reaches.

    `reach` is what 200,000 spellings can pay for; `whole` runs the whole app.
    """

    app: Any
    reach: Reach
    whole: Reach
    websockets: bool = True


def _router(app: Any, reach: Reach | None = None, *, websockets: bool = True) -> Router:
    whole = _whole(app)
    return Router(app=app, reach=reach or whole, whole=whole, websockets=websockets)


def _whole(app: Any) -> Reach:
    """Return what runs an app and says which handler ran. What an app raises reaches none."""

    async def reach(scope: Scope) -> str | None:
        RAN.clear()
        is_http = scope["type"] == "http"
        first: Message = {"type": "websocket.connect"}
        if is_http:
            first = {"type": "http.request", "body": b"", "more_body": False}
        pending = [first]

        async def receive() -> Message:
            if not pending and is_http:
                await asyncio.Event().wait()  # it stays; Django drops a view whose caller leaves
            return pending.pop() if pending else {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Message) -> None:
            pass

        try:
            await app({**scope}, receive, send)
        except Exception:  # some frameworks hand on what odd paths break
            assert len(RAN) <= 1, RAN
        return RAN[0] if RAN else None

    return reach


# -- Starlette and FastAPI ------------------------------------------------------------------------


@asynccontextmanager
async def _starlette() -> AsyncIterator[Router]:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute

    def handler(name: str) -> Any:
        async def run(request: Any) -> Response:
            RAN.append(name)
            return Response()

        return run

    def socket(name: str) -> Any:
        async def run(websocket: Any) -> None:
            RAN.append(name)
            await websocket.close()

        return run

    beneath: list[BaseRoute] = [
        Route("/secret", handler("secret")),
        Route("/users", handler("users")),
        Route("/users/{user}", handler("user")),
        WebSocketRoute("/talk", socket("talk")),
        Route("/{rest:path}", handler("api")),
    ]
    routes: list[BaseRoute] = [Mount("/api", routes=beneath), Route("/api", handler("api"))]
    for path, name in _ELSEWHERE:
        pattern = path.replace("*", "{rest:path}")
        routes += [Route(pattern, handler(name)), WebSocketRoute(pattern, socket(name))]
    yield _router(Starlette(routes=routes))


@asynccontextmanager
async def _fastapi() -> AsyncIterator[Router]:
    from fastapi import FastAPI, WebSocket
    from fastapi.responses import Response

    app = FastAPI(openapi_url=None)

    def handler(name: str) -> Any:
        async def run() -> Response:
            RAN.append(name)
            return Response()

        return run

    def socket(name: str) -> Any:
        async def run(websocket: WebSocket) -> None:
            RAN.append(name)
            await websocket.close()

        return run

    for path, name in _ADDRESSES:
        app.add_api_route(_braces(path), handler(name))
    for path, name in _SOCKETS:
        app.add_api_websocket_route(_braces(path), socket(name))
    yield _router(app)


def _braces(path: str) -> str:
    return path.replace(":", "{user}").replace("*", "{rest:path}")


# -- Quart ----------------------------------------------------------------------------------------


@asynccontextmanager
async def _quart() -> AsyncIterator[Router]:
    from quart import Quart
    from quart.asgi import ASGIHTTPConnection, ASGIWebsocketConnection
    from werkzeug.routing import BaseConverter

    class Rest(BaseConverter):
        """Take whatever follows; `path` takes nothing that begins with a slash."""

        regex = ".*?"
        part_isolating = False

    app = Quart(__name__, static_folder=None)
    app.url_map.converters["rest"] = Rest
    endpoints: dict[str, str] = {}

    def add(path: str, name: str, is_websocket: bool) -> None:
        async def run(**_: str) -> str:
            RAN.append(name)
            return ""

        endpoint = f"{len(endpoints)}"
        endpoints[endpoint] = name
        rule = path.replace(":", "<user>").replace("*", "<rest:rest>")
        if is_websocket:
            app.add_websocket(rule, endpoint, run)
        else:
            app.add_url_rule(rule, endpoint, run)

    for path, name in (*_ADDRESSES, ("/", "elsewhere")):
        add(path, name, is_websocket=False)
    for path, name in (*_SOCKETS, ("/", "elsewhere")):
        add(path, name, is_websocket=True)

    async def nowhere(*_: Any) -> None:
        pass

    async def reach(scope: Scope) -> str | None:
        made: Any = scope
        try:
            if scope["type"] == "http":
                request: Any = ASGIHTTPConnection(app, made)._create_request_from_scope(nowhere)
            else:
                connection = ASGIWebsocketConnection(app, made)
                request = connection._create_websocket_from_scope(nowhere)
            adapter = app.create_url_adapter(request)
            rule, _ = adapter.match(return_rule=True)  # type: ignore[union-attr]
        except Exception:  # not found, a redirect, or what an odd path broke
            return None
        return endpoints[rule.endpoint] if request.method in (rule.methods or "GET") else None

    yield _router(app, reach)


# -- Litestar -------------------------------------------------------------------------------------


@asynccontextmanager
async def _litestar() -> AsyncIterator[Router]:
    from litestar import Litestar, WebSocket, get, websocket

    handlers: list[Any] = []

    def add(path: str, name: str) -> None:
        async def run() -> None:
            RAN.append(name)

        handlers.append(get(path, name=f"{path} {name}")(run))

    def add_socket(path: str, name: str) -> None:
        async def run(socket: WebSocket[Any, Any, Any]) -> None:
            RAN.append(name)
            await socket.close()

        handlers.append(websocket(path)(run))

    for path, name in (*_ADDRESSES, ("/", "elsewhere")):
        add(path.replace(":", "{user:str}").replace("*", "{rest:path}"), name)
    for path, name in (*_SOCKETS, ("/", "elsewhere")):
        add_socket(path.replace("*", "{rest:path}"), name)
    app = Litestar(handlers, openapi_config=None, logging_config=None)
    yield _router(app)


# -- Django with Django REST framework ------------------------------------------------------------


_URLS: Final = "urls_of_tests_routers"


@contextmanager
def django_configured() -> Iterator[None]:
    """Configure Django for a while; whatever another test configured comes back."""
    from django.conf import settings
    from django.urls import clear_url_caches
    from django.utils.functional import empty

    before = settings._wrapped
    settings._wrapped = empty
    of_rest_framework = {
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "UNAUTHENTICATED_USER": None,
    }
    settings.configure(
        ALLOWED_HOSTS=["*"],
        SECRET_KEY="x",
        ROOT_URLCONF=_URLS,
        MIDDLEWARE=[],
        REST_FRAMEWORK=of_rest_framework,
    )
    clear_url_caches()
    try:
        sys.modules[_URLS] = _django_urls()
        yield
    finally:
        settings._wrapped = before
        clear_url_caches()
        sys.modules.pop(_URLS, None)


def _django_urls() -> ModuleType:
    from django.http import HttpResponse
    from django.urls import include, path, re_path
    from rest_framework.response import Response
    from rest_framework.urlpatterns import format_suffix_patterns
    from rest_framework.views import APIView

    def view(name: str) -> Any:
        async def run(request: Any, **_: Any) -> HttpResponse:
            RAN.append(name)
            return HttpResponse()

        run.handler = name  # type: ignore[attr-defined]
        return run

    def of_rest_framework(name: str) -> Any:
        class View(APIView):  # type: ignore[misc]
            def get(self, request: Any, **_: Any) -> Response:
                RAN.append(name)
                return Response({})

        run = View.as_view()
        run.handler = name
        return run

    suffixed = format_suffix_patterns(
        [
            path("api/users", of_rest_framework("users")),
            re_path(r"(?i)^api/users/(?P<user>[^/.]+)/?$", of_rest_framework("user")),
        ]
    )
    beneath = [re_path(r"(?i)^secret$", view("secret")), path("<path:rest>", view("api"))]
    urls = ModuleType(_URLS)
    patterns = [
        *suffixed,
        path("api/secret", view("secret")),
        re_path(r"(?i)^api/secret/?$", view("secret")),
        re_path(r"(?i)^api/", include(beneath)),
        path("api", view("api")),
        re_path(r"^open(?:/.*)?$", view("open")),
        re_path("", view("elsewhere")),
    ]
    urls.urlpatterns = patterns  # type: ignore[attr-defined]
    return urls


@asynccontextmanager
async def _django() -> AsyncIterator[Router]:
    from django.core.handlers.asgi import ASGIHandler, ASGIRequest
    from django.urls import get_resolver

    with django_configured():
        app = ASGIHandler()
        resolver = get_resolver()

        async def reach(scope: Scope) -> str | None:
            try:
                path_info = ASGIRequest(scope, io.BytesIO()).path_info
                handler: str = resolver.resolve(path_info).func.handler
            except Exception:  # not found, or what an odd path broke
                return None
            return handler

        yield _router(app, reach, websockets=False)


# -- Falcon, BlackSheep, Sanic --------------------------------------------------------------------


@asynccontextmanager
async def _falcon() -> AsyncIterator[Router]:
    import falcon.asgi

    class Resource:
        def __init__(self, name: str, socket: str | None = None) -> None:
            self._name = name
            self._socket = socket

        async def on_get(self, req: Any, resp: Any, **_: Any) -> None:
            RAN.append(self._name)

        async def on_websocket(self, req: Any, ws: Any, **_: Any) -> None:
            if self._socket:
                RAN.append(self._socket)
            await ws.close()

    app = falcon.asgi.App()
    app.req_options.strip_url_path_trailing_slash = True
    sockets = dict(_SOCKETS)
    for path, name in (*_ADDRESSES, ("/api/talk", "api"), ("/", "elsewhere")):
        template = path.replace(":", "{user}").replace("*", "{rest:path}")
        app.add_route(template, Resource(name, sockets.get(path)))
    yield _router(app)


@asynccontextmanager
async def _blacksheep() -> AsyncIterator[Router]:
    from blacksheep import Application, Request, WebSocket
    from blacksheep.server.routing import Router as Routes

    app: Any = Application(router=Routes())

    def add(path: str, name: str) -> None:
        async def run(request: Request) -> str:
            RAN.append(name)
            return ""

        app.router.add_get(path, run)

    def add_socket(path: str, name: str) -> None:
        async def run(websocket: WebSocket) -> None:
            RAN.append(name)
            await websocket.close()

        app.router.add_ws(path, run)

    for path, name in (*_ADDRESSES, ("/", "elsewhere")):
        add(path.replace(":", "{user}"), name)
    for path, name in (*_SOCKETS, ("/", "elsewhere")):
        add_socket(path, name)
    await app.start()
    yield _router(app)
    await app.stop()


@asynccontextmanager
async def _sanic() -> AsyncIterator[Router]:
    from sanic import Sanic
    from sanic.response import empty

    app: Any = Sanic("routers_of_tests", configure_logging=False)
    Sanic.unregister_app(app)
    app.config.TOUCHUP = False
    app.config.FALLBACK_ERROR_FORMAT = "text"

    def handler(name: str) -> Any:
        async def run(request: Any, **_: str) -> Any:
            RAN.append(name)
            return empty()

        return run

    def socket(name: str) -> Any:
        async def run(request: Any, ws: Any, **_: str) -> None:
            RAN.append(name)

        return run

    for number, (path, name) in enumerate((*_ADDRESSES, ("/", "elsewhere"))):
        rule = path.replace(":", "<user>").replace("*", "<rest:path>")
        app.add_route(handler(name), rule, name=f"route{number}")
    app.add_websocket_route(socket("talk"), "/api/talk", name="talk")
    app.asgi = True
    await app._startup()
    yield _router(app)


# -- What takes a beginning of the text for its own -----------------------------------------------


async def _mounted(name: str, scope: Scope, send: Any) -> None:
    RAN.append(name)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def _falcon_sinks() -> AsyncIterator[Router]:
    import falcon.asgi

    def sink(name: str) -> Any:
        async def run(req: Any, resp: Any, **_: Any) -> None:
            RAN.append(name)

        return run

    app = falcon.asgi.App()
    for prefix, name in _MOUNTED[::-1]:  # the last one is asked first
        app.add_sink(sink(name), prefix)
    yield _router(app, websockets=False)


@asynccontextmanager
async def _litestar_mounts() -> AsyncIterator[Router]:
    from litestar import Litestar, asgi

    def mount(name: str) -> Any:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            await _mounted(name, scope, send)

        return run

    handlers = [asgi(path, is_mount=True, name=path)(mount(name)) for path, name in _MOUNTED[:2]]
    yield _router(Litestar(handlers, openapi_config=None, logging_config=None))


@asynccontextmanager
async def _dispatcher() -> AsyncIterator[Router]:
    from hypercorn.middleware import DispatcherMiddleware

    def mount(name: str) -> Any:
        async def run(scope: Any, receive: Any, send: Any) -> None:
            await _mounted(name, scope, send)

        return run

    mounts: Any = {path: mount(name) for path, name in _MOUNTED}
    yield _router(DispatcherMiddleware(mounts))


_MOUNTED: Final = (("/api", "api"), ("/open", "open"), ("/", "elsewhere"))
#: These match `/apis` where `/api` is mounted.
MOUNTS: Final[Mapping[str, Callable[[], Any]]] = {
    "Falcon's sinks": _falcon_sinks,
    "Litestar's mounts": _litestar_mounts,
    "hypercorn's dispatcher": _dispatcher,
}
FRAMEWORKS: Final[Mapping[str, Callable[[], Any]]] = {
    "Starlette": _starlette,
    "FastAPI": _fastapi,
    "Quart": _quart,
    "Litestar": _litestar,
    "Django": _django,
    "Falcon": _falcon,
    "BlackSheep": _blacksheep,
    "Sanic": _sanic,
}


@contextmanager
def silence() -> Iterator[None]:
    """Turn off what the frameworks log for a while."""
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


@asynccontextmanager
async def open_router(framework: str) -> AsyncIterator[Router]:
    """Build an app in a framework, and take down after it whatever it changed."""
    with silence():
        async with {**FRAMEWORKS, **MOUNTS}[framework]() as router:
            yield router
