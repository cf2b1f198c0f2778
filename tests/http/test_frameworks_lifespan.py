"""The gate starts and stops with the server where it can, and by itself where it can't."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from support.doubles import CountedPlatform, make_gate
from support.places import DJANGO, PLACES, Place, beside_quart, in_starlette

from xuna_middleware import (
    Agent,
    Credentials,
    Identity,
    InvalidTokenError,
    XunaGate,
    XunaMiddleware,
)

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}


class Watched:
    """A verifier that says when it is started and ended."""

    def __init__(self) -> None:
        self.journal: list[str] = []

    async def verify(self, credentials: Credentials) -> Identity:
        if credentials.token != "good":
            raise InvalidTokenError
        return Identity(subject="ada")

    def start(self) -> None:
        self.journal.append("started")

    @property
    def ready(self) -> bool:
        return True

    async def aclose(self) -> None:
        self.journal.append("ended")


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture
def sent() -> list[Message]:
    return []


@pytest.fixture
def gate(watched: Watched) -> XunaGate:
    return make_gate(verifier=watched)


async def live(app: ASGIApp, sent: list[Message], journal: list[str] | None = None) -> None:
    """Go through an app's lifespan as a server does, and keep what it sent, whatever it raises."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait(STARTUP)

    async def receive() -> Message:
        message = await incoming.get()
        if journal is not None:
            journal.append(message["type"].removeprefix("lifespan."))
        return message

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "lifespan.startup.complete":
            incoming.put_nowait(SHUTDOWN)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)


def types(sent: list[Message]) -> list[str]:
    return [message["type"].removeprefix("lifespan.") for message in sent]


async def call(app: ASGIApp, path: str, token: str = "good") -> int:
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return (await client.get(path, headers=headers)).status_code


async def test_a_wrapped_app_without_lifespan(
    gate: XunaGate, watched: Watched, sent: list[Message]
) -> None:
    """Django raises on lifespan; the gate starts and stops all the same."""
    await live(XunaMiddleware(DJANGO, gate), sent, watched.journal)
    assert types(sent) == ["startup.complete", "shutdown.complete"]
    assert watched.journal == ["startup", "started", "shutdown", "ended"]


async def test_a_wrapped_app_that_just_returns(
    gate: XunaGate, watched: Watched, sent: list[Message]
) -> None:
    """An app that ignores lifespan and returns is no obstacle either."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    await live(XunaMiddleware(silent, gate), sent, watched.journal)
    assert types(sent) == ["startup.complete", "shutdown.complete"]
    assert watched.journal == ["startup", "started", "shutdown", "ended"]


def with_lifespan(journal: list[str], *, failing: str = "") -> Starlette:
    """Return an app that keeps a journal, and fails where it is told to."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        if failing == "startup":
            raise RuntimeError("no database")
        journal.append("app started")
        yield {"pool": "of the app"}
        if failing == "shutdown":
            raise RuntimeError("no way to stop")
        journal.append("app ended")

    async def state(request: Request) -> JSONResponse:
        return JSONResponse(request.state.pool)

    return Starlette(routes=[Route("/api", state)], lifespan=lifespan)


async def test_the_gate_is_there_first_and_leaves_last(
    gate: XunaGate, watched: Watched, sent: list[Message]
) -> None:
    """An app may use the gate in its own startup and shutdown."""
    await live(XunaMiddleware(with_lifespan(watched.journal), gate), sent)
    assert types(sent) == ["startup.complete", "shutdown.complete"]
    assert watched.journal == ["started", "app started", "app ended", "ended"]


@pytest.mark.parametrize(
    ("failing", "answers"),
    [
        ("startup", ["startup.failed"]),
        ("shutdown", ["startup.complete", "shutdown.failed"]),
    ],
)
async def test_an_app_that_fails_is_reported(
    gate: XunaGate,
    watched: Watched,
    failing: str,
    answers: list[str],
    sent: list[Message],
) -> None:
    """A server must see that the app itself failed; the gate is closed then, once."""
    app = XunaMiddleware(with_lifespan([], failing=failing), gate)
    with pytest.raises(RuntimeError, match="no "):
        await live(app, sent)
    assert types(sent) == answers
    assert watched.journal == ["started", "ended"]


