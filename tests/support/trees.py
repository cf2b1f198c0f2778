"""Apps mounted in apps in mounts, each level by another framework: what runs there for a path.

A mount's name becomes a root path for what is within, by some frameworks; others remove the name
from the path, and Litestar then removes a root path wherever it stands. So the names that lead to
an address, once more behind it, can be another address.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from starlette.types import Message, Scope

from support.differential import Guard
from support.doubles import http_scope

#: The names of mounts, from the outermost one.
NAMES: Final = ("/a", "/b", "/c")
_STATIC: Final = "/static"
SECRET: Final = "/secret"
#: Names of mounts and routes that begin or end like the next one, by the number of mounts.
OVERLAPPING: Final[Mapping[int, tuple[tuple[tuple[str, ...], str], ...]]] = {
    1: ((("/s",), "/secret"), (("/api",), "/items"), (("/a/b",), "/a/bc")),
    2: ((("/s", "/s"), "/secret"), (("/ab", "/bits"), "/bits/s"), (("/a", "/ab"), "/b")),
}
#: What a path is bent with.
_PIECES: Final = (
    *("/a", "/b", "/c", "a", "b", "/secret", "secret", "/static", "/", "//", "%2F", "%61", "%62"),
    *("%73ecret", "/%2561", ";", "/;", ".", "/x", "%20", " ", "//x", "A", "/S", "%C4%B1"),
)

#: Which handlers ran, of all apps.
RAN: list[str] = []


# Litestar's mounts put a slash behind a path, so each leaf takes one.


def _starlette(route: str) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    def run(name: str) -> Any:
        async def handler(request: Any) -> Response:
            RAN.append(name)
            return Response()

        return handler

    return Starlette(
        routes=[
            Route(route + "/", run("secret")),
            Route(route, run("secret")),
            Route("/static/{rest:path}", run("static")),
        ]
    )


def _litestar(route: str) -> Any:
    from litestar import Litestar, get

    @get(route)
    async def secret() -> None:
        RAN.append("secret")

    @get("/static/{rest:path}")
    async def static(rest: str) -> None:
        RAN.append("static")

    return Litestar([secret, static], openapi_config=None, logging_config=None)


def _quart(route: str) -> Any:
    from quart import Quart

    app = Quart(__name__, static_folder=None)

    async def run(**rest: str) -> str:
        RAN.append("static" if rest else "secret")
        return ""

    app.add_url_rule(route, "secret", run, strict_slashes=False)
    app.add_url_rule("/static/<path:rest>", "static", run)
    return app


def _falcon(route: str) -> Any:
    import falcon.asgi

    class Resource:
        async def on_get(self, req: Any, resp: Any, **rest: str) -> None:
            RAN.append("static" if rest else "secret")

    app = falcon.asgi.App()
    app.req_options.strip_url_path_trailing_slash = True
    app.add_route(route, Resource())
    app.add_route("/static/{rest:path}", Resource())
    return app


def _blacksheep(route: str) -> Any:
    from blacksheep import Application, Request
    from blacksheep.server.routing import Router

    app: Any = Application(router=Router())

    async def secret(request: Request) -> str:
        RAN.append("secret")
        return ""

    async def static(request: Request) -> str:
        RAN.append("static")
        return ""

    app.router.add_get(route, secret)
    app.router.add_get("/static/*", static)
    return app


def _in_starlette(name: str, app: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.routing import Mount

    return Starlette(routes=[Mount(name, app)])


def _in_litestar(name: str, app: Any) -> Any:
    from litestar import Litestar, asgi

    @asgi(name, is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return Litestar([mounted], openapi_config=None, logging_config=None)


def _in_blacksheep(name: str, app: Any) -> Any:
    from blacksheep import Application
    from blacksheep.server.routing import Router

    around: Any = Application(router=Router())
    around.mount(name, app)
    return around


def _in_dispatcher(name: str, app: Any) -> Any:
    from hypercorn.middleware import DispatcherMiddleware

    return DispatcherMiddleware({name: app})


LEAVES: Final[Mapping[str, Callable[[str], Any]]] = {
    "Starlette": _starlette,
    "Litestar": _litestar,
    "Quart": _quart,
    "Falcon": _falcon,
    "BlackSheep": _blacksheep,
}
MOUNTS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "Starlette": _in_starlette,
    "Litestar": _in_litestar,
    "BlackSheep": _in_blacksheep,
    "dispatcher": _in_dispatcher,
}
#: The frameworks whose mounts match what is left in the path, not what is left to route.
_BY_WHOLE_PATH: Final = {"BlackSheep", "dispatcher"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Hold an app in mounts, and the path that leads to it."""

    name: str
    app: Any
    secret: str

    async def runs(self, raw: str) -> bool:
        """Tell whether the app runs its secret handler for a path."""
        RAN.clear()
        pending: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if not pending:
                await asyncio.Event().wait()
            return pending.pop()

        async def send(message: Message) -> None:
            pass

        with suppress(Exception):  # some frameworks hand on what odd paths break
            await asyncio.wait_for(self.app(scope_of(raw), receive, send), 5)
        return "secret" in RAN


