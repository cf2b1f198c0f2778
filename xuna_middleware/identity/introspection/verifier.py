"""Verify opaque tokens by asking their provider (RFC 7662), within bounds:

- The token's format is checked first: a token that doesn't match `token_pattern` is refused without
  asking, and so are the gate's own API keys and tickets, whatever the pattern says.
- A positive answer is cached for `cache_seconds` and never past `exp`, so a revoked token is
  refused within that time. A negative one is cached for 5 seconds. An answer of more than 8 KiB
  isn't cached.
- Simultaneous requests with one token share one call; at most `max_concurrent` calls run and
  `max_queued` wait. Any more get a 503, so made-up tokens can't flood the provider, though during
  such a flood, callers whose token isn't cached may have to retry.
- After a failure the provider isn't called for 1 to 30 seconds, or for 1 to 10 about tokens known
  to be valid; after a 429 for as long as it says, within these bounds; cached tokens still work.
- Anybody can make a provider fail, by tokens that it can't handle. So a token that it accepted
  within the last hour is kept apart from all others: such tokens have their own slots, queue,
  connections and pauses. One account gets a quarter of these slots. Readiness (`/readyz`) depends
  only on the pauses for these.
- While a relayed conversation runs, its token is rechecked every `recheck_seconds`. Rechecks have
  `max_concurrent` slots and a queue of their own, and share the pauses of known tokens: strangers'
  tokens, and failures that they cause, end no conversation.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from xuna_middleware._core.http import Outbound
from xuna_middleware._core.single_flight import ExpiringSet, SingleFlight
from xuna_middleware.errors import ConfigurationError, InvalidTokenError
from xuna_middleware.identity.api_keys import PREFIX as API_KEY
from xuna_middleware.identity.bound.dpop import DPoP
from xuna_middleware.identity.bound.policy import Mode, checked_possession, traits_with
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.introspection.client import (
    LONGEST_PAUSE,
    LONGEST_PAUSE_OF_KNOWN,
    AuthMethod,
    Client,
    IntrospectionEndpoint,
)
from xuna_middleware.identity.introspection.policy import IntrospectionPolicy
from xuna_middleware.identity.jwt.claims import ClaimPath
from xuna_middleware.identity.jwt.options import (
    MAX_LIFETIME,
    checked_audience,
    checked_claim_name,
    checked_clock,
    checked_issuer,
    checked_paths,
    checked_seconds,
    checked_transport,
    provider_endpoints,
)
from xuna_middleware.identity.jwt.token_cache import RememberedTokens, fingerprint
from xuna_middleware.identity.keys.discovery import metadata_address
from xuna_middleware.identity.keys.endpoints import configured_host, host_names
from xuna_middleware.identity.tickets.tickets import PREFIX as TICKET

if TYPE_CHECKING:
    import httpx

#: Prefixes of the gate's own secrets, which no provider is ever sent.
_OURS: Final = (API_KEY, TICKET)
#: A b64token of 16 to 512 characters that doesn't look like a JWT.
OPAQUE: Final = r"(?![^.]*\.[^.]*\.[^.]*\Z)[A-Za-z0-9._~+/-]{16,512}=*"

_REFUSED_SECONDS: Final = 5.0
#: For how long a valid token is kept apart from unknown tokens.
_KNOWN_SECONDS: Final = 3600.0
_LONGEST_KEEP: Final = 60
_LARGEST_LEEWAY: Final = 300
_SHORTEST_RECHECK: Final = 1
_LONGEST_RECHECK: Final = 3600
#: One account's known tokens get all slots, running and waiting, divided by this.
_ACCOUNTS: Final = 4
#: How many rechecks of running conversations may wait; each conversation has one.
_MOST_RECHECKS: Final = 4096


class IntrospectionVerifier:
    """Verify access tokens by asking their provider.

    Args:
        issuer: the provider's issuer URL, and the issuer of the identities.
        client_id, client_secret, private_key, auth_method: this service's client id at the
            provider, and its secret (Basic or in the body) or private key (PEM or JWK).
        private_key_algorithm: of the assertion that the key signs.
        audience: one or several; the answer's `aud` must name one of them.
        client_ids: clients whose tokens are accepted, for providers that name no `aud`. Give either
            or both: a token for another API is not valid for this one.
        introspection_endpoint: its URL, if not as the issuer's metadata says.
        subject_claims: the claims for the subject; the first one present counts.
        token_pattern: a regular expression that matches a whole token. By default any token that
            looks opaque; among several verifiers, the one with the default is asked last, and only
            one may have it.
        cache_seconds: for how many seconds a positive answer is cached, at most 60; 0 asks each
            time.
        recheck_seconds: how often the token of a running conversation is rechecked, 1 to 3,600;
            None never rechecks, and a revoked token's conversation goes on until `exp`.
        max_concurrent, max_queued: how many calls run at once, and how many wait. Unknown tokens,
            known ones and running conversations have this many each, and connections for all of
            them. One account gets at most a quarter of those for known tokens.
        leeway: tolerance for clocks in seconds, at most 300. Applies to `iat` and `nbf`, not `exp`.
        max_lifetime: the longest life of a token in seconds, from its `iat`. A token without `iat`
            may have no more than this left before its `exp`; one without either is valid until the
            provider refuses it.
        undated_lifetime: for how many seconds your provider lets a token live, if its answers have
            no `iat`. Nothing in such an answer bounds a token's age, so `gate.revoke()` keeps its
            subject out for this long, even after a new sign-in. 30 days by default: the longest
            life that Auth0, for one, allows an opaque token.
        scope_claims, role_claims, dpop, mtls, metadata_url, insecure_hosts, endpoint_hosts,
        http_transport, clock: as for `OIDCVerifier`.

    Checks: everything that `policy.py` lists; revocation, within `cache_seconds`; for conversations
    that the gate carries, within `cache_seconds`, `recheck_seconds` and one call. Does not check:
    anything that the provider's answer doesn't say.

    Raises:
        ConfigurationError: an option makes no sense; the text names the fix.
    """

    def __init__(
        self,
        issuer: str,
        *,
        client_id: str,
        client_secret: str | None = None,
        private_key: str | Mapping[str, Any] | None = None,
        auth_method: AuthMethod | None = None,
        private_key_algorithm: str = "RS256",
        audience: str | Iterable[str] | None = None,
        client_ids: Iterable[str] = (),
        introspection_endpoint: str | None = None,
        subject_claims: Sequence[str] = ("sub",),
        scope_claims: Sequence[ClaimPath] = ("scope",),
        role_claims: Sequence[ClaimPath] = ("roles",),
        token_pattern: str = OPAQUE,
        cache_seconds: float = 10,
        recheck_seconds: float | None = 60,
        max_concurrent: int = 8,
        max_queued: int = 64,
        leeway: float = 30,
        max_lifetime: float = 86400,
        undated_lifetime: float = 30 * 86400,
        dpop: Mode | DPoP = "off",
        mtls: Mode = "off",
        metadata_url: str | None = None,
        insecure_hosts: Iterable[str] = (),
        endpoint_hosts: Iterable[str] = (),
        http_transport: "httpx.AsyncBaseTransport | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.issuer = checked_issuer(issuer)
        self._pattern = _checked_pattern(token_pattern)
        self._keep = checked_seconds(cache_seconds, "cache_seconds", most=_LONGEST_KEEP)
        self._recheck_seconds = _checked_recheck(recheck_seconds)
        self._clock = checked_clock(clock)
        self._possession = checked_possession(dpop, mtls, clock)
        self._policy = IntrospectionPolicy(
            issuer=self.issuer,
            audience=frozenset() if audience is None else checked_audience(audience),
            client_ids=_checked_clients(client_ids, audience),
            subject_claims=_checked_names(subject_claims),
            scope_claims=checked_paths(scope_claims, "scope_claims"),
            role_claims=checked_paths(role_claims, "role_claims"),
            leeway=checked_seconds(leeway, "leeway", most=_LARGEST_LEEWAY),
            max_lifetime=checked_seconds(max_lifetime, "max_lifetime", most=MAX_LIFETIME),
            accepts_bound=self._possession is not None,
        )
        undated = checked_seconds(undated_lifetime, "undated_lifetime", most=MAX_LIFETIME)
        #: Read by the gate. The policy bounds the age of a token that has an `iat`; without one,
        #: only the operator knows how long the token lives.
        self.traits = traits_with(
            self._possession,
            self.issuer,
            max_token_seconds=max(self._policy.max_lifetime + self._policy.leeway, undated),
        )
        endpoints = provider_endpoints(issuer, metadata_url, insecure_hosts, endpoint_hosts)
        if introspection_endpoint is not None:
            insecure = host_names(insecure_hosts, "insecure_hosts")
            configured_host(introspection_endpoint, "introspection_endpoint", insecure)
        client = Client(
            client_id,
            method=auth_method or _usual_method(private_key),
            client_secret=client_secret,
            private_key=private_key,
            algorithm=private_key_algorithm,
            audience=self.issuer,
        )
        given = checked_transport(http_transport)
        _checked_count(max_concurrent, "max_concurrent", least=1)
        _checked_count(max_queued, "max_queued", least=0)
        # As many connections as there are calls at once: those for known callers and running
        # conversations use the second.
        self._outbound = (
            Outbound(http_transport=given, connections=max_concurrent),
            Outbound(http_transport=given, connections=2 * max_concurrent),
        )
        # Known tokens have their own connections and pauses: failures that a stranger's made-up
        # token causes must neither end a conversation nor keep a known caller out.
        self._endpoint, self._known_endpoint = (
            IntrospectionEndpoint(
                client,
                issuer=self.issuer,
                url=introspection_endpoint,
                metadata_url=metadata_url or metadata_address(issuer),
                policy=endpoints,
                outbound=outbound,
                longest_pause=longest_pause,
            )
            for outbound, longest_pause in zip(
                self._outbound, (LONGEST_PAUSE, LONGEST_PAUSE_OF_KNOWN), strict=True
            )
        )
        self._remembered = RememberedTokens()
        self._refused = ExpiringSet[bytes](_REFUSED_SECONDS)
        self._known = ExpiringSet[bytes](_KNOWN_SECONDS)
        self._questions = SingleFlight[bytes, Identity](
            "introspection", max_concurrent=max_concurrent, max_queued=max_queued
        )
        self._known_questions = SingleFlight[bytes, Identity](
            "introspection of known tokens",
            max_concurrent=max_concurrent,
            max_queued=max_queued,
            of_one=max(1, (max_concurrent + max_queued) // _ACCOUNTS),
            owners="account",
        )
        self._rechecks = SingleFlight[bytes, Identity](
            "introspection of running conversations",
            max_concurrent=max_concurrent,
            max_queued=_MOST_RECHECKS,
        )

    def __repr__(self) -> str:
        return f"IntrospectionVerifier(issuer={self.issuer!r})"

    @property
    def token_pattern(self) -> str:
        """The regular expression that tokens match."""
        return self._pattern.pattern

    def recognizes(self, token: str) -> bool:
        """Return whether a token looks like one of these."""
        return not token.startswith(_OURS) and self._pattern.fullmatch(token) is not None

    def start(self) -> None:
        """Do nothing: there is nothing to ask before the first token arrives."""

    @property
    def ready(self) -> bool:
        """Return whether the provider may be asked about known tokens now. Failures with strangers'
        tokens say nothing about the provider and don't count here, unless the provider has refused
        this service itself since the start, for a wrong secret, say.
        """
        return self._known_endpoint.ready and not self._endpoint.is_refused

    async def aclose(self) -> None:
        """Stop the calls under way and close the connections."""
        for questions in (self._questions, self._known_questions, self._rechecks):
            questions.stop()
        for outbound in self._outbound:
            await outbound.aclose()

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the identity that the provider names; see `Verifier.verify`."""
        self.traits.check_scheme(credentials.scheme)
        token = credentials.token
        if not self.recognizes(token):
            raise InvalidTokenError(cause="malformed: not what token_pattern describes")
        seen, now = fingerprint(token), self._clock()
        identity = self._remembered.get(seen, now)
        if identity is None:
            identity = await self._introspect(token, seen, now)
        if self._possession is not None:
            await self._possession.prove(credentials, identity)
        return identity

    async def recheck_interval(self, token: str) -> float | None:
        """Return after how many seconds to recheck; see `Rechecks.recheck_interval`."""
        return self._recheck_seconds

    async def recheck(self, token: str) -> Identity:
        """Ask the provider about a token, ignoring cached answers; see `Rechecks.recheck`."""
        if not self.recognizes(token):
            raise InvalidTokenError(cause="malformed: not what token_pattern describes")
        endpoint = self._known_endpoint
        endpoint.check_open()
        seen = fingerprint(token)
        return await self._rechecks.ask(seen, partial(self._ask, endpoint, token, seen))

    async def _introspect(self, token: str, seen: bytes, now: float) -> Identity:
        if self._refused.has(seen, now):
            raise InvalidTokenError(cause="inactive: the provider said so a moment ago")
        endpoint, questions = self._endpoint, self._questions
        account = self._known.about(seen, now)
        if account is not None:
            endpoint, questions = self._known_endpoint, self._known_questions
        endpoint.check_open()
        return await questions.ask(seen, partial(self._ask, endpoint, token, seen), account)

    async def _ask(self, endpoint: IntrospectionEndpoint, token: str, seen: bytes) -> Identity:
        answer, octets = await endpoint.ask(token)
        now = self._clock()
        try:
            identity = self._policy.check(answer, now)
        except InvalidTokenError:
            self._remembered.drop(seen)
            self._known.drop(seen)
            self._refused.put(seen, now)
            raise
        until = now + self._keep
        if identity.expires_at is not None:
            until = min(until, identity.expires_at)
        account = sha256(identity.subject.encode("utf-8", "surrogatepass")).digest()
        self._known.put(seen, now, account)
        self._remembered.put(seen, identity, now, until, octets=octets, now=now)
        return identity


