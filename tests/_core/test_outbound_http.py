"""The outbound client against real servers on loopback, with each of its two transports."""

import asyncio
import contextlib
import gc
import logging
import os
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from xuna_middleware._core.http import MAX_CHUNKS, Outbound, OutboundError, Reply, is_loopback

CANARY = "canary-8c1f5a"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Local:
    """A server on loopback: where it is, and the heads of the requests that reached it."""

    host: str
    port: int
    scheme: str = "http"
    heads: list[bytes] = field(default_factory=list, repr=False)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def target(self) -> str:
        """Return the request target of the last request."""
        return self.heads[-1].split(b" ")[1].decode()

    def headers(self) -> dict[str, str]:
        """Return the headers of the last request by lower-case name."""
        lines = self.heads[-1].decode("latin-1").split("\r\n")[1:]
        pairs = (line.split(": ", 1) for line in lines if line)
        return {name.lower(): value for name, value in pairs}


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Local]:
    """Serve each connection with `handler`, request by request, until it closes the writer."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        local.connections += 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                local.heads.append(head)
                await handler(head, reader, writer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    local = Local(host, port, "https" if tls else "http")
    try:
        yield local
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answering(raw: bytes, *, close: bool = False) -> Handler:
    """Answer every request with these bytes."""

    async def handler(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if close:
            await writer.drain()
            writer.close()

    return handler


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the machine says about proxies is not what is tested."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["httpx", "aiohttp"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with the `fast` extra, and as if it weren't installed."""
    if request.param == "httpx":
        monkeypatch.setitem(sys.modules, "httpx_aiohttp", None)
    else:
        pytest.importorskip("httpx_aiohttp")
    return str(request.param)


@pytest.fixture
async def outbound(kind: str) -> AsyncIterator[Outbound]:
    """An Outbound that is closed at the end."""
    client = Outbound()
    yield client
    await client.aclose()


async def ask(
    client: Outbound, url: str, max_bytes: int = 1000, seconds: float = 5
) -> Reply | OutboundError:
    """GET and return what came of it."""
    try:
        return await client.request("GET", url, max_bytes=max_bytes, timeout=seconds)
    except OutboundError as fault:
        return fault


async def fault_of(client: Outbound, url: str, max_bytes: int = 1000, seconds: float = 5) -> str:
    """GET and return the kind of fault that it must end in."""
    outcome = await ask(client, url, max_bytes, seconds)
    assert isinstance(outcome, OutboundError), outcome
    return outcome.kind


async def test_the_transport_is_the_one_meant(outbound: Outbound, kind: str) -> None:
    """The two halves of this file do run on two transports."""
    transport = await outbound._transport_for(httpx.URL("http://127.0.0.1"))
    assert type(transport).__module__.split(".")[0] == {"httpx": "httpx"}.get(kind, "httpx_aiohttp")


async def test_get_returns_status_headers_and_body(outbound: Outbound) -> None:
    """An answer comes back whole, its header names in lower case, repeated ones joined."""
    raw = b"HTTP/1.1 418 Tea\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 4\r\n\r\nbody"
    async with serving(answering(raw)) as local:
        reply = await outbound.request("GET", local.url, max_bytes=4, timeout=5)
    assert (reply.status, reply.body, reply.headers["x-a"]) == (418, b"body", "1, 2")


async def test_parameters_arrive_as_they_were_given(outbound: Outbound) -> None:
    """Names and values are encoded, whatever is in them; none can add a parameter or a path."""
    params = {"id": "a/../b&c=d?#%2e+ é\u2028\r\nX: y", "a&b": "=;,%"}
    async with serving(answering(OK)) as local:
        await outbound.request("GET", f"{local.url}/path", params=params, max_bytes=9, timeout=5)
    parts = urlsplit(local.target())
    assert parts.path == "/path"
    assert parse_qs(parts.query, strict_parsing=True) == {k: [v] for k, v in params.items()}