def scope_of(raw: str) -> Scope:
    """Return what a server makes of a request target, without a root path of its own."""
    path = unquote_to_bytes(raw).decode("utf-8", "replace")
    return http_scope(path, raw_path=raw.encode(), state={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Nesting:
    """Say which frameworks' mounts are around which leaf, from the outermost one.

    hypercorn's dispatcher and BlackSheep want the whole path in a mount's name where what is around
    them leaves it in the path, and the bare name where it doesn't.
    """

    mounts: tuple[str, ...]
    leaf: str
    has_whole_names: bool
    names: tuple[str, ...] = NAMES
    route: str = SECRET

    @property
    def secret(self) -> str:
        """The path that leads to the secret handler."""
        return "".join(self.names[: len(self.mounts)]) + self.route

    def build(self) -> list[Any]:
        """Return the apps, the outermost one last."""
        built = [LEAVES[self.leaf](self.route)]
        for level in reversed(range(len(self.mounts))):
            name, mount = self.names[level], self.mounts[level]
            if self.has_whole_names and mount in _BY_WHOLE_PATH:
                name = _left_in_path(self.mounts[:level], self.names) + name
            built.append(MOUNTS[mount](name, built[-1]))
        return built


def nestings(levels: int, leaves: Iterable[str] = LEAVES) -> Iterator[Nesting]:
    """Yield all nestings of so many levels."""
    for *mounts, leaf in itertools.product(*[MOUNTS] * levels, leaves):
        for is_whole in (False, True) if _BY_WHOLE_PATH & {*mounts} else (False,):
            yield Nesting(mounts=tuple(mounts), leaf=leaf, has_whole_names=is_whole)


def overlapping() -> Iterator[Nesting]:
    """Yield nestings of one or two levels in which a name begins or ends like the next one."""
    for nesting in (*nestings(1), *nestings(2, ("Litestar", "Quart"))):
        for names, route in OVERLAPPING[len(nesting.mounts)]:
            yield replace(nesting, names=names, route=route)


def parts_of(path: str) -> list[str]:
    """Return a path without each run of its letters."""
    places = range(1, len(path))
    parts = [path[:begin] + path[end:] for begin in places for end in places if begin <= end]
    parts += [path[begin:] for begin in places if path[begin] == "/"]
    return list(dict.fromkeys(parts))


@asynccontextmanager
async def open_tree(nesting: Nesting) -> AsyncIterator[Tree | None]:
    """Build a tree; None where its frameworks can't be mounted in each other like that."""
    built = nesting.build()
    started = [each for each in built if type(each).__module__.startswith("blacksheep")]
    for each in started:
        await each.start()
    tree = Tree(name=f"{nesting}", app=built[-1], secret=nesting.secret)
    yield tree if await tree.runs(tree.secret) else None
    for each in started:
        await each.stop()


def _left_in_path(mounts: tuple[str, ...], names: tuple[str, ...]) -> str:
    left = ""
    for mount, name in zip(mounts, names, strict=False):
        left = left + name if mount in ("Starlette", "BlackSheep") else ""
    return left


def paths_in(base: str, seed: int, most: int) -> list[str]:
    """Return request targets that may be another way to the secret handler beneath `base`.

    First the names of mounts in any order, then what a seeded generator makes of such paths.
    """
    names = [*NAMES[: base.count("/")], _STATIC]
    made = {
        begun + "".join(between) + SECRET: None
        for begun in (base, base + _STATIC)
        for count in range(3)
        for between in itertools.product(names, repeat=count)
    }
    found = dict(list(made.items())[: most // 2])
    dice = random.Random(seed)
    while len(found) < most:
        bent = dice.choice(tuple(made)) if dice.random() < 0.7 else dice.choice(("", base)) + SECRET
        for _ in range(dice.randint(1, 3)):
            place = dice.randrange(len(bent) + 1)
            bent = bent[:place] + dice.choice(_PIECES) + bent[place:]
        if bent[0] == "/":
            found[bent] = None
    return list(found)


def guards_of(base: str) -> list[Guard]:
    """Return what guards the secret handler and leaves the static one open."""
    return [
        Guard(["secret"], protect=[base + SECRET]),
        Guard(["secret"], public=[base + _STATIC]),
    ]


async def leaks_in(tree: Tree, guards: list[Guard], paths: list[str]) -> tuple[int, list[str]]:
    """Return how many paths a guard lets through, and those that run the secret handler then."""
    passed, leaks = 0, []
    for path in paths:
        open_by = [guard.name for guard in guards if await guard.lets_through(scope_of(path))]
        passed += bool(open_by)
        if open_by and await tree.runs(path):
            leaks += [f"{tree.name}: {name}: {path}" for name in open_by]
    return passed, leaks


async def leaks_where_names_overlap() -> tuple[int, int, int, list[str]]:
    """Return how many trees with a mount that matches by text were looked at, with how many paths,
    how many of these a guard lets through, and what leaked.
    """
    trees = asked = passed = 0
    leaks: list[str] = []
    for nesting in overlapping():
        if not {"BlackSheep", "dispatcher"} & {*nesting.mounts}:
            continue
        async with open_tree(nesting) as tree:
            if tree is not None:
                guards, paths = [Guard(["secret"], protect=[tree.secret])], parts_of(tree.secret)
                through, found = await leaks_in(tree, guards, paths)
                trees, asked, passed = trees + 1, asked + len(paths), passed + through
                leaks += found
    return trees, asked, passed, leaks
