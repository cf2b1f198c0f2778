"""Operators' actions: list and end live conversations, revoke, pause anonymous access."""

import logging
import time
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import HTTPConnection

from xuna_middleware.access.limits.keys import subject_principal
from xuna_middleware.access.limits.reservations import ensure_not_revoked
from xuna_middleware.access.rules.rule import Rule
from xuna_middleware.anonymous.admission import Admission
from xuna_middleware.endpoints.core import Core
from xuna_middleware.errors import ConfigurationError, NotAuthenticatedError, UnavailableError
from xuna_middleware.events import Event
from xuna_middleware.identity.credentials import VISITOR_ISSUER, Identity
from xuna_middleware.identity.protocols import DEFAULT_TOKEN_SECONDS, MAX_TOKEN_SECONDS
from xuna_middleware.relay.live import LiveSession
from xuna_middleware.stores.protocol import StoreError

logger = logging.getLogger("xuna_middleware")

T = TypeVar("T")


async def check_operator(
    core: Core, rule: Rule, identity: Identity, connection: HTTPConnection
) -> None:
    """Refuse callers who aren't operators. The rule decides before the store is asked: only an
    operator uses the operators' connections.

    Raises:
        NotAuthenticatedError: a visitor. GateError: the rule says no, or can't be asked.
        InvalidTokenError: the operator was revoked. UnavailableError: the store gives no answer.
    """
    if identity.is_anonymous:
        raise NotAuthenticatedError(cause="no credentials: operators have some")
    refusal = await rule.refusal(identity, connection)
    if refusal is not None:
        raise refusal
    await ensure_not_revoked(identity, core.store, is_operator=True)


async def list_sessions(core: Core) -> tuple[LiveSession, ...]:
    """Return the live conversations that the gate carries, in all processes with its store.

    Raises:
        UnavailableError: the store is unavailable.
    """
    return await _answer_of(core.relay_context.sessions.all())


async def end_session(core: Core, session_id: str) -> bool:
    """End a live conversation in any process; return whether it exists.

    Raises:
        UnavailableError: the store is unavailable.
    """
    return await _answer_of(core.relay_context.sessions.end(session_id))


async def revoke(core: Core, issuer: str, subject: str, seconds: float) -> None:
    """Revoke what was issued to a caller up to now; see `XunaGate.revoke()`."""
    whom = subject_principal(Identity(issuer=issuer, subject=subject))
    if type(seconds) not in (int, float) or not 0 <= seconds <= MAX_TOKEN_SECONDS:
        raise ConfigurationError("gate.revoke(seconds=…) takes seconds, up to 100 years")
    at, seconds = time.time(), revoked_for(core, issuer, seconds)
    await _answer_of(core.store.revoke(whom, at, seconds))
    try:
        await core.stores.fallback.revoke(whom, at, seconds)
    except StoreError as error:
        logger.warning(
            "gate.revoke: the store knows of it, and this process alone doesn't (%s): while "
            "the store can't be asked, limits with on_unavailable='allow' or 'local' let this "
            "caller pass here; 'deny' doesn't",
            error,
        )
    core.events.emit(Event(name="revoked", time=at, issuer=issuer, subject=subject))


def revoked_for(core: Core, issuer: str, given: float = 0.0) -> float:
    """Return the longest time in seconds for which this issuer's credentials may stay valid; or
    `given`, if that is longer or if this gate doesn't know the issuer.
    """
    known = core.authentication.max_token_seconds(issuer)
    if issuer == VISITOR_ISSUER:
        known = None
        if core.admission is not None:
            known = max(DEFAULT_TOKEN_SECONDS, core.admission.options.token_seconds)
    if known is not None:
        return max(given, known)
    if not given:
        logger.warning(
            "revoke(): no verifier= of this gate is for the issuer %r, so this lasts 100 "
            "years; check its spelling, or say seconds= where another gate of this name "
            "verifies it",
            issuer,
        )
    return given or MAX_TOKEN_SECONDS


def admission_of(core: Core) -> Admission:
    """Return the admission of anonymous visitors.

    Raises:
        ConfigurationError: no agent is anonymous.
    """
    if core.admission is None:
        raise ConfigurationError("no agent admits visitors: Agent(…, anonymous=True)")
    return core.admission


async def _answer_of(question: Awaitable[T]) -> T:
    """Return the store's answer; a store error becomes a 503."""
    try:
        return await question
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None
