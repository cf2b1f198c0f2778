"""Which server serves a WebSocket, seen through whatever wraps its functions."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

import pytest
from starlette.types import Message
from support.doubles import DENIAL, websocket_scope
from support.relay_stage import on_stage
from support.talking import Talk

from xuna_middleware.web.servers import UNFIT, unfit_server, unfit_servers_loaded

LEGACY: Final = "uvicorn.protocols.websockets.websockets_impl"
SANSIO: Final = "uvicorn.protocols.websockets.websockets_sansio_impl"


class Protocol:
    """What a server's connection is; its module is set by the tests."""

    async def receive(self) -> Message:
        return {"type": "websocket.connect"}

    async def send(self, message: Message) -> None:
        """Take a message."""


def protocol_of(module: str) -> Protocol:
    made: Protocol = type("Connection", (Protocol,), {"__module__": module})()
    return made


def in_closure(send: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap it as Starlette's and OpenTelemetry's middlewares do."""
    unset: Any

    async def sender(message: Message) -> None:
        if message.get("never"):
            unset()
        await send(message)

    if send is None:
        unset = None
    return sender


async def passing_on(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """Call a function, as `partial(passing_on, send)` in another task does."""
    return await function(*arguments)


WRAPPED: Final[dict[str, Callable[[Any], Any]]] = {
    "as it is": lambda send: send,
    "closure": in_closure,
    "closures": lambda send: in_closure(in_closure(in_closure(send))),
    "partial": lambda send: partial(send),
    "partial in a closure": lambda send: in_closure(partial(send)),
    "argument of a partial": lambda send: partial(passing_on, send),
    "named argument of a partial": lambda send: partial(passing_on, function=send),
    "argument of a partial, in a closure": lambda send: in_closure(partial(passing_on, send)),
}


@pytest.mark.parametrize("wrapped", WRAPPED)
@pytest.mark.parametrize("module", UNFIT)
async def test_found_behind_wrappers(module: str, wrapped: str) -> None:
    """By either function."""
    connection, other = protocol_of(module), protocol_of("other")
    wrap = WRAPPED[wrapped]
    assert unfit_server(other.receive, wrap(connection.send)) == UNFIT[module]
    assert unfit_server(wrap(connection.receive), other.send) == UNFIT[module]


@pytest.mark.parametrize("module", [SANSIO, "uvicorn.protocols.websockets.wsproto_impl", "granian"])
async def test_servers_that_are_fit(module: str) -> None:
    connection = protocol_of(module)
    assert unfit_server(connection.receive, connection.send) is None


async def test_found_by_the_servers_task() -> None:
    """Where wrappers are objects, the coroutine of the task still is the server's."""
    source = "async def run_asgi(app):\n    return await app()\n"
    server = ModuleType(LEGACY)
    exec(compile(source, LEGACY, "exec"), server.__dict__)

    async def app() -> str | None:
        return unfit_server(protocol_of("other").receive, protocol_of("other").send)

    assert await asyncio.create_task(server.run_asgi(app)) == UNFIT[LEGACY]


async def test_wrappers_without_an_end() -> None:
    """A function that holds itself is looked into a bounded number of times."""

    async def send(message: Message) -> None:
        await send(message)

    assert unfit_server(send, send) is None


def test_what_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gate says at its start: a module that is there may be the one that serves."""
    for module in UNFIT:
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert unfit_servers_loaded() == ()
    monkeypatch.setitem(sys.modules, LEGACY, ModuleType(LEGACY))
    assert unfit_servers_loaded() == (UNFIT[LEGACY],)


def test_daphne_among_djangos_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    """`INSTALLED_APPS = ["daphne", …]` loads daphne's server whichever serves: no alarm by that.
    Its command loads `daphne.cli` as well.
    """
    for module in (*UNFIT, "daphne.cli"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "daphne.server", ModuleType("daphne.server"))
    assert unfit_servers_loaded() == ()
    monkeypatch.setitem(sys.modules, "daphne.cli", ModuleType("daphne.cli"))
    assert unfit_servers_loaded() == (UNFIT["daphne.server"],)


async def test_what_is_not_seen_through() -> None:
    """As SECURITY.md says: an object around both functions, in a task that runs the app itself."""

    class Wrapper:
        def __init__(self, function: Callable[..., Awaitable[Any]]) -> None:
            self.function = function

        async def __call__(self, *arguments: Any) -> Any:
            return await self.function(*arguments)

    connection = protocol_of("daphne.server")
    receive, send = Wrapper(connection.receive), Wrapper(connection.send)

    async def app(receive: Any, send: Any) -> str | None:
        return unfit_server(receive, send)

    assert await asyncio.create_task(app(receive, send)) is None
    assert await asyncio.create_task(app(receive, connection.send)) == UNFIT["daphne.server"]


@pytest.mark.parametrize("module", UNFIT)
async def test_conversation_on_an_unfit_server(
    module: str, caplog: pytest.LogCaptureFixture
) -> None:
    """503 before the accept, nothing taken, and a line that names the fix."""
    talk = type("Connection", (Talk,), {"__module__": module})()
    await talk.to_app.put({"type": "websocket.connect"})
    async with on_stage() as stage:
        scope = websocket_scope("/xuna/conversation", headers=stage.sign_in(), extensions=DENIAL)
        await stage.app(scope, talk.receive, talk.send)
        assert (await talk.refusal()).status == 503
        assert stage.untouched
        (refused,) = stage.named("refused")
        assert str(refused.cause).startswith("configuration")
    assert UNFIT[module] in caplog.text
