"""Find the credentials that a request presents (RFC 6750 section 2.1, RFC 9110 section 11). Pure.

One Authorization header, one scheme, one space, one token; nothing is guessed from anything else.
A token in the query is ignored, unless it stands beside a header: then the request has two
readings and gets none.
"""

import re
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from xuna_middleware.errors import InvalidRequestError, NotAuthenticatedError
from xuna_middleware.identity.credentials import Credentials

MAX_HEADER: Final = 16 * 1024

_BEARER: Final = re.compile(rb"(?i:bearer) ([A-Za-z0-9._~+/-]+=*)")


def extract(scope: Scope) -> Credentials | None:
    """Return the bearer token of an HTTP or WebSocket scope; None where nothing is presented.

    Raises:
        InvalidRequestError: two headers, a list, a malformed or oversized one, or a second token
            in the query.
        NotAuthenticatedError: a scheme that isn't Bearer.
    """
    value: bytes | None = None
    for name, candidate in scope["headers"]:
        if name == b"authorization":
            if value is not None:
                raise InvalidRequestError(cause="authorization: more than one header")
            value = candidate
    if value is None:
        return None
    return Credentials(scheme="bearer", token=_bearer_token(value, scope["query_string"]))


def _bearer_token(value: bytes, query: bytes) -> str:
    match = _BEARER.fullmatch(value) if len(value) <= MAX_HEADER else None
    if match is None:
        raise _refusal(value)
    if query and _has_access_token(query):
        raise InvalidRequestError(cause="authorization: a token in the query beside the header")
    return match[1].decode("ascii")


def _refusal(value: bytes) -> InvalidRequestError | NotAuthenticatedError:
    scheme = value[:32].split(b" ", 1)[0].lower()
    if scheme == b"bearer" or not scheme.isalpha():
        return InvalidRequestError(cause="authorization: malformed header")
    return NotAuthenticatedError(cause="authorization: a scheme that is not Bearer")


def _has_access_token(query: bytes) -> bool:
    if b"access_token" not in query and b"%" not in query:
        return False
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return any(name == "access_token" for name, _ in pairs)
