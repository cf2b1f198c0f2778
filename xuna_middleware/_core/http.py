"""The only outbound HTTP client: bounded in time and bytes, and without secrets in its errors.

All rules are enforced here, so that no caller can forget one:

- at most `timeout` seconds in total, waiting for a free connection included, and at most
  `connect_timeout` to connect; at most `max_bytes` of body, counted as they arrive, whatever
  Content-Length says; at most 200 headers, and 4,096 chunks
  (aiohttp joins chunks that arrive together before they are counted);
- nothing is decompressed: requests send `Accept-Encoding: identity`, and an encoded response is
  refused (RFC 9110 section 8.4), so a small response can't expand into a large one;
- a redirect is a response like any other, never followed: a header with a key would be sent to the
  new host (RFC 9110 section 15.4); cookies are neither kept nor sent;
- nothing is sent twice: retries are the caller's decision;
- a header value may be `HiddenValue`: it is revealed only where no traceback of ours can show it,
  and errors contain only a host name and a class name.

httpx's *transports* are used directly, without its `AsyncClient`: the client would log each URL
with its query at INFO, keep cookies, and ignore proxy variables when given a custom transport.
"""

import asyncio
import contextlib
import ipaddress
import json as jsonlib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn, Protocol, TypeAlias
from urllib.request import getproxies, proxy_bypass
from weakref import WeakKeyDictionary

import httpx

if TYPE_CHECKING:
    import aiohttp

#: `connect`: no server was reached, so nothing was sent. `timeout`: no complete response in time.
#: `protocol`: the response broke off or is invalid. `too_large`: it exceeded `max_bytes`.
Kind: TypeAlias = Literal["connect", "timeout", "protocol", "too_large"]

#: The default connections of a pool. The cost of each httpx call grows with its pool.
CONNECTIONS: Final = 8
#: In seconds. Servers commonly close an idle connection after 5 s: close it before they do.
KEEP_ALIVE: Final = 4.0

#: Limits of one response.
MAX_HEADERS: Final = 200
MAX_CHUNKS: Final = 4096
_CHUNKS_IN_A_TURN: Final = 64

_USER_AGENT: Final = "xuna-middleware"
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_NO_HEADERS: Final[Mapping[str, str]] = {}


class HiddenValue(Protocol):
    """A header value that is revealed only when it is sent."""

    def reveal(self) -> str:
        """Return the plain value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Hold one complete response. Its repr shows only the status: the rest may be a credential.

    Attributes:
        status: any HTTP status, 3xx and 5xx included.
        headers: by lower-case name; repeated headers are joined with a comma.
        body: as received, not encoded; at most the `max_bytes` of the request.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class OutboundError(Exception):
    """Report that there is no response, and the kind of the failure.

    The message holds a host name and a class name: no query, no header, no part of a body.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind


class Outbound:
    """Send requests over long-lived connections, from any event loop.

    Each event loop gets its own small pool when it first sends; a pool uses httpx-aiohttp's
    transport where the `fast` extra is installed and no proxy applies, otherwise httpx's own.
    `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` and `SSL_CERT_FILE` are honoured.

    Args:
        http_transport: replaces all of these, on every loop, and is closed by `aclose()`.
        connections: of each pool. Further requests wait, and the wait counts toward the total time.

    Checks: the total time, the number of bytes, that the body isn't encoded. (With `fast`, the DNS
    lookup counts toward the total time, not the time to connect.)
    Does not check: the URL (its scheme, its host), the status, the content of the body.
    """

    def __init__(
        self,
        *,
        http_transport: httpx.AsyncBaseTransport | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        self._transport = http_transport
        self._connections = connections
        self._pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pool] = WeakKeyDictionary()

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str | HiddenValue] = _NO_HEADERS,
        json: Any = None,
        form: str | None = None,
        params: Mapping[str, str] | None = None,
        max_bytes: int,
        timeout: float,  # noqa: ASYNC109  (it also bounds the body, and shows which bound ended it)
        connect_timeout: float = 2.0,
    ) -> Reply:
        """Send one request, once, and return its complete response.

        Args:
            url: absolute, http or https. params: are encoded and added to its query.
            json: is sent as an `application/json` body; form: an encoded body, sent as
                `application/x-www-form-urlencoded`; None sends no body.
            max_bytes: of the response body. timeout, connect_timeout: in seconds.

        Raises:
            OutboundError: there is no usable response; see `kind`.
        """
        message = _Message(
            method=method,
            url=_address(url, params),
            headers=headers,
            content=_content(json, form),
            content_type=_JSON if form is None else _FORM,
            connect_timeout=min(connect_timeout, timeout),
        )
        outcome = await self._outcome(message, max_bytes, timeout)
        if isinstance(outcome, OutboundError):
            raise outcome
        return outcome

    async def aclose(self) -> None:
        """Close the connections of the running event loop. A later request opens new ones."""
        if self._transport is not None:
            await self._transport.aclose()
        pool = self._pools.pop(asyncio.get_running_loop(), None)
        if pool is not None:
            await pool.aclose()

    async def _outcome(
        self, message: "_Message", max_bytes: int, seconds: float
    ) -> Reply | OutboundError:
        """Return the error instead of raising it.

        The libraries' exceptions hold the request, and their traceback frames hold its headers:
        neither may become the context or the traceback of an error that leaves this module.
        """
        host = message.url.host
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(message, max_bytes)
        except OutboundError as fault:
            return OutboundError(fault.kind, f"{host}: {fault}")
        except asyncio.CancelledError as cancelled:
            _rethrow_bare(cancelled)
        except TimeoutError:
            return OutboundError("timeout", f"{host}: no whole answer in {seconds:.3g} s")
        except Exception as error:
            return _fault(error, host)

    async def _exchange(self, message: "_Message", max_bytes: int) -> Reply:
        transport = await self._transport_for(message.url)
        response = await transport.handle_async_request(message.sealed())
        try:
            headers = _headers_of(response)
            body = await _read(response, headers, max_bytes)
        finally:
            await response.aclose()
        return Reply(status=response.status_code, headers=headers, body=body)

    async def _transport_for(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        if self._transport is not None:
            return self._transport
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            pool = self._pools[loop] = _Pool(self._connections)
            await self._forget_closed_loops()
        return pool.transport(_proxy_for(url))

    async def _forget_closed_loops(self) -> None:
        # A pool may hold its loop, which would keep the weak key alive forever.
        for loop in [loop for loop in self._pools if loop.is_closed()]:
            with contextlib.suppress(RuntimeError):  # "Event loop is closed"
                await self._pools.pop(loop).aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """Hold a request whose secrets are not revealed yet, so that a traceback may show it."""

    method: str
    url: httpx.URL = field(repr=False)
    headers: Mapping[str, str | HiddenValue] = field(repr=False)
    content: bytes | None = field(repr=False)
    content_type: str
    connect_timeout: float

    def sealed(self) -> httpx.Request:
        """Return the request to send, with its hidden values revealed."""
        headers = {"Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        if self.content is not None:
            headers["Content-Type"] = self.content_type
        for name, value in self.headers.items():
            headers[name] = value if isinstance(value, str) else value.reveal()
        timeouts = {"connect": self.connect_timeout}
        return httpx.Request(
            self.method,
            self.url,
            headers=headers,
            content=self.content,
            extensions={"timeout": timeouts},
        )


class _Pool:
    """Keep the transports of one event loop: one for each applicable proxy, and one without."""

    __slots__ = ("_connections", "_transports")

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._transports: dict[str | None, httpx.AsyncBaseTransport] = {}

    def transport(self, proxy: str | None) -> httpx.AsyncBaseTransport:
        if proxy not in self._transports:
            context = _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
            fast = _fast_transport(context, self._connections) if proxy is None else None
            self._transports[proxy] = fast or httpx.AsyncHTTPTransport(
                verify=context,
                proxy=proxy,
                limits=httpx.Limits(
                    max_connections=self._connections,
                    max_keepalive_connections=self._connections,
                    keepalive_expiry=KEEP_ALIVE,
                ),
            )
        return self._transports[proxy]

    async def aclose(self) -> None:
        for transport in self._transports.values():
            await transport.aclose()


def is_loopback(host: str) -> bool:
    """Return whether a host name is this machine's own: `localhost`, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _address(url: str, params: Mapping[str, str] | None) -> httpx.URL:
    try:
        address = httpx.URL(url)
        return address.copy_merge_params(params) if params else address
    except httpx.InvalidURL:
        raise OutboundError("protocol", "the address is not a URL, or is too long") from None


def _content(json: Any, form: str | None) -> bytes | None:
    if form is not None:
        return form.encode("ascii")
    return None if json is None else _encoded(json)


def _encoded(json: Any) -> bytes:
    # ASCII: a lone surrogate is escaped; encoding it as UTF-8 would raise.
    return jsonlib.dumps(json, separators=(",", ":"), allow_nan=False).encode("ascii")


def _headers_of(response: httpx.Response) -> dict[str, str]:
    """Return a response's headers. The time of httpx's mapping is quadratic in their number."""
    raw = response.headers.raw
    if len(raw) > MAX_HEADERS:
        raise OutboundError("too_large", f"the answer has more than {MAX_HEADERS} headers")
    values: dict[str, list[str]] = {}
    for name, value in raw:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return {name: ", ".join(several) for name, several in values.items()}


async def _read(response: httpx.Response, headers: Mapping[str, str], max_bytes: int) -> bytes:
    encoding = headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise OutboundError("protocol", "the answer is encoded, which it was asked not to be")
    body, chunks = bytearray(), 0
    try:
        # Not `aiter_raw()`: it treats a response that a test built from bytes as consumed.
        async for chunk in response.stream:  # type: ignore[union-attr]
            body += chunk
            chunks += 1
            if len(body) > max_bytes:
                raise OutboundError("too_large", f"the answer has more than {max_bytes} bytes")
            if chunks > MAX_CHUNKS:
                raise OutboundError("too_large", f"the answer has more than {MAX_CHUNKS} chunks")
            if chunks % _CHUNKS_IN_A_TURN == 0:
                await asyncio.sleep(0)  # many chunks at once must not block the event loop
    except httpx.ConnectTimeout:
        # httpx-aiohttp raises this for a lost connection, even in the middle of a body.
        raise OutboundError("protocol", "the answer broke off") from None
    return bytes(body)


def _rethrow_bare(cancelled: asyncio.CancelledError) -> NoReturn:
    cancelled.__context__ = cancelled.__cause__ = None
    raise cancelled.with_traceback(None)


def _fault(error: Exception, host: str) -> OutboundError:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError):
        return OutboundError("connect", f"{host}: no connection ({_origin(error)})")
    if isinstance(error, httpx.TimeoutException):
        return OutboundError("timeout", f"{host}: no whole answer in time ({_origin(error)})")
    return OutboundError("protocol", f"{host}: no proper answer ({_origin(error)})")


def _origin(error: BaseException) -> str:
    """Return the class name of the root cause, such as `ConnectionRefusedError`, and no text."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    if isinstance(error, BaseExceptionGroup):
        return _origin(error.exceptions[0])
    return type(error).__name__


def _proxy_for(url: httpx.URL) -> str | None:
    """Return the proxy that the environment sets for this URL, as httpx's client would."""
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host) or proxy_bypass(url.netloc.decode("ascii")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@lru_cache(maxsize=4)
def _tls(_file: str | None, _directory: str | None) -> ssl.SSLContext:
    """Load the trusted roots once for all clients: each load takes about 30 ms and a megabyte."""
    return httpx.create_ssl_context()


def _fast_transport(context: ssl.SSLContext, connections: int) -> httpx.AsyncBaseTransport | None:
    """Return httpx-aiohttp's transport; None without the `fast` extra. Imported on first use."""
    try:
        import aiohttp
        from httpx_aiohttp import AiohttpTransport
    except ImportError:
        return None

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections, keepalive_timeout=KEEP_ALIVE, ssl=context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(_once,),
        )

    return AiohttpTransport(verify=context, client=session)


async def _once(
    request: "aiohttp.ClientRequest", handler: "aiohttp.ClientHandlerType"
) -> "aiohttp.ClientResponse":
    """Raise failures as httpx errors, before aiohttp automatically sends a GET again.

    The transport's own mapping would also report a server disconnect as a failure to connect.
    """
    import aiohttp

    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise httpx.ConnectError("no connection") from error
    except (aiohttp.ClientError, OSError) as error:
        raise httpx.ReadError("no answer") from error