def test_lifespan_state_reaches_protected_paths(gate: XunaGate, watched: Watched) -> None:
    """What an app yields from its lifespan is in `request.state` behind the gate, too."""
    app = XunaMiddleware(with_lifespan([]), gate, protect=["/api"])
    with TestClient(app) as client:
        answer = client.get("/api", headers={"Authorization": "Bearer good"})
    assert answer.json() == "of the app"


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda gate: gate, id="by itself"),
        pytest.param(lambda gate: XunaMiddleware(Starlette(), gate), id="around Starlette"),
        pytest.param(lambda gate: XunaMiddleware(DJANGO, gate), id="around Django"),
    ],
)
async def test_without_an_api_key_the_server_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
    watched: Watched,
    wrap: Callable[[XunaGate], ASGIApp],
    sent: list[Message],
) -> None:
    """The failure says which variable to set, and nothing was started."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    gate = XunaGate(verifier=watched, agents=[Agent("support", id="agent_1")])
    await live(wrap(gate), sent)
    (failed,) = sent
    assert failed["type"] == "lifespan.startup.failed"
    assert "XUNA_AI_API_KEY" in failed["message"]
    assert watched.journal == []


async def test_without_lifespan_and_key_it_is_a_503(
    monkeypatch: pytest.MonkeyPatch, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """A mounted gate says at its first issue what its lifespan would have said, as an ERROR."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    gate = XunaGate(verifier=watched, agents=[Agent("support", id="agent_1")])
    assert await call(in_starlette(gate), "/xuna/get-signed-url") == 503
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert any("XUNA_AI_API_KEY" in each for each in errors)


MOUNTED = [name for name, place in PLACES.items() if place.root_path == ""]


@pytest.mark.parametrize("place", [PLACES[name] for name in MOUNTED], ids=MOUNTED)
async def test_it_starts_by_itself_once(gate: XunaGate, watched: Watched, place: Place) -> None:
    """Wherever no lifespan reaches it, the first request starts it, refused or not."""
    app = place.build(gate)
    statuses = [
        await call(app, place.at + "/get-signed-url", token) for token in ("bad", "good", "good")
    ]
    assert statuses == [401, 200, 200]
    assert watched.journal == ["started"]


async def test_a_lifespan_through_hypercorns_dispatcher(
    gate: XunaGate, watched: Watched, sent: list[Message]
) -> None:
    """The dispatcher hands the lifespan on to what is mounted, and the gate answers it."""
    await live(beside_quart(gate), sent)
    assert types(sent) == ["startup.complete", "shutdown.complete"]
    assert watched.journal == ["started", "ended"]


def test_a_second_event_loop(watched: Watched) -> None:
    """A gate that outlives its loop starts again on the next, and still issues."""
    platform = CountedPlatform()
    app = XunaMiddleware(Starlette(), make_gate(platform, verifier=watched))
    statuses = [asyncio.run(call(app, "/xuna/get-signed-url")) for _ in range(3)]
    assert statuses == [200, 200, 200]
    assert watched.journal == ["started"] * 3
    assert len(platform.requests) == 3


def test_a_second_lifespan(gate: XunaGate, watched: Watched) -> None:
    """A gate that was stopped can be started again, as a reloading server or test suite does."""
    app = XunaMiddleware(Starlette(), gate)
    for _ in range(2):
        with TestClient(app) as client:
            headers = {"Authorization": "Bearer good"}
            assert client.get("/xuna/get-signed-url", headers=headers).status_code == 200
    assert watched.journal == ["started", "ended"] * 2


# Every order of events

COMPLETE: Final = [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]
NO_START: Final = {"type": "lifespan.startup.failed", "message": "no database"}
NO_STOP: Final = {"type": "lifespan.shutdown.failed", "message": "cannot flush"}

#: What an app does, step by step: "read", "raise", or a message that it sends.
Step = str | Message
READ, RAISE = "read", "raise"
STARTED, STOPPED = COMPLETE

