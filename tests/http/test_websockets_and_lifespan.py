"""WebSocket denials, the lifespan, and odd scopes and orders of events."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from support.doubles import (
    DENIAL,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    exchange,
    http_scope,
    in_fast_time,
    knock,
    make_gate,
    make_verifier,
    one_response,
    websocket_scope,
)
from support.signing import RSA

from xuna_middleware import Agent, XunaGate, XunaMiddleware, XunaPlatform, get_identity

CLOSE: Final = {"type": "websocket.close", "code": 1008}


@pytest.mark.parametrize(
    ("headers", "status"),
    [([], 401), (bearer("x.y.z"), 401), ([(b"authorization", b"Bearer")], 400)],
    ids=["none", "bad", "malformed"],
)
async def test_denied_websocket(headers: Any, status: int) -> None:
    """An HTTP answer where the server can send one, else a close; never an accept."""
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    sent = await knock(wrapped, "/api", headers=headers, extensions=DENIAL)
    answer = one_response(sent, "websocket.http.response")
    assert answer.status == status
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("cache-control") == "no-store"
    assert answer.header("xuna-gate-ref")
    without: list[dict[str, Any]] = [{}, {"extensions": {}}, {"extensions": None}]
    for extensions in without:
        assert await knock(wrapped, "/api", headers=headers, **extensions) == [CLOSE]


async def test_denial_extension_on_an_http_scope() -> None:
    """granian lists it in HTTP scopes, too: the scope's type decides."""
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    assert (await ask(wrapped, "/api", extensions=DENIAL)).status == 401


async def test_websocket_that_is_gone_gets_nothing() -> None:
    """A client that left before it was answered: nothing is sent after the disconnect."""
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    assert await exchange(wrapped, websocket_scope("/api"), []) == []


async def test_websocket_scope_without_a_query_is_no_500() -> None:
    """The specification calls `query_string` optional there."""
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    scope = websocket_scope("/api", headers=bearer(RSA.token()))
    del scope["query_string"]
    sent = await exchange(wrapped, scope, [{"type": "websocket.connect"}])
    assert sent[0]["type"] == "websocket.accept"


async def test_unknown_scope_types_pass_untouched() -> None:
    """What a later ASGI brings is the app's affair, where nothing is protected."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    scope = {"type": "webtransport", "path": "/xuna/get-signed-url"}
    await XunaMiddleware(app, make_gate())(scope, None, None)  # type: ignore[arg-type]
    assert seen[0] is scope
    with pytest.raises(RuntimeError):
        await make_gate()(scope, None, None)  # type: ignore[arg-type]


async def test_unprotected_paths_pass_untouched() -> None:
    """The very scope goes on, and nobody is in it."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope = http_scope("/open", headers=bearer("x.y.z"))

    async def receive() -> Any: ...
    async def send(message: Any) -> None: ...

    await XunaMiddleware(app, make_gate(), protect=["/api"])(scope, receive, send)
    assert seen == [(scope, receive, send)]
    assert seen[0][0] is scope
    assert get_identity(scope) is None


async def test_starlettes_requires_works_on_protected_paths() -> None:
    """`request.user` and `request.auth.scopes` are what Starlette's decorator reads."""

    @requires("voice:talk")
    async def talk(request: Request) -> JSONResponse:
        return JSONResponse({"name": request.user.display_name, "id": request.user.identity})

    @requires("voice:admin")
    async def admin(request: Request) -> JSONResponse:
        raise AssertionError("reached")

    app = Starlette(routes=[Route("/api/talk", talk), Route("/api/admin", admin)])
    wrapped = XunaMiddleware(app, make_gate(), protect=["/api"])
    answer = await ask(wrapped, "/api/talk", headers=bearer(RSA.token()))
    assert answer.json() == {"name": "user-1", "id": "user-1"}
    assert (await ask(wrapped, "/api/admin", headers=bearer(RSA.token()))).status == 403


# The lifespan

STARTUP: Final = {"type": "lifespan.startup"}
SHUTDOWN: Final = {"type": "lifespan.shutdown"}
STARTED: Final = "lifespan.startup.complete"
STOPPED: Final = "lifespan.shutdown.complete"


async def live(app: Any) -> list[str]:
    """Run a whole lifespan, and return the types of what was sent."""
    sent = await exchange(app, {"type": "lifespan", "state": {}}, [STARTUP, SHUTDOWN])
    return [message["type"] for message in sent]