async def test_post_sends_json(outbound: Outbound) -> None:
    """A body is JSON with its type and length; a lone surrogate is escaped, not a crash."""
    bodies: list[bytes] = []

    async def handler(
        head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        length = next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length"))
        bodies.append(await reader.readexactly(int(length.split(b":")[1])))
        writer.write(OK)

    async with serving(handler) as local:
        json = {"a": ["é", "\ud800"]}
        await outbound.request("POST", local.url, json=json, max_bytes=9, timeout=5)
    assert bodies == [b'{"a":["\\u00e9","\\ud800"]}']
    assert local.headers()["content-type"] == "application/json"


async def test_nothing_is_asked_to_be_compressed(outbound: Outbound) -> None:
    """The request says `Accept-Encoding: identity`, and who asks in no more words than needed."""
    async with serving(answering(OK)) as local:
        await ask(outbound, local.url)
    assert local.headers()["accept-encoding"] == "identity"
    assert local.headers()["user-agent"] == "xuna-middleware"


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "identity, gzip", "x"])
async def test_encoded_answers_are_refused(outbound: Outbound, encoding: str) -> None:
    """An answer that is compressed anyway is never unpacked."""
    raw = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answering(raw.encode())) as local:
        assert await fault_of(outbound, local.url) == "protocol"


async def test_identity_is_no_encoding(outbound: Outbound) -> None:
    """`Content-Encoding: identity` says nothing, and is taken as that."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"
    async with serving(answering(raw)) as local:
        reply = await ask(outbound, local.url)
    assert isinstance(reply, Reply)
    assert reply.body == b"ok"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_hundred_megabytes_are_cut_at_the_limit(outbound: Outbound, framing: str) -> None:
    """Reading stops at the limit, and the server notices that it does."""
    sent = 0
    chunk = b"x" * 65_536

    async def handler(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        head = {"length": b"Content-Length: 104857600\r\n", "close": b"Connection: close\r\n"}
        chunked = b"Transfer-Encoding: chunked\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + head.get(framing, chunked) + b"\r\n")
        for _i in range(1600):
            writer.write(b"10000\r\n" + chunk + b"\r\n" if framing == "chunked" else chunk)
            await writer.drain()
            sent += len(chunk)
        writer.close()

    async with serving(handler) as local:
        assert await fault_of(outbound, local.url, max_bytes=65_536) == "too_large"
    assert sent < 50_000_000  # the kernel's buffers hold some megabytes, never all of it


@pytest.mark.parametrize("count", [100, 201, 5_000])
async def test_headers_without_end(outbound: Outbound, count: int) -> None:
    """An honest answer has some dozens; what costs the square of their number is refused."""
    lines = b"".join(b"X-%d: a\r\n" % number for number in range(count - 1))
    answer = OK.replace(b"\r\n\r\n", b"\r\n" + lines + b"\r\n")
    async with serving(answering(answer)) as local:
        if count == 100:
            reply = await ask(outbound, local.url)
            assert isinstance(reply, Reply)
            assert len(reply.headers) == count
        else:
            assert await fault_of(outbound, local.url) in ("too_large", "protocol")


async def test_headers_that_are_repeated(outbound: Outbound) -> None:
    """One value for each name, joined with a comma (RFC 9110 section 5.2)."""
    answer = OK.replace(b"\r\n\r\n", b"\r\nX-A: 1\r\nx-a: 2\r\n\r\n")
    async with serving(answering(answer)) as local:
        reply = await ask(outbound, local.url)
        assert isinstance(reply, Reply)
        assert reply.headers["x-a"] == "1, 2"


class Dripping(httpx.AsyncBaseTransport):
    """Answers of one byte a chunk, all there at once, as from a full buffer of the kernel's."""

    def __init__(self, count: int) -> None:
        self.count = count

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=_Drops(self.count))


class _Drops(httpx.AsyncByteStream):
    def __init__(self, count: int) -> None:
        self.count = count

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            yield b"x"


