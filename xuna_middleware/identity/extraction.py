"""Find the credentials that a request presents (RFC 6750 section 2.1, RFC 9110 section 11). Pure.

One Authorization header, one scheme, one space, one token; nothing is guessed from anything else.
A token in the query is ignored, unless it stands beside a header: then the request has two
readings and gets none.
"""

import string
from typing import Final
from urllib.parse import parse_qsl

from starlette.types import Scope

from xuna_middleware.errors import InvalidRequestError, NotAuthenticatedError
from xuna_middleware.identity.credentials import Credentials

MAX_HEADER: Final = 16 * 1024

#: What a token is made of (b64token, RFC 6750 section 2.1), less the padding it may end in.
_ALPHABET: Final = (string.ascii_letters + string.digits + "-._~+/").encode()


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
    return Credentials(scheme="bearer", token=_bearer_token(value, scope.get("query_string", b"")))


def _bearer_token(value: bytes, query: bytes) -> str:
    token = value[7:]
    unpadded = token.rstrip(b"=") if token[-1:] == b"=" else token
    if (
        value[:7].lower() != b"bearer "
        or len(value) > MAX_HEADER
        or not unpadded
        or unpadded.translate(None, _ALPHABET)
    ):
        raise _refusal(value)
    if query and _has_access_token(query):
        raise InvalidRequestError(cause="authorization: a token in the query beside the header")
    return token.decode("ascii")


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
