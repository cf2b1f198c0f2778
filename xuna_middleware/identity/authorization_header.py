"""Find the credentials that a request presents (RFC 6750 section 2.1, RFC 9449 section 7.1). Pure.

One Authorization header, one scheme, one space, one token; nothing is guessed from anything else.
A token in the query is ignored, unless there is a header as well: then the request is ambiguous and
is refused. A browser can't set a header on a WebSocket, so there a token may come as the
sub-protocol `bearer.<token>`, offered in addition to the one that the page really uses.
"""

import string
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.types import Scope

from xuna_middleware._core.query import values_of
from xuna_middleware.errors import InvalidRequestError, NotAuthenticatedError
from xuna_middleware.identity.credentials import Credentials

MAX_HEADER: Final = 16 * 1024

#: Prefix of a sub-protocol that carries a token.
SUBPROTOCOL: Final = "bearer."

#: Most sub-protocols of a WebSocket that offers a token. A page offers two or three.
_MOST_OFFERED: Final = 64
#: Characters of a token (b64token, RFC 6750 section 2.1), except the padding at its end.
_ALPHABET: Final = (string.ascii_letters + string.digits + "-._~+/").encode()


def extract(scope: Scope) -> Credentials | None:
    """Return the token of an HTTP or WebSocket scope; None if nothing is presented.

    Raises:
        InvalidRequestError: two headers, a list, a malformed or oversized one, or a second token
            in the query or the sub-protocols.
        NotAuthenticatedError: a scheme that is neither Bearer nor DPoP.
    """
    value: bytes | None = None
    for name, candidate in scope["headers"]:
        if name == b"authorization":
            if value is not None:
                raise InvalidRequestError(cause="authorization: more than one header")
            value = candidate
    if scope["type"] == "websocket":
        value = _offered(scope, value)
    if value is None:
        return None
    query = scope.get("query_string", b"")
    if query and _has_access_token(query):
        raise InvalidRequestError(cause="authorization: a token in the query beside the header")
    if value[:7].lower() == b"bearer ":
        return Credentials(scheme="bearer", token=_token(value, 7))
    if value[:5].lower() == b"dpop ":
        return Credentials(scheme="dpop", token=_token(value, 5))
    raise _refusal(value)


def _may_hold_a_token(subprotocols: Iterable[str]) -> bool:
    """Return whether any name could be a token, by checking all of them at once."""
    return SUBPROTOCOL in "\n".join(subprotocols).lower()


def without_tokens(subprotocols: Sequence[str]) -> list[str]:
    """Return the sub-protocols except tokens, which the app must neither choose nor log."""
    if not _may_hold_a_token(subprotocols):
        return list(subprotocols)
    return [name for name in subprotocols if not name.lower().startswith(SUBPROTOCOL)]


def is_token(value: bytes, start: int = 0) -> bool:
    """Return whether `value` from `start` on is a token in header form (RFC 6750 section 2.1)."""
    token = value[start:]
    unpadded = token.rstrip(b"=") if token[-1:] == b"=" else token
    return len(value) <= MAX_HEADER and bool(unpadded) and not unpadded.translate(None, _ALPHABET)


def _token(value: bytes, start: int) -> str:
    if not is_token(value, start):
        raise InvalidRequestError(cause="authorization: malformed header")
    return value[start:].decode("ascii")


def _offered(scope: Scope, value: bytes | None) -> bytes | None:
    """Return a WebSocket's Authorization header, or the value that its sub-protocols offer."""
    offered: Sequence[str] = scope.get("subprotocols", ())
    if not _may_hold_a_token(offered):
        return value
    if len(offered) > _MOST_OFFERED:
        raise InvalidRequestError(cause="authorization: a token among too many sub-protocols")
    tokens = [name for name in offered if name[:7].lower() == SUBPROTOCOL]
    if not tokens:
        return value
    if value is not None or len(tokens) > 1:
        raise InvalidRequestError(cause="authorization: more than one token")
    return b"Bearer " + tokens[0][len(SUBPROTOCOL) :].encode("utf-8", "surrogatepass")


def _refusal(value: bytes) -> InvalidRequestError | NotAuthenticatedError:
    scheme = value[:32].split(b" ", 1)[0].lower()
    if scheme in (b"bearer", b"dpop") or not scheme.isalpha():
        return InvalidRequestError(cause="authorization: malformed header")
    return NotAuthenticatedError(cause="authorization: a scheme that is not Bearer")


def _has_access_token(query: bytes) -> bool:
    if b"access_token" not in query and b"%" not in query:
        return False
    return bool(values_of(query, "access_token"))
