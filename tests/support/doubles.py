"""What stands around the gate in these tests: a counted platform, a bare ASGI caller, fast time."""

import asyncio
import json
import selectors
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from support.signing import AUDIENCE, CANARY, ISSUER, KEYS, NOW
from xuna_middleware import Agent, Immediate, JWTVerifier, XunaGate, XunaPlatform

API_KEY: Final = f"xi-{CANARY}-key"
SIGNED_URL: Final = f"wss://api.xuna.ai/v1/convai/conversation?token={CANARY}-pass"
CHALLENGE: Final = 'Bearer error="invalid_token"'
DENIAL: Final[Mapping[str, Any]] = {"websocket.http.response": {}}

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]


@dataclass
class CountedPlatform:
    """Stand in for XUNA AI: answer as documented, and keep what was asked."""

    requests: list[httpx.Request] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path.endswith("/get-signed-url"):
            return httpx.Response(200, json={"signed_url": SIGNED_URL})
        return httpx.Response(200, json={"token": f"{CANARY}.pass.token"})

    def client(self, **options: Any) -> XunaPlatform:
        """Return a real client that reaches this and nothing else."""
        transport = httpx.MockTransport(self.handle)
        return XunaPlatform(API_KEY, http_transport=transport, **options)


def make_verifier(**options: Any) -> JWTVerifier:
    """Return a verifier of the tests' issuer, with given keys and the tests' clock."""
    if "jwks_uri" not in options:
        options = {"jwks": KEYS, **options}
    defaults = {"issuer": ISSUER, "audience": AUDIENCE, "clock": lambda: NOW}
    return JWTVerifier(**{**defaults, **options})


def immediate(hooks: Any) -> Any:
    """Return hooks that have seen everything when an answer is there; one with a thread stays."""
    if not isinstance(hooks, list):
        return hooks
    return [hook if hasattr(hook, "flush") else Immediate(hook) for hook in hooks]


def make_gate(platform: CountedPlatform | XunaPlatform | None = None, **options: Any) -> XunaGate:
    """Return a gate with one agent for every verified caller."""
    client = platform if isinstance(platform, XunaPlatform) else None
    counted = platform if isinstance(platform, CountedPlatform) else CountedPlatform()
    if "verifier" not in options and "authenticator" not in options:
        options["verifier"] = make_verifier()
    options["on_event"] = immediate(options.get("on_event", ()))
    defaults: dict[str, Any] = {
        "agents": [Agent("support", id="agent_1")],
        "platform": client or counted.client(),
    }
    return XunaGate(**{**defaults, **options})


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    """Return the one header that presents a token."""
    return [(b"authorization", b"Bearer " + token.encode("utf-8", "surrogatepass"))]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Hold the one response that an app gave."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header that must not be there twice."""
        values = [value for key, value in self.headers if key.decode().lower() == name.lower()]
        assert len(values) <= 1, f"{name} is repeated"
        return values[0].decode() if values else None

    def json(self) -> Any:
        return json.loads(self.body)


def http_scope(
    path: str = "/get-signed-url",
    *,
    method: str = "GET",
    headers: Headers = (),
    query: bytes = b"",
    root_path: str = "",
    **further: Any,
) -> dict[str, Any]:
    """Return an HTTP scope as a server makes one."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "https",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "root_path": root_path,
        "headers": list(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 443),
        **further,
    }


def websocket_scope(path: str, *, headers: Headers = (), **further: Any) -> dict[str, Any]:
    """Return a WebSocket scope as a server makes one."""
    scope = http_scope(path, headers=headers, **further)
    del scope["method"]
    return {**scope, "type": "websocket", "scheme": "wss", "subprotocols": []}


async def exchange(app: ASGIApp, scope: Scope, incoming: Iterable[Message]) -> list[Message]:
    """Run an app on what comes in, and return all it sent. After that comes a disconnect."""
    pending = list(incoming)
    last = "http.disconnect" if scope["type"] == "http" else "websocket.disconnect"
    sent: list[Message] = []

    async def receive() -> Message:
        return pending.pop(0) if pending else {"type": last}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def ask(
    app: ASGIApp,
    path: str = "/get-signed-url",
    *,
    body: bytes | Iterable[bytes] = b"",
    **scope: Any,
) -> Answer:
    """Send one HTTP request to an app and return its one response, checked to be one."""
    chunks = [body] if isinstance(body, bytes) else list(body)
    incoming: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]
    return one_response(await exchange(app, http_scope(path, **scope), incoming))


async def knock(app: ASGIApp, path: str, **scope: Any) -> list[Message]:
    """Open a WebSocket and return what the app sent."""
    connect: Message = {"type": "websocket.connect"}
    return await exchange(app, websocket_scope(path, **scope), [connect])


def one_response(sent: Sequence[Message], kind: str = "http.response") -> Answer:
    """Return the response that messages make; anything but exactly one fails."""
    types = [message["type"] for message in sent]
    assert types, "nothing was sent"
    assert types == [f"{kind}.start", *[f"{kind}.body"] * (len(sent) - 1)], types
    more = [message.get("more_body", False) for message in sent[1:]]
    assert more == [True] * (len(more) - 1) + [False], more
    return Answer(
        status=sent[0]["status"],
        headers=list(sent[0].get("headers", [])),
        body=b"".join(message.get("body", b"") for message in sent[1:]),
    )


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing else is to be done, and
    stands still while a thread works.
    """

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.threads = 0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.elapsed

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        self.threads += 1
        working = super().run_in_executor(executor, func, *args)
        working.add_done_callback(self._thread_ended)
        return working

    async def shutdown_default_executor(self, *args: Any) -> None:
        self.threads += 1  # one that joins the others
        await super().shutdown_default_executor(*args)
        self.threads -= 1

    def _thread_ended(self, working: object) -> None:
        self.threads -= 1


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: FastLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if self._loop.threads and timeout != 0:
            return super().select(1)
        assert timeout is not None, "everything waits, and no timer will end it"
        self._loop.elapsed += timeout
        return super().select(0)


def in_fast_time(story: Coroutine[Any, Any, T]) -> T:
    """Run a story in which hours pass in no time. Nothing in it may wait for a real socket."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(story)


def seconds() -> float:
    """Return the clock of the running loop, for a `monotonic` parameter."""
    return asyncio.get_running_loop().time()


async def echo_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer anything with 200: an app that guards nothing by itself."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1000})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the app"})
