"""Find and verify the caller of a request in one step, and record how they proved who they are."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias, TypeVar

from starlette.requests import HTTPConnection
from starlette.types import Scope

from xuna_middleware._core.callables import is_async
from xuna_middleware.errors import (
    ConfigurationError,
    GateError,
    InvalidTokenError,
    NotAuthenticatedError,
    UnavailableError,
    trace_of,
)
from xuna_middleware.identity.authorization_header import extract, is_token
from xuna_middleware.identity.bound.request import Deployment, ProofContext
from xuna_middleware.identity.credentials import AnonymousVisitor, Credentials, Identity
from xuna_middleware.identity.jwt.verifiers import Verifier
from xuna_middleware.identity.protocols import (
    DEFAULT_TOKEN_SECONDS,
    VerifierTraits,
    merge_traits,
    traits_of,
)
from xuna_middleware.identity.rechecks import (
    HeldToken,
    Rechecks,
    recheck_by,
    recheck_interval_of,
)
from xuna_middleware.identity.router import IssuerRouter
from xuna_middleware.identity.tickets.tickets import Ticket, Tickets, Voucher, ticket_in
from xuna_middleware.identity.tickets.trust import Trust

#: A user's function that finds the caller in a session, a cookie or a header.
Authenticator: TypeAlias = Callable[[HTTPConnection], Awaitable[Identity | None]]

AUTHENTICATOR_SECONDS: Final = 2.0
#: How long a verifier may take to recheck a running conversation's token.
RECHECK_SECONDS: Final = 30.0
#: Scope key of the tokens that authenticated its caller, for `gate.issue(connection=…)`.
_PROOFS: Final = "xuna_middleware.proofs"

T = TypeVar("T")


class Caller(NamedTuple):
    """Describe who calls, and whether another site could have made a browser send the proof.

    `ambient` is True for any identity an authenticator found: browsers send cookies and the like
    automatically, but not a Bearer header. `voucher` says which part of the gate vouched for the
    identity. `ticket` is the ticket presented instead, on a WebSocket; `visit` is the visitor that
    this caller is, or was before they signed in. `token` is the token that authenticated them, if
    the verifier can recheck it.
    """

    identity: Identity
    ambient: bool
    voucher: Voucher
    ticket: Ticket | None = None
    visit: AnonymousVisitor | None = None
    token: HeldToken | None = None


class _Proof(NamedTuple):
    """Record which verifier accepted a request's token, and for which identity."""

    verifier: object
    identity: Identity
    token: HeldToken


