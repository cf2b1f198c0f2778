"""Anonymous access: admit callers without credentials.

A visitor is a separate caller, known again by a signed anonymous token. Visitors reach only the
agents that are open to them, pass a captcha where one is set, and have separate limits. A visitor
who signs in later keeps their usage: see `MergeUsage`. Their anonymous token ends at that moment:
otherwise a stranger who planted it in their browser, or kept a copy, could go on in their name.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from secrets import token_urlsafe
from types import FunctionType, MethodType
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import Scope

from xuna_middleware._core.single_flight import SingleFlight
from xuna_middleware.anonymous.cookie import HEADER, AnonymousTokens, new_visit, passed, set_cookie
from xuna_middleware.anonymous.options import (
    SECRET_VARIABLE,
    AnonymousAccess,
    AnswerReader,
    CaptchaCheck,
    CaptchaCheckLike,
    WithTerms,
)
from xuna_middleware.anonymous.proof_of_work import ProofOfWork
from xuna_middleware.anonymous.switch import AdmissionSwitch
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    UnavailableError,
    trace_of,
)
from xuna_middleware.identity.client_address import client_address
from xuna_middleware.identity.credentials import AnonymousVisitor
from xuna_middleware.identity.proxies.trusted import TrustedProxies
from xuna_middleware.stores.namespace import namespace_of
from xuna_middleware.stores.protocol import MergeUsage, Store

logger = logging.getLogger("xuna_middleware")

_CHALLENGE_SECONDS: Final = 5.0
#: How many captcha checks (by services and by the operator's functions) run at once, how many
#: wait, and how many of both may come from one address: fewer than run at once. The last is how
#: many more of one address wait until one of these is done, 64 of all addresses at most.
CHALLENGES: Final = 8
CHALLENGES_WAITING: Final = 64
CHALLENGES_OF_ONE: Final = 4
CHALLENGES_OF_ONE_WAITING: Final = 48
_LONGEST_TERMS: Final = 1024
#: Seconds by which the clocks of workers may differ.
_LEEWAY: Final = 30.0


class Admission:
    """Admit visitors. `is_secure` says that clients connect over TLS."""

    def __init__(
        self,
        visitors: AnonymousAccess,
        store: Store,
        *,
        is_secure: bool,
        proxies: TrustedProxies,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.options = visitors
        self.switch = AdmissionSwitch(store)
        self._is_secure = is_secure
        self._clock = clock
        secrets = visitors.secret or (token_urlsafe(),)
        self._proxies = proxies
        self._challenge = _shared(visitors.captcha, secrets, store, self._address)
        #: Identifies the captcha that visitors have to pass; the same text in every process.
        self.terms = _terms(self._challenge)
        self._asking = SingleFlight[Any, bool](
            "challenge",
            max_concurrent=CHALLENGES,
            max_queued=CHALLENGES_WAITING,
            of_one=CHALLENGES_OF_ONE,
            of_one_waiting=CHALLENGES_OF_ONE_WAITING,
        )
        self._tickets = AnonymousTokens(
            secrets,
            seconds=visitors.token_seconds,
            namespace=namespace_of(store),
            terms=self.terms,
            clock=clock,
        )

    def known(self, scope: Scope) -> AnonymousVisitor | None:
        """Return the visitor that a request's anonymous token names."""
        return self._tickets.read(scope, is_secure=self._is_secure_at(scope))

    def visit(self, scope: Scope) -> AnonymousVisitor:
        """Return the known visitor of a request, or a new one."""
        return self.known(scope) or new_visit()

    async def check_not_paused(self, visit: AnonymousVisitor, scope: Scope) -> None:
        """Refuse visitors while anonymous access is paused, and visitors who have signed in.

        Raises:
            AccessDeniedError: 403 `anonymous_paused`, or `visitor_signed_in` with a new token.
            UnavailableError: the store gives no answer.
        """
        if not await self.switch.check(visit.visitor):
            raise AccessDeniedError(
                "This visitor has signed in. Ask again with the new ticket.",
                code="visitor_signed_in",
                cause="visitors: the ticket ended when its visitor signed in",
                headers=self.headers(new_visit(), scope),
            )

    async def leave(self, visit: AnonymousVisitor, move: MergeUsage) -> bool:
        """End a visitor's anonymous token, since they signed in; return whether it has ended.

        Raises:
            UnavailableError: it can't be ended.
        """
        return await self.switch.leave(visit.visitor, move, self.options.token_seconds)

    def forget_headers(self, scope: Scope) -> Mapping[str, str]:
        """Return the headers that make a browser forget its anonymous token."""
        return self._handed_out("", 0, scope)

    async def check_challenge(
        self, visit: AnonymousVisitor, connection: HTTPConnection | None
    ) -> AnonymousVisitor:
        """Return the admitted visit. A visitor who passes the captcha now isn't asked again for
        `captcha_seconds`.

        Raises:
            AccessDeniedError: 403 `challenge_required`, with the data needed to answer it.
            UnavailableError: the answer can't be checked.
        """
        challenge = self._challenge
        if challenge is None or self._has_passed(visit):
            return visit
        if connection is None:
            raise ConfigurationError("a challenge reads the request: gate.issue(…, connection=…)")
        if not await self._is_passed(challenge, connection):
            raise _unsolved(challenge)
        return passed(visit, self._clock() + self.options.captcha_seconds)

    def check_passed(self, visit: AnonymousVisitor) -> None:
        """Refuse a visitor who passed no captcha, or too long ago, without any I/O.

        Raises:
            AccessDeniedError: 403 `challenge_required`.
        """
        if self._challenge is not None and not self._has_passed(visit):
            raise _unsolved(self._challenge)

    def headers(self, visit: AnonymousVisitor, scope: Scope) -> Mapping[str, str]:
        """Return the headers that carry a new visitor's anonymous token; none for a known one."""
        if not visit.is_new:
            return {}
        return self._handed_out(self._tickets.write(visit), self.options.token_seconds, scope)

    def start(self) -> None:
        """Log a warning where no secret is set."""
        if self.options.secret is None:
            logger.warning(
                "visitors are known again by this process only, until it ends: set the environment "
                "variable %s, or AnonymousAccess(secret=…)",
                SECRET_VARIABLE,
            )

    async def aclose(self) -> None:
        """Close the captcha's connections."""
        closing = getattr(self._challenge, "aclose", None)
        if closing is not None:
            await closing()

    async def _is_passed(self, challenge: Any, connection: HTTPConnection) -> bool:
        """Check an answer within five seconds, waiting included. Our own puzzles don't wait for a
        place, and a request without an answer takes none from requests that have one.
        """
        ask = partial(_verdict, challenge, connection)
        if isinstance(challenge, ProofOfWork):
            return await _in_time(ask())
        if not await _in_time(_has_answer(challenge, connection)):
            return False
        return await _in_time(self._asking.alone(ask, self._address(connection)))

    def _address(self, connection: HTTPConnection) -> str | None:
        return client_address(connection.scope, self._proxies)

    def _handed_out(self, ticket: str, seconds: int, scope: Scope) -> Mapping[str, str]:
        is_secure = self._is_secure_at(scope)
        cookie = set_cookie(self._tickets.cookie(is_secure), ticket, seconds, is_secure=is_secure)
        return {HEADER: ticket, "Set-Cookie": cookie}

    def _is_secure_at(self, scope: Scope) -> bool:
        return self._is_secure or scope.get("scheme") in ("https", "wss")

    def _has_passed(self, visit: AnonymousVisitor) -> bool:
        # Never longer than one pass lasts, whichever clock set its date.
        left = visit.passed_until - self._clock()
        return 0 < left <= self.options.captcha_seconds + _LEEWAY


