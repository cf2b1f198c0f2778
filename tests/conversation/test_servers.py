"""Which server serves a WebSocket, seen through whatever wraps its functions."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any, Final

import pytest
from doubles import DENIAL, websocket_scope
from relay_stage import on_stage
from starlette.types import Message
from talking import Talk

from xuna_middleware.conversation.servers import UNFIT, unfit_server, unfit_servers_loaded

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


WRAPPED: Final[dict[str, Callable[[Any], Any]]] = {
    "as it is": lambda send: send,
    "closure": in_closure,
    "closures": lambda send: in_closure(in_closure(in_closure(send))),
    "partial": lambda send: partial(send),
    "partial in a closure": lambda send: in_closure(partial(send)),
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