@pytest.mark.parametrize("count", [MAX_CHUNKS, MAX_CHUNKS + 1])
async def test_chunks_without_end(count: int) -> None:
    """Bytes that come one by one cost far more than their number; other tasks have their turn."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    outcome = await ask(Outbound(http_transport=Dripping(count)), "http://test", max_bytes=10_000)
    beside.cancel()
    assert turns >= MAX_CHUNKS // 64
    if count == MAX_CHUNKS:
        assert isinstance(outcome, Reply)
        assert outcome.body == b"x" * count
    else:
        assert isinstance(outcome, OutboundError)
        assert outcome.kind == "too_large"


async def test_the_limit_itself_is_allowed(outbound: Outbound) -> None:
    """`max_bytes` bytes pass, one more doesn't."""
    async with serving(answering(OK)) as local:
        reply = await ask(outbound, local.url, max_bytes=2)
        assert isinstance(reply, Reply)
        assert await fault_of(outbound, local.url, max_bytes=1) == "too_large"


async def test_a_slow_drip_ends_in_time(outbound: Outbound) -> None:
    """The time bounds the whole answer: a byte now and then doesn't prolong it."""

    async def handler(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _i in range(1000):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(handler) as local:
        started = asyncio.get_running_loop().time()
        assert await fault_of(outbound, local.url, seconds=0.2) == "timeout"
        assert asyncio.get_running_loop().time() - started < 2


async def test_silence_ends_in_time(outbound: Outbound) -> None:
    """A server that accepts and says nothing is a timeout, not a failure to connect."""

    async def handler(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with serving(handler) as local:
        assert await fault_of(outbound, local.url, seconds=0.1) == "timeout"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", id="length says more"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nok", id="length is no number"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok", id="negative length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", id="two lengths"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nok", id="chunk breaks off"
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="chunk is none"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: y", id="head breaks off"),
        pytest.param(b"", id="hangs up"),
        pytest.param(b"\x16\x03\x01 not HTTP at all\r\n\r\n", id="no HTTP"),
    ],
)
async def test_broken_answers_are_a_protocol_fault(outbound: Outbound, raw: bytes) -> None:
    """What is no whole answer is none, and the request isn't sent again by itself."""
    async with serving(answering(raw, close=True)) as local:
        assert await fault_of(outbound, local.url) == "protocol"
        assert len(local.heads) == 1


async def test_a_length_that_says_less_cuts_the_body(outbound: Outbound) -> None:
    """Content-Length may lie in the other direction too: what is beyond it is not read."""
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nokay"
    async with serving(answering(raw, close=True)) as local:
        outcome = await ask(outbound, local.url)
    assert not isinstance(outcome, Reply) or outcome.body == b"o"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(outbound: Outbound, status: int) -> None:
    """A redirect is returned as it is; nobody goes where it leads."""
    async with serving(answering(OK)) as elsewhere:
        raw = f"HTTP/1.1 {status} X\r\nLocation: {elsewhere.url}\r\nContent-Length: 0\r\n\r\n"
        async with serving(answering(raw.encode())) as local:
            reply = await ask(outbound, local.url)
    assert isinstance(reply, Reply)
    assert reply.status == status
    assert elsewhere.heads == []


async def test_cookies_are_not_kept(outbound: Outbound) -> None:
    """A second request carries nothing that the first answer set."""
    raw = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(raw)) as local:
        url = f"http://localhost:{local.port}/"  # a name: some jars take none from an IP address
        await ask(outbound, url)
        await ask(outbound, url)
        assert len(local.heads) == 2
        assert "cookie" not in local.headers()


async def test_connections_are_kept(outbound: Outbound) -> None:
    """Requests one after another share a connection."""
    async with serving(answering(OK)) as local:
        for _ in range(3):
            assert isinstance(await ask(outbound, local.url), Reply)
        assert local.connections == 1


async def test_the_pool_is_small(outbound: Outbound) -> None:
    """Fifty requests at once are served over at most 8 connections."""
    async with serving(answering(OK)) as local:
        outcomes = await asyncio.gather(*(ask(outbound, local.url) for _ in range(50)))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert local.connections <= 8


async def test_a_refused_connection_is_no_connection(outbound: Outbound) -> None:
    """Where nobody listens the kind is `connect`, and the message says what the system said."""
    async with serving(answering(OK)) as local:
        url = local.url
    outcome = await ask(outbound, f"{url}/path?{CANARY}")
    assert isinstance(outcome, OutboundError)
    assert outcome.kind == "connect"
    assert str(outcome) == "127.0.0.1: no connection (ConnectionRefusedError)"


