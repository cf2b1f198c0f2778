"""Opaque tokens: what they mean only their provider knows (RFC 7662), so it is asked. In bounds:

- A token's looks come first: what doesn't match `token_pattern`, and the gate's own API keys and
  tickets, whatever the pattern says, are refused without asking.
- A good answer serves for `cache_seconds` and never past `exp`, so a revoked token is refused
  within that time. A no serves for 5 seconds. An answer of more than 8 KiB isn't remembered.
- All who send one token at the same time share one question; at most `max_concurrent` questions run
  and `max_queued` wait. What comes beyond is a 503, so made-up tokens can't flood the provider,
  though while they come, a token that isn't remembered may have to come again.
- A provider that fails is left alone for 1 to 30 seconds, and with tokens that were good for 1 to
  10; after a 429 as long as it says, within these; remembered tokens go on meanwhile.
- Strangers can make a provider fail, by tokens that it can't digest. So a token that it called good
  within the last hour is asked about apart from all others: with places, a queue, connections and
  pauses of its own kind. One account has a quarter of these places. Readiness (`/readyz`) reads
  the pauses of these only.
- While a relayed conversation runs, its token is asked about again, each `recheck_seconds`. These
  questions have `max_concurrent` places and a queue of their own, and the pauses of known tokens:
  what strangers ask, and what fails at it, ends no conversation.
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

#: How the gate's own secrets begin: no provider is ever sent one.
_OURS: Final = (API_KEY, TICKET)
#: A b64token of 16 to 512 characters that doesn't look like a JWT.
OPAQUE: Final = r"(?![^.]*\.[^.]*\.[^.]*\Z)[A-Za-z0-9._~+/-]{16,512}=*"

_REFUSED_SECONDS: Final = 5.0
#: For how long a token that was good is told from strangers' tokens.
_KNOWN_SECONDS: Final = 3600.0
_LONGEST_KEEP: Final = 60
_LARGEST_LEEWAY: Final = 300
_SHORTEST_RECHECK: Final = 1
_LONGEST_RECHECK: Final = 3600
#: One account's known tokens have so many places, running and waiting: all, divided by this.
_ACCOUNTS: Final = 4
#: How many questions of running conversations wait for their turn; each conversation has one.
_MOST_RECHECKS: Final = 4096


class IntrospectionVerifier:
    """Verify access tokens by asking their provider.

    Args:
        issuer: the provider's issuer URL; what identities are issued by.
        client_id, client_secret, private_key, auth_method: who asks: the name of this service at
            the provider, and its secret (Basic or in the body) or private key (PEM or JWK).
        private_key_algorithm: of the assertion that the key signs.
        audience: one or several; the answer's `aud` must name one of them.
        client_ids: clients whose tokens are taken, for providers that name no `aud`. Give either
            or both: a token for another API is no token for this one.
        introspection_endpoint: its address, if not as the issuer's metadata says.
        subject_claims: where the subject is found; the first that is there counts.
        token_pattern: what tokens look like, a regular expression for the whole of one. By default
            whatever looks opaque; among several verifiers, one that says no more than that is asked
            last, and only one may.
        cache_seconds: for how many seconds a good answer serves, at most 60; 0 asks each time.
        recheck_seconds: how often the token of a running conversation is asked about again, 1 to
            3,600; None never asks again, and a revoked token's conversation goes on until `exp`.
        max_concurrent, max_queued: how many questions run at once, and how many wait. Strangers'
            tokens, known ones and running conversations have so many each, and connections for all
            these. Of those of known tokens one account has a quarter at most.
        leeway: tolerance for clocks in seconds, at most 300. Given to `iat` and `nbf`, not `exp`.
        max_lifetime: the longest life of a token in seconds, from its `iat`. A token without `iat`
            may have no more than this left before its `exp`; one without either lives until its
            provider says no.
        undated_lifetime: for how many seconds your provider lets a token live, where its answers
            have no `iat`. Nothing in such an answer bounds a token's age, so this is how long
            `gate.revoke()` keeps its subject out, a later sign-in included. 30 days by default: the
            longest life that Auth0, for one, lets an opaque token have.
        scope_claims, role_claims, dpop, mtls, metadata_url, insecure_hosts, endpoint_hosts,
        http_transport, clock: as for `OIDCVerifier`.

    Checks: what `policy.py` lists; revocation, within `cache_seconds`; of conversations that the
    gate carries, within `cache_seconds`, `recheck_seconds` and one call. Does not check: what the
    provider doesn't say.

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
        #: What the gate reads. The policy bounds the age of a token that has an `iat`; of one that
        #: has none, only the operator knows how long it lives.
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
        # As many connections as there are questions at once: known callers' and running
        # conversations' go over the second.
        self._outbound = (
            Outbound(http_transport=given, connections=max_concurrent),
            Outbound(http_transport=given, connections=2 * max_concurrent),
        )
        # Tokens that were good have connections and failures of their own: those that a stranger's
        # made-up token causes must neither end a conversation nor keep a known caller out.
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
        """What tokens look like."""
        return self._pattern.pattern

    def recognizes(self, token: str) -> bool:
        """Tell whether a token looks like one of these."""
        return not token.startswith(_OURS) and self._pattern.fullmatch(token) is not None

    def start(self) -> None:
        """Do nothing: there is nothing to ask before somebody comes."""

    @property
    def ready(self) -> bool:
        """Tell whether tokens that were good may be asked about now. What fails at strangers'
        tokens says nothing of the provider, and is not read here, except where the provider has
        refused this service itself ever since the start: with a wrong secret, say.
        """
        return self._known_endpoint.ready and not self._endpoint.is_refused

    async def aclose(self) -> None:
        """End the questions under way and close the connections."""
        for questions in (self._questions, self._known_questions, self._rechecks):
            questions.stop()
        for outbound in self._outbound:
            await outbound.aclose()

    async def verify(self, credentials: Credentials) -> Identity:
        """Return whom the provider names; see `Verifier.verify`."""
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
        """Return after how many seconds to ask again; see `Rechecks.recheck_interval`."""
        return self._recheck_seconds

    async def recheck(self, token: str) -> Identity:
        """Ask the provider about a token, whatever is remembered of it; see `Rechecks.recheck`."""
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
