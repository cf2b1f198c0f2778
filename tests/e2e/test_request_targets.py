"""Request targets, octet by octet over sockets, to real servers with frameworks behind the gate.

Each target is sent to each app twice: bare, to see what the framework runs for it, and behind the
gate without credentials. The scopes that the servers made are compared with `server_scopes.py`.
"""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events
import httpx
import pytest
from support.server_scopes import SERVERS as MODELS

from .servers import TOKEN, Running, running

FRAMEWORKS: Final = ("Quart", "Starlette", "Sanic")
#: How each is started: the server in `servers.py`, and its options.
SERVED: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "uvicorn, h11": ("uvicorn", ("--http", "h11")),
    "uvicorn, httptools": ("uvicorn", ("--http", "httptools")),
    "hypercorn": ("hypercorn", ()),
    "hypercorn, HTTP/2": ("hypercorn", ()),
    "daphne": ("daphne", ()),
    "granian": ("granian", ()),
}
#: On the request line as they stand here. Those with an address beneath /api can be reached.
TARGETS: Final = (
    *(b"/api/secret", b"//api/secret", b"///api///secret", b"/%61pi/secret", b"/api%2Fsecret"),
    *(b"/x/../api/secret", b"/./api/secret", b"/api;x/secret", b"/api/secret;x", b"%2Fapi/secret"),
    *(b"%09//x/api/secret", b"http://h/a%09pi/secret", b"//x/api/secret", b"///x/api/secret"),
    *(b"http://h/api/secret", b"HTTP://h/api/secret", b"x://h/api/secret", b"http:/api/secret"),
    *(b"http:api/secret", b"http:///api/secret", b"http://a%2Fb@h/api/secret", b"h:80/api/secret"),
    *(b"%20//x/api/secret", b"%0D//x/api/secret", b"%1F//x/api/secret", b"%0Ahttp://h/api/secret"),
    *(b"http://h/a%0Dpi/secret", b"http://h/%0Aapi/secret", b"%00//x/api/secret", b"api/secret"),
    *(b"*", b"*api/secret", b"*/api/secret", b"?/api/secret", b"#/api/secret", b"/open?/api"),
    *(b"/api/secret%00", b"/api/secret%0A", b"/api/secret/", b"/api/secret#x", b"/api/secret?x"),
    *(b"/ap%C4%B1/secret", b"/API/SECRET", b"/api\\secret", b"\\api\\secret", b"/api%5Csecret"),
    *(
        b"/a\tpi/secret",
        b"\t//x/api/secret",
        b"/api/\xc3\xa9",
        b"/api/\xff",
        b"/\xff/../api/secret",
    ),
    *(
        b"/a\x01pi/secret",
        b"\x0b//x/api/secret",
        b"/api/a b",
        b"/%ff/..%2Fapi/secret",
        b"/api/\x7f",
    ),
    *(b"/api/talk", b"%09//x/api/talk", b"http://h/a%09pi/talk", b"//x/api/talk", b"*api/talk"),
    *(b"/%6Fpen", b"/open%2Fx", b"/OPEN", b"/open/../api/secret", b"/open/..%2Fx", b"/blog"),
    *(b"/a" * 2_000 + b"%20/api/secret", b"//x" + b"/." * 1_000 + b"/api/secret"),
)
#: With a root path that the client says itself, which daphne believes.
WITH_A_ROOT: Final = (
    *((b"/x/api/secret", "/x"), (b"/open/api/secret", "/open"), (b"/openapi/secret", "/open")),
    *((b"/open/x/api/secret", "/x"), (b"/open/x/api/secret", "/open/x"), (b"/api/secret", "/api")),
    *((b"/a%09/api/secret", "/a%09"), (b"/open/x", "/ope"), (b"/open/api/secret", "%2Fopen")),
)
#: Beneath /api: no app runs one of these without credentials.
GUARDED: Final = {"secret", "users", "user", "api", "talk"}
UPGRADE: Final = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


ENDS: Final = (
    *(h2.events.StreamEnded, h2.events.StreamReset),
    h2.events.ConnectionTerminated,
)


class Case(NamedTuple):
    """Hold one request."""

    target: bytes
    framework: str
    gate: str
    kind: str
    token: str = ""
    #: What a stranger says in `Daphne-Root-Path`.
    root_path: str = ""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        said = [(b"x-app", self.framework.encode()), (b"x-gate", self.gate.encode())]
        bearer = [(b"authorization", b"Bearer " + self.token.encode())] if self.token else []
        root = [(b"daphne-root-path", self.root_path.encode())] if self.root_path else []
        return said + bearer + root


class Exchange(NamedTuple):
    """Hold what came back, which handlers ran, and the scope; None where no app was asked."""

    case: Case
    answer: bytes
    ran: list[str]
    scope: list[str] | None

    @property
    def status(self) -> int:
        line = self.answer.split(b" ", 2)
        return int(line[1]) if len(line) > 1 else 0


def exchange_http1(port: int, number: int, case: Case) -> bytes:
    """Send a request and return all that comes until the connection ends.

    After a handshake's answer it doesn't wait for that: daphne lets a second go by.
    """
    headers = [*case.headers, (b"x-case", b"%d" % number), (b"host", b"app.example.com")]
    is_handshake = case.kind == "websocket"
    ending = UPGRADE if is_handshake else b"Connection: close\r\n"
    lines = b"".join(b"%s: %s\r\n" % pair for pair in headers if pair[1]) + ending
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET " + case.target + b" HTTP/1.1\r\n" + lines + b"\r\n")
        received = b""
        try:
            while not (is_handshake and b"\r\n\r\n" in received):
                if not (chunk := connection.recv(65536)):
                    break
                received += chunk
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"no end of the answer: {case}, {received!r}") from None
    return received


