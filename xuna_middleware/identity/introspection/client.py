"""Ask a provider about a token (RFC 7662 section 2.1), as a client that proves who it is.

The proof is Authlib's: the secret as Basic or in the body (RFC 6749 section 2.3.1), or an assertion
signed with the client's own key (RFC 7523), good for a minute.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote_plus, urlencode

from xuna_middleware._core.http import Outbound, OutboundError, Reply
from xuna_middleware.errors import ConfigurationError, UnavailableError
from xuna_middleware.identity.jwt._jose import JOSEError, import_signing_key, read_object
from xuna_middleware.identity.keys.discovery import checked_endpoint, fetch_object
from xuna_middleware.identity.keys.endpoints import EndpointPolicy, KeySourceError

logger = logging.getLogger("xuna_middleware")

#: Adds the client's proof to a request: takes URL and form, returns headers and form.
Authenticated: TypeAlias = Callable[[str, str], tuple[dict[str, str], str]]
AuthMethod: TypeAlias = Literal["client_secret_basic", "client_secret_post", "private_key_jwt"]

MAX_ANSWER: Final = 64 * 1024
ANSWER_SECONDS: Final = 5.0

_METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")
#: Errors of RFC 6749 section 5.2 about the client, not about the token.
_OUR_FAULT: Final = ("invalid_client", "unauthorized_client")
_ASSERTION_SECONDS: Final = 60
#: Seconds: the longest pause after failures, where strangers cause them, and where they don't.
LONGEST_PAUSE: Final = 30.0
LONGEST_PAUSE_OF_KNOWN: Final = 10.0
_TOO_MANY: Final = 429
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


class Client:
    """The client authentication of this service. No rendering shows the secret (in a closure)."""

    def __init__(
        self,
        client_id: str,
        *,
        method: AuthMethod,
        client_secret: str | None,
        private_key: str | Mapping[str, Any] | None,
        algorithm: str,
        audience: str,
    ) -> None:
        _check_client(client_id, method, client_secret, private_key)
        self.client_id = client_id
        if method == "private_key_jwt":
            self.authenticated = _by_key(client_id, private_key, audience, algorithm)
        else:
            self.authenticated = _by_secret(client_id, str(client_secret), method)

    def __repr__(self) -> str:
        return f"Client({self.client_id!r})"


class _BusyError(KeySourceError):
    """The provider's rate limit for this service is reached."""

    def __init__(self, seconds: float) -> None:
        super().__init__("introspection: status 429; the provider limits how often it is asked")
        self.seconds = seconds


class _ClientRefusedError(KeySourceError):
    """The provider refuses this service itself, not a token."""