ORDERS: Final[dict[str, tuple[Sequence[Step], list[str], bool]]] = {
    "as it should be": ((READ, STARTED, READ, STOPPED), ["startup+", "shutdown+"], False),
    "returns at once": ((), ["startup+", "shutdown+"], False),
    "returns without an answer": ((READ,), ["startup+", "shutdown+"], False),
    "reads both, returns": ((READ, READ), ["startup+", "shutdown+"], False),
    "reads both, raises": ((READ, READ, RAISE), ["startup+", "shutdown+"], False),
    "answers both late": ((READ, READ, STARTED, STOPPED), ["startup+", "shutdown+"], False),
    "answers unread": ((STARTED, STOPPED), ["startup+", "shutdown+"], False),
    "answers the end only": ((READ, READ, STOPPED), ["startup+", "shutdown+"], False),
    "answers twice": (
        (READ, STARTED, STARTED, READ, STOPPED, STOPPED, NO_STOP),
        ["startup+", "shutdown+"],
        False,
    ),
    "returns when started": ((READ, STARTED), ["startup+", "shutdown+"], False),
    "returns when told to stop": ((READ, STARTED, READ), ["startup+", "shutdown+"], False),
    "raises at once": ((RAISE,), ["startup+", "shutdown+"], False),
    "raises before its start": ((READ, RAISE), ["startup+", "shutdown+"], False),
    "raises when started": ((READ, STARTED, RAISE), ["startup+"], True),
    "raises when told to stop": ((READ, STARTED, READ, RAISE), ["startup+", "shutdown-"], True),
    "raises when stopped": ((READ, STARTED, READ, STOPPED, RAISE), ["startup+", "shutdown+"], True),
    "fails to start": ((READ, NO_START), ["startup-"], False),
    "fails to start, raises": ((READ, NO_START, RAISE), ["startup-"], True),
    "fails to start, goes on": ((READ, NO_START, STARTED, STOPPED), ["startup-"], False),
    "fails to stop": ((READ, STARTED, READ, NO_STOP), ["startup+", "shutdown-"], False),
    "fails to stop, raises": (
        (READ, STARTED, READ, NO_STOP, RAISE),
        ["startup+", "shutdown-"],
        True,
    ),
}


def stepping(steps: Sequence[Step]) -> ASGIApp:
    """Return an app that takes these steps."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in steps:
            if step == READ:
                await receive()
            elif isinstance(step, str):
                raise RuntimeError("the app itself")
            else:
                await send(step)

    return app


async def at_once(app: ASGIApp, sent: list[Message]) -> None:
    """Go through a lifespan whose shutdown is there before the startup is answered."""
    incoming = [SHUTDOWN, STARTUP]

    async def receive() -> Message:
        assert incoming, "the app would wait for ever"
        return incoming.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "lifespan", "state": {}}, receive, send)


def signs(sent: list[Message]) -> list[str]:
    return [each.replace(".complete", "+").replace(".failed", "-") for each in types(sent)]


@pytest.mark.parametrize(("steps", "answers", "raises"), ORDERS.values(), ids=ORDERS.keys())
async def test_each_phase_is_answered_once(
    gate: XunaGate,
    watched: Watched,
    sent: list[Message],
    steps: Sequence[Step],
    answers: list[str],
    raises: bool,
) -> None:
    """Whatever the app does and when; the gate ends once."""
    running = at_once(XunaMiddleware(stepping(steps), gate), sent)
    (outcome,) = await asyncio.gather(running, return_exceptions=True)
    assert signs(sent) == answers
    assert isinstance(outcome, RuntimeError) is raises
    assert watched.journal == ["started", "ended"]


async def test_an_answer_after_its_app_returned(gate: XunaGate, sent: list[Message]) -> None:
    """A task that the app left behind answers what was answered for it: nothing comes of it."""
    left: list[Callable[[Message], Awaitable[None]]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        left.append(send)

    await at_once(XunaMiddleware(app, gate), sent)
    for late in COMPLETE:
        await left[0](late)
    assert signs(sent) == ["startup+", "shutdown+"]


async def test_other_messages_pass(gate: XunaGate, sent: list[Message]) -> None:
    """What a later ASGI may add is between the app and the server."""
    news: Message = {"type": "lifespan.news"}
    await at_once(XunaMiddleware(stepping((READ, news, STARTED, news)), gate), sent)
    assert types(sent) == ["news", "startup.complete", "news", "shutdown.complete"]


WRAPS: Final[dict[str, Callable[[XunaGate], ASGIApp]]] = {
    "by itself": lambda gate: gate,
    "around an app that waits": lambda gate: XunaMiddleware(
        stepping((READ, STARTED, READ, STOPPED)), gate
    ),
    "around an app that returned": lambda gate: XunaMiddleware(stepping(()), gate),
    "around an app that raised": lambda gate: XunaMiddleware(stepping((RAISE,)), gate),
}
wraps = pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())


@wraps
async def test_a_cancelled_lifespan_ends_the_gate(
    gate: XunaGate, watched: Watched, wrap: Callable[[XunaGate], ASGIApp]
) -> None:
    """A server that is torn down doesn't always say so."""
    sent: asyncio.Queue[Message] = asyncio.Queue()
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    incoming.put_nowait(STARTUP)
    scope: Scope = {"type": "lifespan", "state": {}}
    running = asyncio.ensure_future(wrap(gate)(scope, incoming.get, sent.put))
    assert await sent.get() == STARTED
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert watched.journal == ["started", "ended"]
    assert sent.empty()