def _shared(
    challenge: CaptchaCheckLike | None,
    secrets: Sequence[str],
    store: Store,
    address: Callable[[HTTPConnection], str | None],
) -> CaptchaCheckLike | None:
    if isinstance(challenge, ProofOfWork):
        return challenge.sharing(secrets, store, address)
    return challenge


def _terms(challenge: CaptchaCheckLike | None) -> str:
    """Return a text that identifies the captcha, the same in every process."""
    if challenge is None:
        return "no challenge"
    if isinstance(challenge, ProofOfWork):
        return repr(challenge)
    if isinstance(challenge, WithTerms):
        return _checked_terms(challenge.terms)
    named: Any = challenge
    while isinstance(named, partial):
        named = named.func
    if not isinstance(named, FunctionType | MethodType):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"


def _checked_terms(terms: Any) -> str:
    if not isinstance(terms, str) or not terms or len(terms) > _LONGEST_TERMS:
        raise ConfigurationError(
            f"AnonymousAccess(captcha=…): terms is a text of 1 to {_LONGEST_TERMS} characters that "
            "says which captcha it is, another for each that a visitor has to pass by itself"
        )
    return terms


def _unsolved(challenge: Any) -> AccessDeniedError:
    return AccessDeniedError(
        "Solve the challenge, and send its answer with the request.",
        code="challenge_required",
        cause="challenge: no answer, or a wrong one",
        headers=challenge.headers() if isinstance(challenge, CaptchaCheck) else None,
    )


async def _verdict(challenge: Any, connection: HTTPConnection) -> bool:
    ask = challenge.verify if isinstance(challenge, CaptchaCheck) else challenge
    told = ask(connection)
    return (await told if inspect.isawaitable(told) else told) is True


async def _has_answer(challenge: Any, connection: HTTPConnection) -> bool:
    """Return whether there is an answer to check. The operator's captchas may implement that."""
    if not isinstance(challenge, AnswerReader):
        return True
    return challenge.has_answer(connection) is True


async def _in_time(verdict: Awaitable[bool]) -> bool:
    try:
        async with asyncio.timeout(_CHALLENGE_SECONDS):
            return await verdict
    except GateError:
        raise
    except Exception as error:
        raise UnavailableError(
            cause=f"challenge: failed with {type(error).__name__}", trace=trace_of(error)
        ) from None