async def test_slow_handshakes_end_by_the_connect_timeout(outbound: Outbound) -> None:
    """A peer that doesn't get on with TLS is not connected to, and not waited for any longer."""
    async with serving(answering(OK)) as local:
        with pytest.raises(OutboundError) as caught:
            await outbound.request(
                "GET",
                f"https://127.0.0.1:{local.port}/",
                max_bytes=9,
                timeout=60,
                connect_timeout=0.1,
            )
    assert caught.value.kind == "connect"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that signed itself, its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "local test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path_factory.mktemp("tls") / "local.pem"
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, form, plain))
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """The server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_an_unknown_certificate_is_no_connection(
    outbound: Outbound, tls: ssl.SSLContext
) -> None:
    """Certificates are verified; the operator reads that this is what failed."""
    async with serving(answering(OK), tls=tls) as local:
        outcome = await ask(outbound, local.url)
        assert local.heads == []
    assert isinstance(outcome, OutboundError)
    assert outcome.kind == "connect"
    assert "SSLCertVerificationError" in str(outcome)


async def test_ssl_cert_file_is_honoured(
    outbound: Outbound, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's own root certificate is trusted where SSL_CERT_FILE names it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(answering(OK), tls=tls) as local:
        assert isinstance(await ask(outbound, local.url), Reply)


@pytest.mark.parametrize("url", ["http://[", "ftp://127.0.0.1/", "no address", "http://a:b/"])
async def test_addresses_that_are_none(outbound: Outbound, url: str) -> None:
    """Whatever is given as an address, the only exception is ours."""
    assert isinstance(await ask(outbound, url), OutboundError)


def test_a_second_event_loop_works(kind: str) -> None:
    """One Outbound serves loop after loop, each with connections of its own."""
    client = Outbound()

    async def once() -> object:
        async with serving(answering(OK)) as local:
            first = await ask(client, local.url)
            second = await ask(client, local.url)
            await client.aclose()
            again = await ask(client, local.url)
            await client.aclose()
        return [isinstance(each, Reply) for each in (first, second, again)]

    assert asyncio.run(once()) == [True] * 3
    assert asyncio.run(once()) == [True] * 3


def test_a_loop_that_ended_without_closing_is_forgotten(
    kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    """Pools of closed loops don't pile up, although one may hold on to its loop."""
    client = Outbound()

    async def once(close: bool) -> None:
        async with serving(answering(OK, close=True)) as local:
            assert isinstance(await ask(client, local.url), Reply)
        if close:
            await client.aclose()

    for close in (False, False, True):
        asyncio.run(once(close))
        assert len(client._pools) <= 1
    gc.collect()
    assert [str(w.message) for w in recwarn.list if w.category is not ResourceWarning] == []


async def test_cancelling_leaves_the_client_usable(outbound: Outbound) -> None:
    """A caller that goes away frees its connection."""
    heard = asyncio.Event()

    async def handler(head: bytes, reader: asyncio.StreamReader, w: asyncio.StreamWriter) -> None:
        if b"/slow" not in head:
            w.write(OK)
            return
        heard.set()
        await reader.read(1)

    async with serving(handler) as local:
        for _ in range(20):
            heard.clear()
            task = asyncio.create_task(ask(outbound, f"{local.url}/slow"))
            await heard.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert isinstance(await ask(outbound, local.url), Reply)


class Hidden:
    """A header value as `HiddenValue` describes it."""

    def reveal(self) -> str:
        return CANARY

    def __repr__(self) -> str:
        return "***"


def renderings(error: BaseException) -> str:
    """Render an exception as loudly as Python can: chain, locals of every frame, attributes."""
    parts: list[str] = []
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        shown = traceback.TracebackException.from_exception(each, capture_locals=True)
        parts += [*shown.format(), repr(each), repr(vars(each)), *_deep_locals(each)]
        todo += [each.__cause__, each.__context__]
    return "\n".join(parts)