def exchange_http2(port: int, number: int, case: Case) -> bytes:
    """Send a request as HTTP/2 without TLS; the status comes back as HTTP/1.1 would have it."""
    lax = h2.config.H2Configuration(
        header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(lax)
    client.initiate_connection()
    pseudo = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"app.example.com")]
    further = [pair for pair in case.headers if pair[1]]
    client.send_headers(
        1, [*pseudo, (b":path", case.target), *further, (b"x-case", b"%d" % number)], True
    )
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(client.data_to_send())
        received = b""
        while chunk := connection.recv(65536):
            for event in client.receive_data(chunk):
                if isinstance(event, h2.events.ResponseReceived):
                    received += b"HTTP/1.1 %s \r\n\r\n" % dict(event.headers)[b":status"]
                if isinstance(event, h2.events.DataReceived):
                    received += event.data
                if isinstance(event, ENDS):
                    return received
            connection.sendall(client.data_to_send())
    return b""  # it hung up


def cases(name: str) -> Iterator[Case]:
    for framework in FRAMEWORKS:
        only_http = framework == "Sanic" or name == "hypercorn, HTTP/2"
        for kind in ("http",) if only_http else ("http", "websocket"):
            for gate in ("", "protect", "public"):
                for target in TARGETS:
                    yield Case(target, framework, gate, kind)
        for gate in ("", "protect", "public"):
            for target, root in WITH_A_ROOT:
                yield Case(target, framework, gate, "http", root_path=root)
        yield Case(b"/api/secret", framework, "protect", "http", TOKEN)
        yield Case(b"/api/secret", framework, "public", "http", TOKEN)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Running]]:
    """Start them all, each in a process of its own."""
    with ExitStack() as started:
        yield {
            name: started.enter_context(
                running(
                    server,
                    tmp_path_factory.mktemp("targets"),
                    module="served_targets",
                    more=more,
                    environment={"SERVED_FRAMEWORKS": ",".join(FRAMEWORKS)},
                )
            )
            for name, (server, more) in SERVED.items()
        }


@pytest.fixture(scope="module", params=list(SERVED))
def exchanges(
    request: pytest.FixtureRequest, servers: Mapping[str, Running]
) -> tuple[str, list[Exchange]]:
    """Send everything to a server once, and read the record."""
    name: str = request.param
    server = servers[name]
    send = exchange_http2 if name == "hypercorn, HTTP/2" else exchange_http1
    sent = [(case, send(server.port, number, case)) for number, case in enumerate(cases(name))]
    asked = httpx.get(server.url, headers={"X-Report": "yes"}, trust_env=False, timeout=20)
    record: dict[str, Any] = json.loads(asked.text)
    nothing: list[Any] = [[], None]
    return name, [
        Exchange(case, answer, *record.get(f"{number}", nothing))
        for number, (case, answer) in enumerate(sent)
    ]


def test_no_target_reaches_what_is_protected(exchanges: tuple[str, list[Exchange]]) -> None:
    """No handler beneath /api runs without credentials, however the target is written."""
    _, made = exchanges
    strangers = [each for each in made if each.case.gate and not each.case.token]
    protected = [each for each in strangers if each.case.gate == "protect"]
    assert [each.case for each in protected if GUARDED & {*each.ran}] == []
    public = [each for each in strangers if each.case.gate == "public"]
    assert [each.case for each in public if {*each.ran} - {"open"}] == []


def test_each_gets_one_refusal(exchanges: tuple[str, list[Exchange]]) -> None:
    """What the bare app runs is answered by the gate alone: one 4xx, and nothing behind it."""
    _, made = exchanges
    run = {address(each.case) for each in made if not each.case.gate and GUARDED & {*each.ran}}
    refused = [each for each in made if each.case.gate == "protect" and not each.case.token]
    refused = [each for each in refused if address(each.case) in run]
    assert refused
    for each in refused:
        assert 400 <= each.status < 500, each
        assert each.answer.count(b"HTTP/1.1 ") == 1, each
        assert each.case.kind == "websocket" or each.answer.count(b'"code":"') == 1, each
    for each in made:
        assert each.scope is not None or each.status == 0 or 400 <= each.status < 500, each


def address(case: Case) -> Case:
    return case._replace(gate="")


def test_the_frameworks_run_them(exchanges: tuple[str, list[Exchange]]) -> None:
    """The targets say something: without the gate many reach what is protected."""
    name, made = exchanges
    reached = {
        (each.case.framework, each.case.kind, each.case.target)
        for each in made
        if not each.case.gate and GUARDED & {*each.ran}
    }
    assert len(reached) > 20
    if name in ("uvicorn, h11", "hypercorn", "daphne"):
        assert ("Quart", "http", b"%09//x/api/secret") in reached
        assert ("Quart", "http", b"http://h/a%09pi/secret") in reached
        assert ("Sanic", "http", b"*api/secret") in reached
    admitted = [each for each in made if each.case.token]
    assert admitted
    assert all(each.ran == ["secret"] for each in admitted)


def test_the_models_are_true(exchanges: tuple[str, list[Exchange]]) -> None:
    """`server_scopes.py` says what each server really makes of a target."""
    name, made = exchanges
    for each in made:
        root = unquote(each.case.root_path) if name == "daphne" else ""
        found = MODELS[name](each.case.target, root, each.case.kind == "websocket")
        expected = found and [
            found.path,
            found.raw_path.decode("latin1"),
            found.query.decode(),
            root,
        ]
        assert each.scope == expected, each.case
