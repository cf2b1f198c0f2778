"""Read a client's request to the issuing routes: a query with `agent`, or a small JSON body.

Bodies are bounded in bytes and in time, whatever length they declare. Header fields are bounded
in number and in size before any of them is read: each reader walks through all of them.
"""

import asyncio
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from xuna_middleware._core.strict_json import SMALL, StrictJSONError, strict_object
from xuna_middleware.errors import InvalidRequestError

MAX_BODY: Final = SMALL.size
MAX_QUERY: Final = 4096
#: Header fields of one request, and the bytes of their names and values.
MAX_FIELDS: Final = 256
MAX_HEADERS: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
_MEMBERS: Final = frozenset({"agent", "dynamic_variables", "overrides"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBody:
    """The values of a request, unchecked; no rendering shows them."""

    agent: str | None = field(default=None, repr=False)
    dynamic_variables: Any = field(default=None, repr=False)
    overrides: Any = field(default=None, repr=False)


def has_large_headers(scope: Scope) -> bool:
    """Return whether a request has too many header fields, or too large ones. Reads none of them;
    neither does CORS then.
    """
    fields = scope["headers"]
    return len(fields) > MAX_FIELDS or sum(map(len, chain.from_iterable(fields))) > MAX_HEADERS


def check_header_size(scope: Scope) -> None:
    """Refuse a request with too many header fields, or too large ones.

    Raises:
        InvalidRequestError: 431.
    """
    if has_large_headers(scope):
        raise InvalidRequestError(
            "The header fields are too many or too large.",
            status_code=431,
            code="headers_too_large",
            cause="headers: more than 256 fields, or more than 64 KiB in all",
        )


async def read_request(scope: Scope, receive: Receive) -> RequestBody:
    """Read query and, for POST, body.

    Raises:
        InvalidRequestError: 400, 413 or 415, in fixed words.
        ClientDisconnect: nobody is there to answer.
    """
    named = agent_in_query(scope.get("query_string", b""))
    if scope["method"] != "POST":
        return RequestBody(agent=named)
    asked = _asked(await _read_json(scope, receive))
    if named is None:
        return asked
    if asked.agent is not None:
        raise _bad("agent: named in the query and in the body")
    return RequestBody(
        agent=named, dynamic_variables=asked.dynamic_variables, overrides=asked.overrides
    )


def agent_in_query(query: bytes) -> str | None:
    """Return the agent that a query names; None if it names none.

    Raises:
        InvalidRequestError: 400, it names several, or can't be read.
    """
    if len(query) > MAX_QUERY:
        raise _bad("query: more than 4,096 bytes")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=64
        )
    except ValueError:
        raise _bad("query: not decodable, or too many fields") from None
    names = [value for name, value in pairs if name == "agent"]
    if len(names) > 1 or names == [""]:
        raise _bad("agent: repeated or empty in the query")
    return names[0] if names else None


def _asked(body: dict[str, Any]) -> RequestBody:
    if not _MEMBERS.issuperset(body):
        raise _bad("body: unknown members")
    if not isinstance(body.get("agent"), str | None):
        raise _bad("agent: not a string")
    return RequestBody(**body)


async def read_raw(scope: Scope, receive: Receive, most: int = MAX_BODY) -> bytes:
    """Read a whole body as it was sent, of at most `most` bytes, within ten seconds.

    Checks: that the body isn't compressed, and its length, as declared and as received.
    Does not check: the media type.

    Raises:
        InvalidRequestError: 400, 413 or 415, in fixed words.
        ClientDisconnect: nobody is there to answer.
    """
    headers = Headers(scope=scope)
    _check_encoding(headers)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read_body(headers, receive, most)
    except TimeoutError:
        raise _bad("body: came too slowly") from None


async def _read_json(scope: Scope, receive: Receive) -> dict[str, Any]:
    raw = await read_raw(scope, receive)
    if not raw:
        return {}
    _check_type(Headers(scope=scope))
    try:
        return strict_object(raw)
    except StrictJSONError:
        raise _bad("body: not a strict JSON object") from None


async def _read_body(headers: Headers, receive: Receive, most: int) -> bytes:
    declared = headers.get("content-length", "0")
    if not declared.isdecimal() or not declared.isascii():
        raise _bad("body: malformed Content-Length")
    if len(declared) > 9 or int(declared) > most:
        raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(body)


def _check_type(headers: Headers) -> None:
    media_types = headers.getlist("content-type")
    if len(media_types) != 1 or media_types[0].split(";")[0].strip().lower() != "application/json":
        raise _unsupported("The body must be application/json.")


def _check_encoding(headers: Headers) -> None:
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise _unsupported("The body must not be compressed.")


def _bad(cause: str) -> InvalidRequestError:
    return InvalidRequestError(cause=cause)


def _too_large() -> InvalidRequestError:
    return InvalidRequestError(
        "The body is too large.", status_code=413, code="content_too_large", cause="body: too large"
    )


def _unsupported(detail: str) -> InvalidRequestError:
    return InvalidRequestError(
        detail, status_code=415, code="unsupported_media_type", cause="body: media type"
    )