def _deep_locals(error: BaseException) -> list[str]:
    """Render the locals of our frames, and the attributes of each local as well."""
    shown: list[str] = []
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == __file__:
            continue
        for value in frame.f_locals.values():
            names = [name for name in dir(value) if not name.startswith("__")]
            shown += [repr(getattr(value, name, None)) for name in names]
    return shown


async def test_a_concealed_value_reaches_the_wire_only(outbound: Outbound) -> None:
    """The header arrives; the fault, its chain and its frames show no part of it."""

    async def secretly(url: str) -> Reply:
        return await outbound.request(
            "GET", url, headers={"xi-api-key": Hidden()}, max_bytes=9, timeout=0.2
        )

    async def handler(head: bytes, r: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = head.split(b" ")[1]
        if target == b"/hang":
            await r.read(1)
        writer.write(OK if target == b"/" else b"HTTP/1.1 200 OK\r\n" + b"x" * 99 + b"\r\n\r\n")

    async with serving(handler) as local:
        await secretly(local.url)
        assert local.headers()["xi-api-key"] == CANARY
        for path in ("/hang", "/nonsense"):
            with pytest.raises(OutboundError) as caught:
                await secretly(local.url + path)
            assert CANARY not in renderings(caught.value)
    with pytest.raises(OutboundError) as caught:
        await secretly(local.url)
    assert CANARY not in renderings(caught.value)


async def test_a_cancelled_request_shows_nothing_either(outbound: Outbound) -> None:
    """A cancellation passes through frames that hold the header; none of them comes along."""
    heard = asyncio.Event()

    async def handler(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        heard.set()
        await reader.read(1)

    async with serving(handler) as local:
        task = asyncio.create_task(
            outbound.request("GET", local.url, headers={"k": Hidden()}, max_bytes=9, timeout=5)
        )
        await heard.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert CANARY not in renderings(caught.value)


async def test_logs_say_nothing(outbound: Outbound, caplog: pytest.LogCaptureFixture) -> None:
    """Neither our logger nor a library's, at any level, holds a header or a query."""
    caplog.set_level(logging.DEBUG)
    async with serving(answering(OK)) as local:
        await outbound.request(
            "GET",
            local.url,
            headers={"k": Hidden()},
            params={"v": CANARY},
            max_bytes=9,
            timeout=5,
        )
    assert CANARY in local.target()
    assert CANARY not in caplog.text


def test_a_reply_shows_its_status_only() -> None:
    """Body and headers may hold a credential."""
    assert CANARY not in repr(Reply(status=200, headers={"a": CANARY}, body=CANARY.encode()))


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({"http_proxy": "{proxy}"}, "http://platform.test/a?b=c", "GET http://platform.test/a?b=c"),
        ({"HTTP_PROXY": "{proxy}"}, "http://platform.test/", "GET http://platform.test/"),
        ({"all_proxy": "{proxy}"}, "http://platform.test/", "GET http://platform.test/"),
        ({"https_proxy": "{proxy}"}, "https://platform.test/", "CONNECT platform.test:443"),
        ({"HTTPS_PROXY": "{bare}"}, "https://platform.test/", "CONNECT platform.test:443"),
        ({"https_proxy": "{proxy}"}, "http://127.0.0.1:{free}/", None),
        ({"http_proxy": "{proxy}", "no_proxy": "127.0.0.1"}, "http://127.0.0.1:{free}/", None),
        ({"http_proxy": "{proxy}", "NO_PROXY": "*"}, "http://127.0.0.1:{free}/", None),
        (
            {"http_proxy": "{proxy}", "no_proxy": "other.test"},
            "http://platform.test/",
            "GET http://platform.test/",
        ),
    ],
)
async def test_proxy_variables_are_honoured(
    outbound: Outbound,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    url: str,
    expected: str | None,
) -> None:
    """Requests go through the proxy that the environment names, with or without `fast`."""
    async with serving(answering(OK, close=True)) as proxy, serving(answering(OK)) as direct:
        for name, value in environment.items():
            bare = proxy.url.removeprefix("http://")
            monkeypatch.setenv(name, value.format(proxy=proxy.url, bare=bare))
        await ask(outbound, url.format(free=direct.port))
    lines = [b" ".join(head.split(b" ")[:2]).decode() for head in proxy.heads]
    assert lines == ([] if expected is None else [expected])
    assert len(direct.heads) == (1 if expected is None else 0)


