"""Where a gate may stand: wrapped around or mounted in each framework, beneath any root path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from hypercorn.middleware import DispatcherMiddleware
from litestar import Litestar, asgi
from litestar import Router as LitestarRouter
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from examples import django_app
from xuna_middleware import XunaGate, XunaMiddleware

Build = Callable[[XunaGate], ASGIApp]
#: Django knows one configuration in a process; the example has made it.
DJANGO: Final[ASGIApp] = django_app.app.app


def in_starlette(gate: XunaGate) -> ASGIApp:
    return Starlette(routes=[Mount("/xuna", gate)])


def deep_in_starlette(gate: XunaGate) -> ASGIApp:
    return Starlette(routes=[Mount("/v1", routes=[Mount("/{tenant}", in_starlette(gate))])])


def beside_django(gate: XunaGate) -> ASGIApp:
    return Starlette(routes=[Mount("/xuna", gate), Mount("/", DJANGO)])


def in_fastapi(gate: XunaGate) -> ASGIApp:
    app = FastAPI()
    app.mount("/xuna", gate)
    return app


def litestar_mount(gate: XunaGate) -> Any:
    @asgi("/xuna", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await gate(scope, receive, send)

    return mounted


def litestar(*handlers: Any) -> Any:
    return Litestar(handlers, logging_config=None, openapi_config=None)


def in_a_litestar_router(gate: XunaGate) -> ASGIApp:
    return litestar(LitestarRouter("/v1", route_handlers=[litestar_mount(gate)]))  # type: ignore[no-any-return]


def around_quart(gate: XunaGate) -> ASGIApp:
    app: Any = Quart(__name__)
    app.asgi_app = XunaMiddleware(app.asgi_app, gate)
    return app  # type: ignore[no-any-return]


def dispatcher(mounts: Any) -> ASGIApp:
    app: Any = DispatcherMiddleware(mounts)
    return app  # type: ignore[no-any-return]


def beside_quart(gate: XunaGate) -> ASGIApp:
    return dispatcher({"/xuna": gate, "/": Quart(__name__)})


def quart_in_a_dispatcher(gate: XunaGate) -> ASGIApp:
    return dispatcher({"/quart": around_quart(gate)})


def added_to(framework: type[Starlette]) -> Build:
    def build(gate: XunaGate) -> ASGIApp:
        app = framework()
        app.add_middleware(XunaMiddleware, gate=gate)
        return app

    return build


def listed_in_starlette(gate: XunaGate) -> ASGIApp:
    return Starlette(middleware=[Middleware(XunaMiddleware, gate=gate)])


def around(app: Any) -> Build:
    return lambda gate: XunaMiddleware(app, gate)


def by_itself(gate: XunaGate) -> ASGIApp:
    return gate


class WithoutRawPath:
    """Leave out what the specification calls optional."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        bare = {key: value for key, value in scope.items() if key not in ("raw_path", "root_path")}
        await self.app(bare, receive, send)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Say how the gate is put there, beneath which path, and what the server calls its root."""

    build: Build
    at: str
    root_path: str = ""


PLACES: Mapping[str, Place] = {
    "by itself": Place(build=by_itself, at=""),
    "by itself, root in path": Place(build=by_itself, at="/p", root_path="/p"),
    "by itself, root not in path": Place(build=by_itself, at="", root_path="/p"),
    "wrapped": Place(build=around(Starlette()), at="/xuna"),
    "wrapped, root in path": Place(build=around(Starlette()), at="/p/xuna", root_path="/p"),
    "wrapped, root ends in a slash": Place(
        build=around(Starlette()), at="/p/xuna", root_path="/p/"
    ),
    "wrapped, root not in path": Place(build=around(Starlette()), at="/xuna", root_path="/p"),
    "wrapped, root like the prefix": Place(
        build=around(Starlette()), at="/xuna/xuna", root_path="/xuna"
    ),
    "wrapped, no raw_path, no root_path": Place(
        build=lambda gate: WithoutRawPath(XunaMiddleware(Starlette(), gate)), at="/xuna"
    ),
    "Starlette Mount": Place(build=in_starlette, at="/xuna"),
    "Starlette Mount, root in path": Place(build=in_starlette, at="/p/xuna", root_path="/p"),
    "Starlette Mount, root not in path": Place(build=in_starlette, at="/xuna", root_path="/p"),
    "Starlette Mounts, nested": Place(build=deep_in_starlette, at="/v1/acme/xuna"),
    "Starlette Mounts, nested, root in path": Place(
        build=deep_in_starlette, at="/p/v1/acme/xuna", root_path="/p"
    ),
    "wrapped in a Starlette Mount": Place(
        build=lambda gate: Starlette(routes=[Mount("/site", XunaMiddleware(Starlette(), gate))]),
        at="/site/xuna",
    ),
    "Starlette, middleware=": Place(build=listed_in_starlette, at="/xuna"),
    "Starlette, add_middleware": Place(build=added_to(Starlette), at="/xuna"),
    "FastAPI mount": Place(build=in_fastapi, at="/xuna"),
    "FastAPI mount, root in path": Place(build=in_fastapi, at="/p/xuna", root_path="/p"),
    "FastAPI mount, root not in path": Place(build=in_fastapi, at="/xuna", root_path="/p"),
    "FastAPI, add_middleware": Place(build=added_to(FastAPI), at="/xuna"),
    "Litestar is_mount": Place(build=lambda gate: litestar(litestar_mount(gate)), at="/xuna"),
    "Litestar is_mount in a router": Place(build=in_a_litestar_router, at="/v1/xuna"),
    "around Litestar": Place(build=around(litestar()), at="/xuna"),
    "Django beside it in a Mount": Place(build=beside_django, at="/xuna"),
    "around Django": Place(build=around(DJANGO), at="/xuna"),
    "around Django, root in path": Place(build=around(DJANGO), at="/p/xuna", root_path="/p"),
    "around Quart": Place(build=around_quart, at="/xuna"),
    "around Quart, root in path": Place(build=around_quart, at="/p/xuna", root_path="/p"),
    "around Quart, in hypercorn's dispatcher": Place(build=quart_in_a_dispatcher, at="/quart/xuna"),
    "beside Quart, in hypercorn's dispatcher": Place(build=beside_quart, at="/xuna"),
}
