"""Compare the gate with a framework's own router, spelling by spelling.

What the router alone runs of the guarded handlers, the gate must not let through without
credentials. The gate is asked at its public face, `XunaMiddleware`, around an app that only notes
that it was reached.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final, NamedTuple

from starlette.types import Message, Receive, Scope, Send

from support.doubles import make_gate
from support.routers import HANDLERS, Router
from support.server_scopes import SERVERS, Target, scope_of
from support.spellings import ROOTS, Spelling
from xuna_middleware import XunaMiddleware


class Guard:
    """Hold one way to say what is guarded, and the handlers that are guarded then.

    There is a middleware for processes in which daphne runs, and one for all others: it decides
    differently about root paths there.
    """

    def __init__(self, guarded: Iterable[str], **options: Any) -> None:
        self.is_public = "public" in options
        self.name = ", ".join(f"{name}={value}" for name, value in options.items())
        self.guarded = frozenset(guarded)
        self._reached = False
        gate = make_gate()
        self._middlewares = [XunaMiddleware(self._app, gate, **options) for _ in range(2)]

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._reached = True

    async def lets_through(self, scope: Scope, *, on_daphne: bool = False) -> bool:
        """Tell whether a request without credentials gets to the app; if not, it got one 4xx."""
        self._reached = False
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        with _daphne(on_daphne):
            await self._middlewares[on_daphne](scope, receive, send)
        if not self._reached:
            check_refusal(sent)
        return self._reached


@contextmanager
def _daphne(runs: bool) -> Iterator[None]:
    """Look like a process that runs daphne, or like one that doesn't."""
    before = sys.modules.pop("daphne.server", None)
    if runs:
        sys.modules["daphne.server"] = ModuleType("daphne.server")
    try:
        yield
    finally:
        sys.modules.pop("daphne.server", None)
        if before is not None:
            sys.modules["daphne.server"] = before


def check_refusal(sent: list[Message]) -> None:
    """Check that a refusal is one response with a status of 4xx, or a handshake's denial."""
    first = sent[0]
    if first["type"] == "websocket.close":
        assert len(sent) == 1, sent
        return
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert 400 <= first["status"] < 500, sent


def guards() -> list[Guard]:
    """Return the ways to guard the apps of `routers.py`."""
    beneath = {"secret", "users", "user", "api", "talk"}
    return [
        Guard(beneath, protect=["/api"]),
        Guard({"users", "user"}, protect=["/api/users"], whole_segments=True),
        Guard(HANDLERS.keys() - {"open"}, public=["/open"]),
    ]


_KEEP_ROOTS: Final = ("Falcon", "Falcon's sinks", "Sanic", "hypercorn's dispatcher")


def is_documented(framework: str, guard: Guard, target: Target) -> bool:
    """Tell whether the gate and a framework are known to differ: with `public` and a root path.

    `public` names paths less the root path. Falcon, Sanic and hypercorn's dispatcher never remove
    one, Quart takes a path without it for none at all, and BlackSheep removes a root path of "/",
    with which only its catch-all is left.
    """
    if not guard.is_public or not target.root_path:
        return False
    if framework == "Quart":
        return not target.path.startswith(target.root_path)
    return framework in _KEEP_ROOTS or (framework, target.root_path) == ("BlackSheep", "/")


class Leak(NamedTuple):
    """Say which spelling reached what it must not reach."""

    framework: str
    servers: tuple[str, ...]
    guard: str
    handler: str
    kind: str
    target: bytes
    root_path: str


@dataclass(slots=True)
class Count:
    """Count what was compared for one framework.

    `spellings` were taken by one server at least, `scopes` are the different ones that the servers
    made of them, and `reached` those for which the framework ran a handler beneath /api.
    """

    spellings: int = 0
    scopes: int = 0
    reached: int = 0
    leaks: list[Leak] = field(default_factory=list)


def targets_of(spelling: Spelling, is_websocket: bool) -> Mapping[tuple[Target, bool], list[str]]:
    """Return what the servers make of a spelling, whether daphne does, and which of them do."""
    made: dict[tuple[Target, bool], list[str]] = {}
    target, root, _ = spelling
    told = root in ROOTS
    for name, server in SERVERS.items():
        if told or name == "daphne":  # its root path is the client's to say
            try:
                found = server(target, root, is_websocket)
            except UnicodeEncodeError:
                continue
            if found is not None:
                made.setdefault((found, name == "daphne"), []).append(name)
    return made


async def compare(
    routers: Mapping[str, Router], asked: list[Guard], source: Iterable[Spelling], most: int
) -> Mapping[str, Count]:
    """Compare that many spellings for each framework."""
    counts = {name: Count() for name in routers}
    for spelling in source:
        makes = [targets_of(spelling, False)]
        makes.append(targets_of(spelling, True) if spelling.is_websocket else makes[0])
        known: dict[tuple[int, str, Target, bool], bool] = {}
        for name, router in routers.items():
            as_websocket = spelling.is_websocket and router.websockets
            kind = "websocket" if as_websocket else "http"
            made, count = makes[as_websocket], counts[name]
            if not made or count.spellings >= most:
                continue
            count.spellings += 1
            for (target, on_daphne), servers in made.items():
                count.scopes += 1
                handler = await router.reach(scope_of(target, kind))
                if handler is None:
                    continue
                count.reached += handler in asked[0].guarded
                for number, guard in enumerate(asked):
                    if handler not in guard.guarded or is_documented(name, guard, target):
                        continue
                    key = number, kind, target, on_daphne
                    if key not in known:
                        scope = scope_of(target, kind)
                        known[key] = await guard.lets_through(scope, on_daphne=on_daphne)
                    if known[key]:
                        leak = (name, tuple(servers), guard.name, handler, kind)
                        count.leaks.append(Leak(*leak, spelling.target, spelling.root_path))
        if all(count.spellings >= most for count in counts.values()):
            break
    return counts