class Stuck(Watched):
    """A verifier that can't be closed, or not even started."""

    def __init__(self, *, starts: bool = True, issuer: str = "") -> None:
        super().__init__()
        self.starts = starts
        self.issuer = issuer

    def start(self) -> None:
        super().start()
        if not self.starts:
            raise OSError("no thread")

    async def aclose(self) -> None:
        await super().aclose()
        raise OSError("connection lost")


@wraps
async def test_a_part_that_cannot_be_closed(
    wrap: Callable[[XunaGate], ASGIApp], sent: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    """The server gets its answer, that it failed, in fixed words; the log has the traceback."""
    stuck = Stuck()
    await at_once(wrap(make_gate(verifier=stuck)), sent)
    assert signs(sent) == ["startup+", "shutdown-"]
    assert sent[1]["message"] == "the gate did not close cleanly; its log says why"
    assert stuck.journal == ["started", "ended"]
    (record,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ExceptionGroup)
    assert [type(each) for each in record.exc_info[1].exceptions] == [OSError]


async def test_one_part_that_cannot_be_closed_keeps_none_open() -> None:
    """The others are closed all the same."""
    first, second = Stuck(issuer="https://a.example"), Stuck(issuer="https://b.example")
    with pytest.raises(ExceptionGroup) as caught:
        async with make_gate(verifier=[first, second]):
            pass
    assert len(caught.value.exceptions) == 2
    assert [each.journal[-1] for each in (first, second)] == ["ended", "ended"]


@pytest.mark.parametrize("failure", [NO_START, NO_STOP], ids=["start", "stop"])
async def test_an_apps_own_failure_goes_before_the_gates(
    failure: Message, sent: list[Message]
) -> None:
    """Where both fail, the server hears of the app's."""
    steps = (READ, NO_START) if failure is NO_START else (READ, STARTED, READ, NO_STOP)
    await at_once(XunaMiddleware(stepping(steps), make_gate(verifier=Stuck())), sent)
    assert sent[-1] == failure


@wraps
async def test_a_part_that_cannot_be_started(
    wrap: Callable[[XunaGate], ASGIApp], sent: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    """The server hears that the start failed, in fixed words, and what had begun is ended."""
    stuck = Stuck(starts=False)
    await at_once(wrap(make_gate(verifier=stuck)), sent)
    assert signs(sent) == ["startup-"]
    assert sent[0]["message"] == "the gate cannot start; its log says why"
    assert stuck.journal == ["started", "ended"]
    assert "no thread" in caplog.text


@pytest.mark.parametrize("steps", [(RAISE,), (READ, RAISE), (READ, READ, RAISE)], ids=str)
async def test_an_app_that_raises_before_its_start_is_logged(
    gate: XunaGate, sent: list[Message], steps: Sequence[Step], caplog: pytest.LogCaptureFixture
) -> None:
    """It may know no lifespan, or have failed to start: the log tells, with the traceback."""
    await at_once(XunaMiddleware(stepping(steps), gate), sent)
    (record,) = [each for each in caplog.records if "the wrapped app raised" in each.message]
    assert (record.name, record.levelno) == ("xuna_middleware", logging.WARNING)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "the app itself"