class IntrospectionEndpoint:
    """Call the endpoint, and pause after failures.

    After a failure no request is sent for 1, 2, 4 … seconds, at most `longest_pause`; after a 429
    for as long as Retry-After says, within that bound. Requests already under way when such a pause
    began don't lengthen it, however many of them fail.
    """

    def __init__(
        self,
        client: Client,
        *,
        issuer: str,
        url: str | None,
        metadata_url: str,
        policy: EndpointPolicy,
        outbound: Outbound,
        longest_pause: float = LONGEST_PAUSE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._longest_pause = longest_pause
        self._client = client
        self._issuer = issuer
        self._url = url
        self._metadata_url = metadata_url
        self._policy = policy
        self._outbound = outbound
        self._now = monotonic
        self._failures = 0
        self._pauses = 0
        self._retry_at = float("-inf")
        #: Whether the provider refused this service as a client, and never accepted it before.
        self.is_refused = False
        self._has_answered = False

    @property
    def ready(self) -> bool:
        """Return whether the endpoint may be called now, not pausing after a failure."""
        return self._retry_at <= self._now()

    def check_open(self) -> None:
        """Refuse during a pause, without any I/O.

        Raises:
            UnavailableError: it failed a moment ago.
        """
        wait = self._retry_at - self._now()
        if wait > 0:
            raise UnavailableError(cause="introspection: failed a moment ago", retry_after=wait)

    async def ask(self, token: str) -> tuple[Mapping[str, Any], int]:
        """Return the provider's answer about a token, and its size in octets.

        Raises:
            UnavailableError: there is no answer now.
        """
        self.check_open()
        pauses = self._pauses
        try:
            answer = await self._answer(token)
        except KeySourceError as error:
            if pauses == self._pauses:
                self._pause(str(error), error.seconds if isinstance(error, _BusyError) else 0.0)
            self.is_refused = isinstance(error, _ClientRefusedError) and not self._has_answered
            wait = max(1.0, self._retry_at - self._now())
            raise UnavailableError(cause=str(error), retry_after=wait) from None
        self._failures, self._retry_at = 0, float("-inf")
        self.is_refused, self._has_answered = False, True
        return answer

    async def _answer(self, token: str) -> tuple[Mapping[str, Any], int]:
        url = self._url = self._url or await self._discover()
        form = urlencode({"token": token, "token_type_hint": "access_token"})
        headers, body = self._client.authenticated(url, form)
        try:
            reply = await self._outbound.request(
                "POST",
                url,
                headers={"Accept": "application/json", **headers},
                form=body,
                max_bytes=MAX_ANSWER,
                timeout=ANSWER_SECONDS,
            )
        except OutboundError as error:
            raise KeySourceError(f"introspection: {error.kind}") from None
        return _read(reply), len(reply.body)

    async def _discover(self) -> str:
        try:
            metadata = await fetch_object(self._outbound, self._metadata_url)
        except JOSEError as error:
            raise KeySourceError(f"introspection: the metadata is {error}") from None
        return checked_endpoint(metadata, "introspection_endpoint", self._issuer, self._policy)

    def _pause(self, reason: str, shortest: float) -> None:
        backoff = min(self._longest_pause, max(shortest, 2.0**self._failures))
        self._failures = min(self._failures + 1, 16)
        self._pauses += 1
        self._retry_at = self._now() + backoff
        logger.warning(
            "tokens of %s could not be introspected, next try in %.0f s: %s",
            self._issuer,
            backoff,
            reason,
        )


def _read(reply: Reply) -> Mapping[str, Any]:
    """Parse an answer; a 400 that doesn't blame the client is about the token alone.

    A made-up token must not make the provider look broken.
    """
    try:
        answer = read_object(reply.body)
    except JOSEError:
        answer = {}
    blames_us = reply.status == 400 and answer.get("error") in _OUR_FAULT
    if reply.status in (401, 403) or blames_us:
        raise _ClientRefusedError(
            "configuration: the provider refuses this service as an introspection client "
            f"({reply.status}); see client_id, its secret or key, and auth_method"
        )
    if reply.status == 400:
        return {"active": False}
    if reply.status == _TOO_MANY:
        raise _BusyError(_seconds_of(reply))
    if reply.status != 200 or not answer:
        raise KeySourceError(f"introspection: status {reply.status}, or no JSON object")
    return answer


def _seconds_of(reply: Reply) -> float:
    """Return Retry-After in seconds; 0 if it is a date or missing."""
    text = reply.headers.get("retry-after", "").strip()
    return float(text) if _SECONDS.fullmatch(text) else 0.0


def _assertion(client_id: str, key: Any, audience: str, algorithm: str) -> str:
    from authlib.oauth2.rfc7523.assertion import private_key_jwt_sign
    from authlib.oauth2.rfc7523.client import ASSERTION_TYPE

    signed = private_key_jwt_sign(
        key, client_id, audience, alg=algorithm, expires_in=_ASSERTION_SECONDS
    )
    return urlencode(
        {
            "client_id": client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": signed,
        }
    )


def _by_secret(client_id: str, secret: str, method: str) -> Authenticated:
    from authlib.oauth2.auth import ClientAuth

    # For Basic both are form-encoded first (RFC 6749 section 2.3.1), which Authlib leaves to us.
    encode = quote_plus if method == "client_secret_basic" else str
    auth = ClientAuth(encode(client_id), encode(secret), method)

    def authenticated(url: str, form: str) -> tuple[dict[str, str], str]:
        _, headers, body = auth.prepare("POST", url, {}, form)
        return headers, body

    return authenticated


def _by_key(client_id: str, private_key: Any, audience: str, algorithm: str) -> Authenticated:
    try:
        key = import_signing_key(private_key, algorithm)
    except JOSEError as error:
        raise ConfigurationError(
            f"private_key: {error}; it must be a PEM or a JWK that fits private_key_algorithm"
        ) from None

    def authenticated(url: str, form: str) -> tuple[dict[str, str], str]:
        return {}, f"{form}&{_assertion(client_id, key, audience, algorithm)}"

    return authenticated


def _check_client(client_id: Any, method: Any, client_secret: Any, private_key: Any) -> None:
    if not isinstance(client_id, str) or not client_id.isprintable() or not client_id:
        raise ConfigurationError("client_id must be this service's name at the provider")
    if method not in _METHODS:
        raise ConfigurationError(f"auth_method must be one of {', '.join(_METHODS)}")
    wants_key = method == "private_key_jwt"
    if (private_key is not None) != wants_key or (client_secret is not None) == wants_key:
        raise ConfigurationError(
            "give the introspection client its client_secret, or, for "
            'auth_method="private_key_jwt", its private_key (PEM or JWK)'
        )
    if not wants_key and (not isinstance(client_secret, str) or not client_secret):
        raise ConfigurationError("client_secret must be a text that is not empty")