class Authentication:
    """Authenticate by the Authorization header if a verifier is set, else by the authenticator.

    Only the verifier judges a presented header: its failure never falls back to a cookie.
    """

    def __init__(
        self,
        verifier: Verifier | Sequence[Verifier] | None,
        authenticator: Authenticator | None,
        surroundings: Deployment,
        *,
        agents: Collection[str] = (),
        visitors: str | None = None,
        visitors_only: bool = False,
    ) -> None:
        if verifier is None and authenticator is None and not visitors_only:
            raise ConfigurationError(
                "the gate needs to know who calls: verifier=OIDCVerifier(…), or "
                "authenticator=an async function (connection) -> Identity | None"
            )
        if authenticator is not None and not is_async(authenticator):
            raise ConfigurationError("authenticator must be an async function of (connection)")
        self.verifiers = () if verifier is None else _checked_verifiers(verifier)
        self._verifier = _one_of(self.verifiers)
        #: The traits of each verifier, in their order.
        self.traits = tuple(map(traits_of, self.verifiers))
        self._merged = merge_traits(self.traits)
        self._can_recheck = any(isinstance(each, Rechecks) for each in self.verifiers)
        self.authenticator = authenticator
        self._authenticators_traits = traits_of(authenticator)
        self._surroundings = surroundings
        self.tickets = Tickets(surroundings.store)
        #: Which tickets are accepted.
        self.trust = Trust(
            self.verifiers,
            self.traits,
            authenticator=None if authenticator is None else self._authenticators_traits,
            visitors=visitors,
            agents=agents,
        )

    async def authenticate(self, scope: Scope, base: str | None = None) -> Caller:
        """Return the caller of an HTTP or WebSocket scope; for `base` see `ProofContext`.

        Raises:
            NotAuthenticatedError: nothing was presented. InvalidRequestError: malformed.
            InvalidTokenError: it isn't valid. UnavailableError: it can't be verified now.
        """
        verifier = self._verifier
        credentials = None if verifier is None else extract(scope)
        if verifier is None or credentials is None:
            ticket = ticket_in(scope)
            return await (self._ambient(scope) if ticket is None else self._taken(ticket))
        if self._merged.needs_request:
            credentials = self._shown(credentials, scope, base)
        identity = await _identity_of(verifier, credentials, self._merged)
        token = HeldToken(credentials.token, identity.issuer) if self._can_recheck else None
        return Caller(identity, False, "verifier", token=token)

    def max_token_seconds(self, issuer: str) -> float | None:
        """Return for how many seconds after its `iat` any token of this issuer may be valid: at
        least a day and the leeway. An authenticator may return any issuer. None if nothing here
        can authenticate callers of this issuer, so the answer isn't known here.
        """
        described = [each for each in self.traits if each.may_verify(issuer)]
        if self.authenticator is not None:
            described.append(self._authenticators_traits)
        if not described:
            return None
        return max([DEFAULT_TOKEN_SECONDS, *(each.max_token_seconds for each in described)])

    async def make_ticket(self, ticket: Ticket) -> tuple[str, float]:
        """Return a ticket's text and its lifetime in seconds.

        The ticket gets this gate's mark, and contains its token only if rechecks need it.

        Raises:
            InvalidTokenError: the identity has expired. UnavailableError: it can't be stored now.
        """
        if await self.recheck_interval(ticket.token) is None:
            ticket = replace(ticket, token=None)
        return await self.tickets.make(replace(ticket, mark=self.trust.mark(ticket.voucher)))

    async def recheck_interval(self, token: HeldToken | None) -> float | None:
        """Return after how many seconds to recheck a token; None for never.

        Raises:
            InvalidTokenError: it is no longer valid, or belongs to another gate.
            UnavailableError: it can't be checked.
        """
        if token is None:
            return None
        verifier, _ = self._asked_about(token)
        text = token.reveal()
        return await _await_identity(recheck_interval_of(verifier, text), text)

    async def recheck(self, token: HeldToken) -> Identity:
        """Return the identity of a token as its provider reports it now.

        Raises:
            InvalidTokenError: no longer valid. UnavailableError: no answer within 30 s.
        """
        verifier, traits = self._asked_about(token)
        text = token.reveal()
        identity = await _await_identity(recheck_by(verifier, text), text)
        if not isinstance(identity, Identity):
            raise _no_identity("verifier", "raise InvalidTokenError instead")
        traits.check_issuer(identity)
        return identity

    async def verify_token(self, token: str) -> Identity:
        """Return the identity of a Bearer token, outside a request.

        Raises:
            NotAuthenticatedError: there is no verifier. InvalidTokenError: it isn't valid.
            UnavailableError: it can't be verified now.
        """
        if self._verifier is None:
            raise NotAuthenticatedError(cause="no verifier: a token says nothing here")
        if not is_token(token.encode("utf-8", "surrogatepass")):
            raise InvalidTokenError(cause="malformed: not what a header could hold")
        credentials = Credentials(scheme="bearer", token=token)
        return await _identity_of(self._verifier, credentials, self._merged)

    def note_proof(self, scope: Scope, caller: Caller) -> None:
        """Keep the caller's token in the request's scope, if it needs rechecks."""
        if caller.token is not None:
            proofs: tuple[_Proof, ...] = scope.get(_PROOFS, ())
            others = [each for each in proofs if each.verifier is not self._verifier]
            proof = _Proof(self._verifier, caller.identity, caller.token)
            scope[_PROOFS] = (*others, proof)

    def proof_of(self, connection: HTTPConnection | None, identity: Identity) -> HeldToken | None:
        """Return the token that authenticated this caller here, if `note_proof()` kept one.

        A token that another gate verified counts only if both gates have the same verifier.
        """
        scope: Scope = {} if connection is None else connection.scope
        proofs: tuple[_Proof, ...] = scope.get(_PROOFS, ())
        for verifier, proven, token in proofs:
            is_same = (proven.issuer, proven.subject) == (identity.issuer, identity.subject)
            if is_same and verifier is self._verifier:
                return token
        return None

    def _asked_about(self, token: HeldToken) -> tuple[Verifier | None, VerifierTraits]:
        """Return the verifier that may recheck a token: one for the token's own issuer.

        Raises:
            InvalidTokenError: there is none; a gate with the same store but another verifier= may
                have sealed the token into a ticket.
        """
        verifier, traits = self._verifier, self._merged
        if isinstance(verifier, IssuerRouter):
            verifier, traits = verifier.verifier_of(token.reveal())
        if not traits.may_verify(token.issuer):
            raise InvalidTokenError(
                cause="recheck: the token would go to the verifier= of another issuer than "
                f"{token.issuer!r}, which it proved"
            )
        return verifier, traits

    def _shown(self, credentials: Credentials, scope: Scope, base: str | None) -> Credentials:
        presented = ProofContext(scope=scope, surroundings=self._surroundings, base=base)
        return replace(credentials, presented=presented)

    async def _taken(self, text: str) -> Caller:
        ticket = await self.tickets.take(text)
        try:
            await self.trust.check(ticket)
        except UnavailableError:
            await self.tickets.put_back(text, ticket)
            raise
        return Caller(ticket.identity, False, ticket.voucher, ticket, token=ticket.token)

    async def _ambient(self, scope: Scope) -> Caller:
        identity = None
        if self.authenticator is not None:
            identity = await _ask(self.authenticator, HTTPConnection(scope))
        if identity is None:
            raise NotAuthenticatedError(cause="no credentials: nothing was presented")
        if not isinstance(identity, Identity):
            raise _no_identity("authenticator", "return None where nobody is signed in")
        self._authenticators_traits.check_issuer(identity)
        if _has_ended(identity):
            raise NotAuthenticatedError(cause="no credentials: the session's identity has expired")
        return Caller(identity, True, "authenticator")