def watched() -> tuple[XunaGate, list[str]]:
    """Return a gate whose start and end are told."""
    told: list[str] = []

    class Watched(XunaGate):
        async def __aenter__(self) -> Any:
            told.append("started")
            return await super().__aenter__()

        async def aclose(self) -> None:
            told.append("closed")
            await super().aclose()

    gate = Watched(
        verifier=make_verifier(),
        agents=[Agent("support", id="agent_1")],
        platform=CountedPlatform().client(),
    )
    return gate, told


async def test_gate_alone_serves_its_lifespan() -> None:
    """As an app by itself."""
    gate, told = watched()
    assert await live(gate) == [STARTED, STOPPED]
    assert told == ["started", "closed"]


async def test_gate_starts_before_the_app_and_ends_after_it() -> None:
    """One lifespan, both in it."""
    gate, told = watched()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[dict[str, Any]]:
        told.append("app started")
        yield {"pool": 1}
        told.append("app closed")

    app = XunaMiddleware(Starlette(lifespan=lifespan), gate)
    assert await live(app) == [STARTED, STOPPED]
    assert told == ["started", "app started", "app closed", "closed"]


async def raising(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("Django knows no lifespan")


async def silent(scope: Any, receive: Any, send: Any) -> None:
    return


async def reads_and_raises(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise AssertionError("an assertion about the scope's type")


@pytest.mark.parametrize("app", [raising, silent, reads_and_raises])
async def test_app_without_a_lifespan_is_no_obstacle(app: Any) -> None:
    """The gate starts and ends all the same, and the server is told so."""
    gate, told = watched()
    assert await live(XunaMiddleware(app, gate)) == [STARTED, STOPPED]
    assert told == ["started", "closed"]


async def test_app_that_fails_to_start_is_reported() -> None:
    """As it reports itself; the gate ends with it."""
    gate, told = watched()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    app = XunaMiddleware(Starlette(lifespan=lifespan), gate)
    sent: list[Any] = []

    async def receive() -> Any:
        return STARTUP

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(OSError, match="no database"):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert told == ["started", "closed"]


async def test_app_that_fails_to_stop_is_reported() -> None:
    """The gate ends with it."""
    gate, told = watched()

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        raise OSError("cannot flush")

    with pytest.raises(OSError, match="cannot flush"):
        await live(XunaMiddleware(Starlette(lifespan=lifespan), gate))
    assert told == ["started", "closed"]


async def test_app_that_breaks_after_its_start() -> None:
    """Whatever it was, the gate ends, and the server hears of it."""
    gate, told = watched()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": STARTED})
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        await live(XunaMiddleware(app, gate))
    assert told == ["started", "closed"]


async def test_app_that_leaves_after_its_start() -> None:
    """It said it had started and returned: the gate waits for the end by itself."""
    gate, told = watched()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": STARTED})

    assert await live(XunaMiddleware(app, gate)) == [STARTED, STOPPED]
    assert told == ["started", "closed"]


@pytest.mark.parametrize("wrap", [lambda gate: gate, lambda gate: XunaMiddleware(echo_app, gate)])
async def test_missing_key_fails_the_start(
    wrap: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With the fix in the message, before any request; never at import."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    gate = make_gate(platform=XunaPlatform())
    sent = await exchange(wrap(gate), {"type": "lifespan"}, [STARTUP])
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
    assert "XUNA_AI_API_KEY" in sent[0]["message"]
    assert [each for each in caplog.records if each.levelno == logging.ERROR]


async def test_ready_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """`/readyz` names what is missing, to anybody, and asks nobody."""
    platform = CountedPlatform()
    ready = await ask(make_gate(platform), "/readyz")
    assert (ready.status, ready.json()) == (200, {"ready": True, "missing": []})
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    answer = await ask(make_gate(platform=XunaPlatform()), "/readyz")
    assert (answer.status, answer.json()) == (503, {"ready": False, "missing": ["platform"]})
    assert platform.requests == []


def test_works_without_a_lifespan_and_on_a_second_loop() -> None:
    """Mounted, or with lifespan off: it starts by itself, on whichever loop a request comes."""
    platform = CountedPlatform()
    app = Starlette(routes=[Mount("/xuna", app=make_gate(platform))])

    async def once() -> int:
        return (await ask(app, "/xuna/get-signed-url", headers=bearer(RSA.token()))).status

    assert [asyncio.run(once()), asyncio.run(once()), in_fast_time(once())] == [200, 200, 200]
    assert len(platform.requests) == 3


async def test_context_manager_may_be_entered_again() -> None:
    """Closed is not broken."""
    gate = make_gate()
    for _ in range(2):
        async with gate as entered:
            assert entered is gate
            assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
