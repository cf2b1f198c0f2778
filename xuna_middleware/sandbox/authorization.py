"""The authorization endpoint's values: what was asked, what waits, which codes are out.

OAuth 2.0 (RFC 6749 section 4.1) with PKCE (RFC 7636, S256 alone) and `iss` in the answer
(RFC 9207). `state` is demanded as well, although PKCE makes it optional.
"""

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from xuna_middleware.sandbox.people import Person

SIGN_IN_LIFE: Final = 600
CODE_LIFE: Final = 60
_MAX_WAITING: Final = 1_000
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_LONGEST_STATE: Final = 2_048
T = TypeVar("T")


class AuthorizationError(Exception):
    """Refuse with an OAuth error code; it travels to the client's redirect address."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(code)
        self.code = code
        self.description = description


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """Hold a checked request; `audience` is what the access token will be for."""

    client_id: str
    redirect_uri: str
    state: str = field(repr=False)
    scopes: tuple[str, ...]
    code_challenge: str = field(repr=False)
    audience: str
    nonce: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Say that this person signed in, at that time, for that request."""

    person: Person
    request: AuthorizationRequest
    at: float


class Waiting(Generic[T]):
    """Keep values under unguessable names, each for a while and for one use; at most 1,000."""

    def __init__(self, *, life: float, clock: Callable[[], float]) -> None:
        self._life = life
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def put(self, value: T) -> str:
        """Keep the value and return its name."""
        name = secrets.token_urlsafe(32)
        self._kept[name] = (self._clock() + self._life, value)
        while len(self._kept) > _MAX_WAITING:
            self._kept.popitem(last=False)
        return name

    def take(self, name: str) -> T | None:
        """Return the value and forget it; None where it is unknown, used or too old."""
        until, value = self._kept.pop(name, (0.0, None))
        return value if self._clock() < until else None


def checked(
    query: Mapping[str, str], *, redirect_uri: str, client_id: str, audiences: tuple[str, ...]
) -> AuthorizationRequest:
    """Return the request, once client and redirect address are known to be right.

    Raises AuthorizationError.
    """
    _check_supported(query)
    return AuthorizationRequest(
        client_id=client_id,
        redirect_uri=redirect_uri,
        state=_state(query),
        scopes=_scopes(query),
        code_challenge=_challenge(query),
        audience=_audience(query, audiences),
        nonce=query.get("nonce"),
    )


def proves(verifier: str, challenge: str) -> bool:
    """Say whether this verifier belongs to that S256 challenge (RFC 7636 section 4.6)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode()).digest()
    made = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(made, challenge)


def _check_supported(query: Mapping[str, str]) -> None:
    if query.get("response_type") != "code":
        raise AuthorizationError("unsupported_response_type", "Only response_type=code.")
    if query.get("response_mode", "query") != "query":
        raise AuthorizationError("invalid_request", "Only response_mode=query.")
    for name in ("request", "request_uri"):
        if name in query:
            raise AuthorizationError(f"{name}_not_supported", "Plain parameters only.")
    if "none" in query.get("prompt", "").split():
        raise AuthorizationError("login_required", "Nobody stays signed in here.")


def _state(query: Mapping[str, str]) -> str:
    state = query.get("state", "")
    if not state or len(state) > _LONGEST_STATE:
        raise AuthorizationError("invalid_request", "state is missing, or too long.")
    return state


def _scopes(query: Mapping[str, str]) -> tuple[str, ...]:
    scopes = tuple(dict.fromkeys(query.get("scope", "").split()))
    if not scopes:
        raise AuthorizationError("invalid_scope", "scope is missing.")
    return scopes


def _challenge(query: Mapping[str, str]) -> str:
    challenge = query.get("code_challenge", "")
    if query.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
        raise AuthorizationError("invalid_request", "PKCE with S256 is demanded.")
    return challenge


def _audience(query: Mapping[str, str], audiences: tuple[str, ...]) -> str:
    """Return the resource indicator (RFC 8707) if it names a configured audience."""
    audience = query.get("resource", audiences[0])
    if audience not in audiences:
        raise AuthorizationError("invalid_target", "resource names no audience of this provider.")
    return audience
