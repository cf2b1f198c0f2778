"""Verify access tokens: one protocol, and its two implementations for JWTs.

`JWTVerifier` gets the keys or their URL, `OIDCVerifier` finds them from the issuer. Both make the
same checks, and neither does any I/O for a token whose key is known.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from xuna_middleware._core.http import Outbound
from xuna_middleware.errors import ConfigurationError, GateError, InvalidTokenError
from xuna_middleware.identity.bound.dpop import DPoP
from xuna_middleware.identity.bound.policy import (
    Mode,
    Possession,
    checked_possession,
    traits_with,
)
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.jwt._jose import (
    ASYMMETRIC,
    CompactToken,
    JOSEError,
    VerificationKey,
    read_compact,
    read_object,
)
from xuna_middleware.identity.jwt.claims import ACCESS_TOKEN, ClaimPath, ClaimPolicy, TokenKind
from xuna_middleware.identity.jwt.options import (
    checked_algorithms,
    checked_clock,
    checked_transport,
    claim_policy,
    provider_endpoints,
)
from xuna_middleware.identity.jwt.token_cache import (
    SECONDS,
    RememberedTokens,
    fingerprint,
)
from xuna_middleware.identity.keys.discovery import Discovery, KeySetAddress
from xuna_middleware.identity.keys.endpoints import configured_host, host_names
from xuna_middleware.identity.keys.sources import (
    JWKSRefresh,
    KeySource,
    Listener,
    RemoteKeys,
    StaticKeys,
    unknown_key,
)

if TYPE_CHECKING:
    import httpx


@runtime_checkable
class Verifier(Protocol):
    """Verify the credentials of a request. One method, so that any mechanism fits.

    A verifier that you write declares anything else it accepts (issuers, tokens that live longer
    than a day, DPoP) in an attribute `traits`, see `VerifierTraits`.
    """

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the identity that the credentials prove.

        Raises:
            InvalidTokenError: they aren't valid. Never return None.
            UnavailableError: they can't be verified right now.
        """


@runtime_checkable
class Lifecycle(Protocol):
    """Start a part of the gate early, report whether it is ready, and stop it.

    A verifier that you write may have these three members; the gate uses them if it does.
    """

    def start(self) -> None:
        """Start in the background, without waiting. Called in the event loop, maybe repeatedly."""

    @property
    def ready(self) -> bool:
        """Return whether it can work without waiting."""

    async def aclose(self) -> None:
        """Stop background work and close connections."""


@runtime_checkable
class KeyEventSource(Protocol):
    """Report key events to the gate's hooks."""

    def listen(self, listener: Listener) -> None:
        """Register a listener, to be called with an event's name, the issuer and the cause."""