async def test_a_proxy_that_is_down_is_no_connection(
    outbound: Outbound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault is the connection's, whichever of the two hosts it is."""
    async with serving(answering(OK)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
    assert await fault_of(outbound, "https://platform.test/") == "connect"


async def test_a_given_transport_is_used_and_closed() -> None:
    """`transport` replaces the network, and `aclose()` closes it."""

    class BoundLimit(httpx.MockTransport):
        closed = 0

        async def aclose(self) -> None:
            self.closed += 1

    transport = BoundLimit(lambda request: httpx.Response(200, json={"path": request.url.path}))
    client = Outbound(http_transport=transport)
    reply = await client.request("GET", "https://platform.test/x", max_bytes=99, timeout=5)
    await client.aclose()
    assert (reply.body, transport.closed) == (b'{"path":"/x"}', 1)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (httpx.ConnectError, "connect"),
        (httpx.ConnectTimeout, "connect"),
        (httpx.ProxyError, "connect"),
        (httpx.ReadTimeout, "timeout"),
        (httpx.PoolTimeout, "timeout"),
        (httpx.ReadError, "protocol"),
        (httpx.RemoteProtocolError, "protocol"),
        (httpx.UnsupportedProtocol, "protocol"),
        (RuntimeError, "protocol"),
    ],
)
async def test_faults_of_a_transport_have_kinds(
    raised: Callable[[str], Exception], expected: str
) -> None:
    """Each exception that httpx names ends as one of the four kinds, without its text."""

    def handler(_: httpx.Request) -> httpx.Response:
        raise raised(CANARY)

    outcome = await ask(
        Outbound(http_transport=httpx.MockTransport(handler)), "https://platform.test/"
    )
    assert isinstance(outcome, OutboundError)
    assert outcome.kind == expected
    assert CANARY not in renderings(outcome)


class Torn(httpx.AsyncByteStream):
    """A body that ends in an exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"x"
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ReadTimeout(CANARY), "timeout"),
        (httpx.ReadError(CANARY), "protocol"),
        (httpx.ConnectTimeout(CANARY), "protocol"),  # as httpx-aiohttp calls a lost connection
        (ValueError(CANARY), "protocol"),
    ],
)
async def test_faults_in_a_body_are_no_failure_to_connect(error: Exception, expected: str) -> None:
    """Once the head is there, the request has been served: nobody may think it wasn't."""
    answer = httpx.Response(200, stream=Torn(error))
    client = Outbound(http_transport=httpx.MockTransport(lambda _: answer))
    outcome = await ask(client, "https://platform.test/")
    assert isinstance(outcome, OutboundError)
    assert outcome.kind == expected
    assert CANARY not in renderings(outcome)


async def test_the_cause_is_named_by_its_class() -> None:
    """The operator reads what the system said, even where several addresses were tried."""

    def handler(_: httpx.Request) -> httpx.Response:
        tries = ExceptionGroup(CANARY, [ConnectionRefusedError(CANARY), OSError(CANARY)])
        raise httpx.ConnectError(CANARY) from tries

    outcome = await ask(
        Outbound(http_transport=httpx.MockTransport(handler)), "https://platform.test/"
    )
    assert str(outcome) == "platform.test: no connection (ConnectionRefusedError)"


async def test_an_address_that_grows_too_long(outbound: Outbound) -> None:
    """Parameters that fit no address are our fault, not a crash."""
    params = {"a": "x" * 70_000}
    with pytest.raises(OutboundError):
        await outbound.request("GET", "http://127.0.0.1/", params=params, max_bytes=9, timeout=1)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("127.1", False),
        ("localhost.evil.test", False),
        ("127.0.0.1.evil.test", False),
        ("10.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_exact(host: str, expected: bool) -> None:
    """Only this machine's own names count, in no shortened or lengthened spelling."""
    assert is_loopback(host) is expected