def _checked_verifiers(verifier: Verifier | Sequence[Verifier]) -> tuple[Verifier, ...]:
    verifiers = tuple(verifier) if isinstance(verifier, list | tuple) else (verifier,)
    if not verifiers:
        raise ConfigurationError("verifier=[] would verify nobody; name one at least")
    for each in verifiers:
        if not isinstance(each, Verifier) or not is_async(each.verify):
            raise ConfigurationError("a verifier needs `async def verify(self, credentials)`")
    return verifiers


def _one_of(verifiers: tuple[Verifier, ...]) -> Verifier | None:
    return IssuerRouter(verifiers) if len(verifiers) > 1 else next(iter(verifiers), None)


async def _identity_of(
    verifier: Verifier, credentials: Credentials, traits: VerifierTraits
) -> Identity:
    try:
        traits.check_scheme(credentials.scheme)
        identity = await verifier.verify(credentials)
    except GateError:
        raise
    except Exception as error:
        raise UnavailableError(
            cause="verifier: failed unexpectedly", trace=trace_of(error, credentials.token)
        ) from None
    if not isinstance(identity, Identity):
        raise _no_identity("verifier", "raise InvalidTokenError instead")
    traits.check_issuer(identity)
    return identity


async def _await_identity(answer: Awaitable[T], token: str) -> T:
    """Await a verifier's answer about a running conversation's token."""
    try:
        async with asyncio.timeout(RECHECK_SECONDS):
            return await answer
    except GateError:
        raise
    except Exception as error:
        raise UnavailableError(
            cause="verifier: failed unexpectedly, or took longer than 30 s",
            trace=trace_of(error, token),
        ) from None


async def _ask(authenticator: Authenticator, connection: HTTPConnection) -> Identity | None:
    try:
        async with asyncio.timeout(AUTHENTICATOR_SECONDS):
            return await authenticator(connection)
    except GateError:
        raise
    except Exception as error:
        raise UnavailableError(
            cause="authenticator: failed or took too long", trace=trace_of(error)
        ) from None


def _no_identity(who: str, hint: str) -> UnavailableError:
    """Return the error for user code that returns no Identity: a 503, never access."""
    return UnavailableError(cause=f"{who}: returned no Identity", trace=hint)


def _has_ended(identity: Identity) -> bool:
    return identity.expires_at is not None and time.time() >= identity.expires_at
