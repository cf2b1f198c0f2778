"""The visitors' entrance: who comes without credentials, and on which terms.

A visitor is a caller of their own, known again by a signed ticket. They reach the agents that are
open to them and no others, pass a challenge where one is set, and have limits of their own. Whoever
signs in later keeps what they spent: see `Move`.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Mapping
from secrets import token_urlsafe
from typing import Any, Final

from starlette.requests import HTTPConnection
from starlette.types import Scope

from xuna_middleware.access.door import Door
from xuna_middleware.access.visitors import SECRET_VARIABLE, Challenge, Visitors
from xuna_middleware.errors import (
    AccessDeniedError,
    ConfigurationError,
    GateError,
    UnavailableError,
    trace_of,
)
from xuna_middleware.identity.visits import (
    COOKIE,
    HEADER,
    Visit,
    VisitorTickets,
    new_visit,
    passed,
)
from xuna_middleware.stores.protocol import Store

logger = logging.getLogger("xuna_middleware")

_CHALLENGE_SECONDS: Final = 5.0


class Entrance:
    """Let visitors in. `is_secure` says that clients come over TLS."""

    def __init__(
        self,
        visitors: Visitors,
        store: Store,
        *,
        is_secure: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.visitors = visitors
        self.door = Door(store)
        self._is_secure = is_secure
        self._clock = clock
        secrets = visitors.secret or (token_urlsafe(),)
        self._tickets = VisitorTickets(secrets, seconds=visitors.ticket_lasts, clock=clock)

    def known(self, scope: Scope) -> Visit | None:
        """Return which visitor a request was before, as its ticket says."""
        return self._tickets.read(scope)

    def visit(self, scope: Scope) -> Visit:
        """Return which visitor comes, a new one where nobody is known."""
        return self.known(scope) or new_visit()

    async def check_challenge(self, visit: Visit, connection: HTTPConnection | None) -> Visit:
        """Return the visit as admitted; whoever passes the challenge now has passed it for a while.

        Raises:
            AccessDeniedError: 403 `challenge_required`, with what is needed to answer it.
            UnavailableError: it can't be known.
        """
        challenge = self.visitors.challenge
        if challenge is None or self._has_passed(visit):
            return visit
        if connection is None:
            raise ConfigurationError("a challenge reads the request: gate.issue(…, connection=…)")
        if not await _in_time(challenge, connection):
            raise AccessDeniedError(
                "Solve the challenge, and send its answer with the request.",
                code="challenge_required",
                cause="challenge: no answer, or a wrong one",
                headers=challenge.headers() if isinstance(challenge, Challenge) else None,
            )
        return passed(visit, self._clock() + self.visitors.challenge_lasts)

    def headers(self, visit: Visit, scope: Scope) -> Mapping[str, str]:
        """Return what tells a visitor who they are from now on; nothing where they know."""
        if not visit.is_new:
            return {}
        ticket = self._tickets.write(visit)
        secure = "; Secure" if self._is_secure or scope.get("scheme") in ("https", "wss") else ""
        lasting = f"Max-Age={self.visitors.ticket_lasts}"
        cookie = f"{COOKIE}={ticket}; {lasting}; Path=/; HttpOnly; SameSite=Lax{secure}"
        return {HEADER: ticket, "Set-Cookie": cookie}

    def start(self) -> None:
        """Say what the operator may not have thought of."""
        if self.visitors.secret is None:
            logger.warning(
                "visitors are known again by this process only, until it ends: set the environment "
                "variable %s, or Visitors(secret=…)",
                SECRET_VARIABLE,
            )

    async def aclose(self) -> None:
        """Close what the challenge has open."""
        closing = getattr(self.visitors.challenge, "aclose", None)
        if closing is not None:
            await closing()

    def _has_passed(self, visit: Visit) -> bool:
        return self._clock() < visit.passed_until


async def _in_time(challenge: Any, connection: HTTPConnection) -> bool:
    ask = challenge.passed if isinstance(challenge, Challenge) else challenge
    try:
        async with asyncio.timeout(_CHALLENGE_SECONDS):
            told = ask(connection)
            return (await told if inspect.isawaitable(told) else told) is True
    except GateError:
        raise
    except Exception as error:
        raise UnavailableError(
            cause=f"challenge: failed with {type(error).__name__}", trace=trace_of(error)
        ) from None
