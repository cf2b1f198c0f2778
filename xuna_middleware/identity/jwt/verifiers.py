"""Verify access tokens: one protocol, and its two implementations for JWTs.

`JWTVerifier` is told the keys or their address, `OIDCVerifier` finds them from the issuer. Both
check the same, and neither calls anybody for a token whose key is known.
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
    """Verify what a request presented. One method, so that any mechanism fits.

    What else one of your own accepts (issuers, tokens that live longer than a day, DPoP), it says
    with an attribute `traits`, see `VerifierTraits`.
    """

    async def verify(self, credentials: Credentials) -> Identity:
        """Return whom the credentials prove.

        Raises:
            InvalidTokenError: they prove nobody. Never return None.
            UnavailableError: it can't be known right now.
        """


@runtime_checkable
class Lifecycle(Protocol):
    """Do what a part of the gate does beside requests: begin early, say whether it is ready, end.

    A verifier of one's own may have these three members; the gate uses them if it does.
    """

    def start(self) -> None:
        """Begin in the background, without waiting. Called in the event loop, maybe repeatedly."""

    @property
    def ready(self) -> bool:
        """Tell whether it can do its work without waiting."""

    async def aclose(self) -> None:
        """End whatever runs and close what is open."""


@runtime_checkable
class KeyEventSource(Protocol):
    """Tell the gate's hooks what happens to keys."""

    def listen(self, listener: Listener) -> None:
        """Call this from now on with an event's name, the issuer and the cause."""


class _IssuerTokens:
    """Verify one issuer's tokens, in the order that costs a stranger's token least.

    A base, not a part: one hop less for each request, and one text of what the two below share.
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
        #: What the gate reads. A token is good until its `exp`, which is at most `max_lifetime`
        #: after its `iat`, and for the leeway.
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
        """Tell of changed keys, and of keys that can't be fetched."""
        self._keys.listen(listener)

    def start(self) -> None:
        """Fetch the keys in the background."""
        self._keys.start()

    @property
    def ready(self) -> bool:
        """Tell whether keys are there that may be used."""
        return self._keys.ready

    async def aclose(self) -> None:
        """End the background fetches and close the connections."""
        self._keys.stop()
        await self._outbound.aclose()

    async def verify(self, credentials: Credentials) -> Identity:
        """Return whom the token names; see `Verifier.verify`."""
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
        """Read the parts; what can be refused without a key is refused before any I/O."""
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
        """Check signature and claims. An unexpected exception counts as an
        invalid token."""
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
        issuer: the token's `iss`, compared to the letter.
        audience: one or several; the token must be for one of them.
        jwks: a JWK Set (RFC 7517): public keys, or secrets for HS256, HS384, HS512.
        jwks_uri: the https address of one; give either.
        algorithms: accepted `alg` values; HMAC only where it is named here.
        token_types: accepted `typ` header values (RFC 9068: `at+jwt`); `""` means none.
        leeway: tolerance for clocks in seconds, at most 300.
        max_lifetime: the longest life of a token in seconds.
        audience_claim: the claim that names the audience, for providers that have no `aud`.
        scope_claims, role_claims: where scopes and roles are found: claim names or paths to nested
            ones; a space-separated string or a list of strings; all that are there count.
        kind: how a type that says nothing tells access tokens from others; presets set it.
        dpop: what becomes of tokens bound to a DPoP key (RFC 9449): `off` refuses them, `accepted`
            wants their proof, `required` refuses all others; `DPoP(…)` says more.
        mtls: the same of tokens bound to a client's TLS certificate (RFC 8705).
        insecure_hosts: names of hosts that may be asked over plain http; loopback always may.
        freshness: how old fetched keys may be.
        http_transport: an httpx transport of your own, for proxies and tests.
        clock: seconds since the epoch.

    Checks: see `identity/jwt/_jose.py` for signatures and `identity/jwt/claims.py` for claims.
    Does not check: revocation; a token is good until its `exp` (see `max_lifetime`).

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
        issuer: the provider's issuer URL, compared to the letter, slash included.
        metadata_url: where its metadata is, if not at `{issuer}/.well-known/openid-configuration`.
        endpoint_hosts: names of further hosts that its `jwks_uri` may lie on.
        audience, algorithms, token_types, leeway, max_lifetime, audience_claim, scope_claims,
        role_claims, kind, dpop, mtls, insecure_hosts, freshness, http_transport, clock: as for
        `JWTVerifier`.

    Checks: as `JWTVerifier`; that the metadata is the issuer's own; where keys may come from.
    Does not check: revocation; a token is good until its `exp`.

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