def _usual_method(private_key: object) -> AuthMethod:
    return "client_secret_basic" if private_key is None else "private_key_jwt"


def _checked_recheck(seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if checked_seconds(seconds, "recheck_seconds", most=_LONGEST_RECHECK) < _SHORTEST_RECHECK:
        raise ConfigurationError("recheck_seconds must be 1 second or more, or None for never")
    return seconds


def _checked_pattern(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.ASCII)
    except (re.error, TypeError):
        raise ConfigurationError("token_pattern must be a regular expression, as a text") from None


def _checked_clients(client_ids: Iterable[str], audience: object) -> frozenset[str]:
    names = frozenset() if isinstance(client_ids, str) else frozenset(client_ids)
    if isinstance(client_ids, str) or not all(isinstance(name, str) and name for name in names):
        raise ConfigurationError('client_ids must be a tuple of names: client_ids=("web",)')
    if not names and audience is None:
        raise ConfigurationError(
            "an IntrospectionVerifier needs audience=, the name of your API at the provider, or, "
            "where its answers have no aud, client_ids=, the clients whose tokens are for you"
        )
    return names


def _checked_names(names: Sequence[str]) -> tuple[str, ...]:
    listed = () if isinstance(names, str) else tuple(names)
    if not listed:
        raise ConfigurationError('subject_claims must be a tuple: subject_claims=("sub",)')
    return tuple(checked_claim_name(name, "subject_claims") for name in listed)


def _checked_count(number: int, option: str, *, least: int) -> int:
    if type(number) is not int or number < least:
        raise ConfigurationError(f"{option} must be a whole number, {least} or more")
    return number
