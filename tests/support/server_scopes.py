"""Which scope each ASGI server makes of a request target, as read in its source.

`tests/e2e/test_request_targets.py` sends a table of targets to the real servers and compares the
scopes they made with these.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlparse

import httptools

#: RFC 9110's VCHAR, which is all that h11 and llhttp take in a target.
_VISIBLE: Final = re.compile(rb"[\x21-\x7e]+")
#: Twisted's `_parseRequestLine` refuses up to the space; daphne itself refuses what isn't ASCII.
_DAPHNES: Final = re.compile(rb"[\x21-\x7f]+")
#: h2 refuses NUL, CR and LF, and white space at either end; hypercorn decodes as ASCII.
_HTTP2: Final = re.compile(rb"[^\x00\r\n\x80-\xff]+")
#: hyper's `PathAndQuery`, for a path: `"`, `{` and `}` are taken for the sake of browsers.
_GRANIANS: Final = re.compile(rb"[\x21-\x3b\x3d\x40-\x5f\x61-\x7e\x80-\xff]*")
_GRANIANS_QUERY: Final = re.compile(rb"[\x21\x24-\x3b\x3d\x3f-\x7e\x80-\xff]*")
#: What llhttp begins with.
_LLHTTPS: Final = re.compile(rb"[/*]|[A-Za-z]+://")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]+)(.*)", re.DOTALL)


class Target(NamedTuple):
    """Hold what a scope says of a request target."""

    path: str
    raw_path: bytes
    query: bytes
    root_path: str


#: (target, root path that the server was told, whether it is a WebSocket) to a scope's part;
#: None where the server refuses the request by itself.
Server = Callable[[bytes, str, bool], Target | None]


def _split(target: bytes) -> tuple[str, bytes, bytes]:
    raw, _, query = target.partition(b"?")
    return unquote(raw.decode("ascii")), raw, query


def uvicorn_h11(target: bytes, root: str, websocket: bool) -> Target | None:
    """`H11Protocol.handle_events`: the root path is put before whatever comes."""
    if not _VISIBLE.fullmatch(target):
        return None
    path, raw, query = _split(target)
    return Target(root + path, root.encode() + raw, query, root)


def uvicorn_httptools(target: bytes, root: str, websocket: bool) -> Target | None:
    """`HttpToolsProtocol.on_headers_complete`; a WebSocket's target goes on as it came."""
    if not _VISIBLE.fullmatch(target) or not _LLHTTPS.match(target):
        return None
    if websocket:
        return uvicorn_h11(target, root, websocket)
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        return None
    if parsed.path is None:
        return None
    path = unquote(parsed.path.decode("ascii"))
    return Target(root + path, root.encode() + parsed.path, parsed.query or b"", root)


def hypercorn(target: bytes, root: str, websocket: bool) -> Target | None:
    """`HTTPStream.handle` and `WSStream.handle`, behind h11."""
    if not _VISIBLE.fullmatch(target):
        return None
    return Target(*_split(target), root)


def hypercorn_http2(target: bytes, root: str, websocket: bool) -> Target | None:
    """The same behind h2, which takes control characters and spaces."""
    if not _HTTP2.fullmatch(target) or target.strip(b" \t") != target:
        return None
    return Target(*_split(target), root)


def daphne(target: bytes, root: str, websocket: bool) -> Target | None:
    """`WebRequest.process`; autobahn reads a WebSocket's target with `urlparse`.

    The root path may be anything: a client says it in `Daphne-Root-Path`.
    """
    if not _DAPHNES.fullmatch(target):
        return None
    path, raw, query = _split(target)
    if not websocket:
        return Target(path, raw, query, root)
    try:
        parsed = urlparse(target.decode("ascii"))
    except ValueError:
        return None
    if parsed.fragment:
        return None
    return Target(unquote(parsed.path), parsed.path.encode(), query, root)


def granian(target: bytes, root: str, websocket: bool) -> Target | None:
    """hyper's `Uri`: of an absolute target the path is left, of an authority nothing."""
    try:
        target.decode("utf-8")
    except UnicodeDecodeError:
        return None
    rest = target.partition(b"#")[0]
    if absolute := _ABSOLUTE.fullmatch(rest):
        rest = absolute[2] if absolute[2][:1] == b"/" else b"/" + absolute[2]
    elif rest != b"*" and rest[:1] != b"/":
        return Target("", b"", b"", root) if re.fullmatch(rb"[\w.-]+(:\d+)?", rest) else None
    raw, _, query = rest.partition(b"?")
    if not _GRANIANS.fullmatch(raw) or not _GRANIANS_QUERY.fullmatch(query) or b"\x7f" in raw:
        return None
    return Target(unquote(raw.decode("utf-8")), raw, query, root)


SERVERS: Final[Mapping[str, Server]] = {
    "uvicorn, h11": uvicorn_h11,
    "uvicorn, httptools": uvicorn_httptools,
    "hypercorn": hypercorn,
    "hypercorn, HTTP/2": hypercorn_http2,
    "daphne": daphne,
    "granian": granian,
}


def scope_of(target: Target, kind: str = "http", headers: Sequence[Any] = ()) -> dict[str, Any]:
    """Return a whole scope."""
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": target.path,
        "raw_path": target.raw_path,
        "query_string": target.query,
        "root_path": target.root_path,
        "headers": [(b"host", b"app.example.com"), *headers],
        "client": ("192.0.2.1", 50000),
        "server": ("app.example.com", 80),
        "state": {},
        "extensions": {},
    }
    if kind == "http":
        scope["method"] = "GET"
    else:
        scope["subprotocols"] = []
    return scope