class _IssuerTokens:
    """Verify one issuer's tokens, in the order that makes invalid tokens cheapest to refuse.

    A base class, not a component: one call less for each request, and the two verifiers below share
    its code.
    """

    _keys: KeySource

    def __init__(
        self,
        policy: ClaimPolicy,
        algorithms: frozenset[str],
        possession: Possession | None,
        freshness: JWKSRefresh | None,
        http_transport: "httpx.AsyncBaseTransport | None",
        clock: Callable[[], float],
    ) -> None:
        if not isinstance(freshness, JWKSRefresh | None):
            raise ConfigurationError("freshness must be a JWKSRefresh(refresh_after=…), or None")
        self.issuer = policy.issuer
        self._policy = policy
        self._algorithms = algorithms
        self._possession = possession
        #: Read by the gate. A token is valid until its `exp`, which is at most `max_lifetime` after
        #: its `iat`, plus the leeway.
        self.traits = traits_with(
            possession, policy.issuer, max_token_seconds=policy.max_lifetime + policy.leeway
        )
        self._freshness = freshness
        self._remembered = RememberedTokens()
        self._outbound = Outbound(http_transport=checked_transport(http_transport))
        self._clock = checked_clock(clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(issuer={self.issuer!r})"

    def listen(self, listener: Listener) -> None:
        """Report changed keys, and keys that can't be fetched."""
        self._keys.listen(listener)

    def start(self) -> None:
        """Fetch the keys in the background."""
        self._keys.start()

    @property
    def ready(self) -> bool:
        """Return whether there are usable keys."""
        return self._keys.ready

    async def aclose(self) -> None:
        """Stop the background fetches and close the connections."""
        self._keys.stop()
        await self._outbound.aclose()

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the token's identity; see `Verifier.verify`."""
        token, now = credentials.token, self._clock()
        if not token.isascii():
            raise InvalidTokenError(cause="malformed: not ASCII")
        seen = fingerprint(token)
        identity = self._remembered.get(seen, now) or await self._verify(token, seen, now)
        self.traits.check_scheme(credentials.scheme)
        if self._possession is not None:
            await self._possession.prove(credentials, identity)
        return identity

    async def _verify(self, token: str, seen: bytes, now: float) -> Identity:
        """Verify a token that isn't remembered, and remember it."""
        parts, claims = self._read(token)
        named = parts.header.kid, parts.header.algorithm
        key = self._keys.known(*named) or await self._keys.find(*named)
        identity = self._judge(parts, claims, key, now)
        self._remember(seen, identity, now, len(token))
        return identity

    def _fetched(self, source: Discovery | KeySetAddress) -> RemoteKeys:
        return RemoteKeys(self.issuer, source.load, self._remembered.clear, self._freshness)

    def _read(self, token: str) -> tuple[CompactToken, dict[str, Any]]:
        """Read the parts; refuse before any I/O if no key is needed for that."""
        try:
            parts = read_compact(token)
            if self._keys.is_blocked(parts.header.kid):
                raise unknown_key()
            claims = read_object(parts.payload)
        except JOSEError as error:
            raise InvalidTokenError(cause=f"malformed: {error}") from None
        if parts.header.algorithm not in self._algorithms:
            raise InvalidTokenError(cause="algorithm: not one of the accepted ones")
        if claims.get("iss") != self.issuer:
            raise InvalidTokenError(cause="issuer: the token names another issuer")
        return parts, claims

    def _judge(
        self, parts: CompactToken, claims: dict[str, Any], key: VerificationKey, now: float
    ) -> Identity:
        """Check signature and claims. An unexpected exception counts as an invalid token."""
        if not key.verify(parts):
            raise InvalidTokenError(cause="signature: does not match the key")
        try:
            return self._policy.check(parts.header.typ, claims, now)
        except GateError:
            raise
        except Exception as error:
            raise InvalidTokenError(cause=f"malformed: {type(error).__name__}") from None

    def _remember(self, seen: bytes, identity: Identity, now: float, octets: int) -> None:
        claims, leeway = identity.claims, self._policy.leeway
        issued_at = claims["iat"]
        begins, ends = claims.get("nbf", issued_at), claims["exp"] + leeway
        not_before = (begins if begins > issued_at else issued_at) - leeway
        until = ends if ends < now + SECONDS else now + SECONDS
        self._remembered.put(seen, identity, not_before, until, octets=octets, now=now)


class JWTVerifier(_IssuerTokens):
    """Verify JWT access tokens of one issuer with given keys, or keys from a given address.

    Args:
        issuer: the token's `iss`, compared exactly.
        audience: one or several; the token must be for one of them.
        jwks: a JWK Set (RFC 7517): public keys, or secrets for HS256, HS384, HS512.
        jwks_uri: the https URL of a JWK Set; give one of the two.
        algorithms: accepted `alg` values; HMAC only if named here.
        token_types: accepted `typ` header values (RFC 9068: `at+jwt`); `""` means none.
        leeway: tolerance for clocks in seconds, at most 300.
        max_lifetime: the longest life of a token in seconds.
        audience_claim: the claim that names the audience, for providers that have no `aud`.
        scope_claims, role_claims: the claims of scopes and roles: claim names or paths to nested
            ones; a space-separated string or a list of strings; all that are present count.
        kind: how to recognize access tokens if `typ` doesn't say; presets set it.
        dpop: how to treat tokens bound to a DPoP key (RFC 9449): `off` refuses them, `accepted`
            checks their proof, `required` refuses all others; `DPoP(…)` has more options.
        mtls: the same for tokens bound to a client's TLS certificate (RFC 8705).
        insecure_hosts: names of hosts allowed over plain http; loopback always is.
        freshness: how old fetched keys may be.
        http_transport: your own httpx transport, for proxies and tests.
        clock: seconds since the epoch.

    Checks: see `identity/jwt/_jose.py` for signatures and `identity/jwt/claims.py` for claims.
    Does not check: revocation; a token is valid until its `exp` (see `max_lifetime`).

    Raises:
        ConfigurationError: an option makes no sense; the text names the fix.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str | Iterable[str],
        jwks: Mapping[str, Any] | None = None,
        jwks_uri: str | None = None,
        algorithms: Sequence[str] = ASYMMETRIC,
        token_types: Sequence[str] = ("at+jwt",),
        leeway: float = 30,
        max_lifetime: float = 86400,
        audience_claim: str = "aud",
        scope_claims: Sequence[ClaimPath] = ("scope", "scp"),
        role_claims: Sequence[ClaimPath] = ("roles",),
        kind: TokenKind = ACCESS_TOKEN,
        dpop: Mode | DPoP = "off",
        mtls: Mode = "off",
        insecure_hosts: Iterable[str] = (),
        freshness: JWKSRefresh | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if (jwks is None) == (jwks_uri is None):
            raise ConfigurationError('give JWTVerifier either jwks={…} or jwks_uri="https://…"')
        possession = checked_possession(dpop, mtls, clock)
        policy = claim_policy(
            issuer=issuer,
            audience=audience,
            token_types=token_types,
            leeway=leeway,
            max_lifetime=max_lifetime,
            audience_claim=audience_claim,
            scope_claims=scope_claims,
            role_claims=role_claims,
            kind=kind,
            accepts_bound=possession is not None,
        )
        accepted = checked_algorithms(algorithms, secrets=jwks is not None)
        insecure = host_names(insecure_hosts, "insecure_hosts")
        super().__init__(policy, accepted, possession, freshness, http_transport, clock)
        if jwks_uri is None:
            self._keys = StaticKeys(jwks, accepted)
        else:
            configured_host(jwks_uri, "jwks_uri", insecure)
            self._keys = self._fetched(KeySetAddress(jwks_uri, self._outbound))


class OIDCVerifier(_IssuerTokens):
    """Verify JWT access tokens of an OpenID provider, found by its issuer.

    Args:
        issuer: the provider's issuer URL, compared exactly, slash included.
        metadata_url: its metadata's URL, if not `{issuer}/.well-known/openid-configuration`.
        endpoint_hosts: names of further hosts allowed for its `jwks_uri`.
        audience, algorithms, token_types, leeway, max_lifetime, audience_claim, scope_claims,
        role_claims, kind, dpop, mtls, insecure_hosts, freshness, http_transport, clock: as for
        `JWTVerifier`.

    Checks: as `JWTVerifier`; that the metadata is the issuer's own; the host of the keys.
    Does not check: revocation; a token is valid until its `exp`.

    Raises:
        ConfigurationError: an option makes no sense; the text names the fix.
    """

    def __init__(
        self,
        issuer: str,
        *,
        audience: str | Iterable[str],
        algorithms: Sequence[str] = ASYMMETRIC,
        token_types: Sequence[str] = ("at+jwt",),
        leeway: float = 30,
        max_lifetime: float = 86400,
        audience_claim: str = "aud",
        scope_claims: Sequence[ClaimPath] = ("scope", "scp"),
        role_claims: Sequence[ClaimPath] = ("roles",),
        kind: TokenKind = ACCESS_TOKEN,
        dpop: Mode | DPoP = "off",
        mtls: Mode = "off",
        metadata_url: str | None = None,
        insecure_hosts: Iterable[str] = (),
        endpoint_hosts: Iterable[str] = (),
        freshness: JWKSRefresh | None = None,
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        possession = checked_possession(dpop, mtls, clock)
        policy = claim_policy(
            issuer=issuer,
            audience=audience,
            token_types=token_types,
            leeway=leeway,
            max_lifetime=max_lifetime,
            audience_claim=audience_claim,
            scope_claims=scope_claims,
            role_claims=role_claims,
            kind=kind,
            accepts_bound=possession is not None,
        )
        accepted = checked_algorithms(algorithms, secrets=False)
        endpoints = provider_endpoints(issuer, metadata_url, insecure_hosts, endpoint_hosts)
        super().__init__(policy, accepted, possession, freshness, http_transport, clock)
        self._keys = self._fetched(Discovery(issuer, metadata_url, endpoints, self._outbound))
