"""Report to the operator why a request was refused: one log line and one event, with a reference.

The answer contains only the reference, in `Xuna-Gate-Ref`. Each cause is logged at most once a
second, so that a flood of bad requests can't become a flood of log lines; the next line says how
many were left out.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect

from xuna_middleware._core.log_rate import Paced
from xuna_middleware.errors import GateError, UnavailableError, copied, trace_of
from xuna_middleware.events import Event, Events
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.web.www_authenticate import Challenges

logger = logging.getLogger("xuna_middleware")

REFERENCE_HEADER: Final = "Xuna-Gate-Ref"
#: The cause that only the operator can fix: no key, a broken setting.
_OPERATORS_FAULT: Final = "configuration"


@dataclass(slots=True, kw_only=True)
class Attempt:
    """Collect what the gate learns about one request, or one step of a conversation.

    `agent` is a configured name. `headers` go into the answer, whatever it is.
    """

    identity: Identity | None = None
    agent: str | None = None
    transport: str | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


class Refusals:
    """Report refusals to the operator: a log line, an event, and a reference for the answer."""

    def __init__(
        self,
        events: Events,
        challenges: Challenges | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._events = events
        self.challenges = challenges or Challenges()
        self._clock = clock
        self._lines = Paced(clock)

    def reporting(self, attempt: Attempt, kind: type[Exception] = Exception) -> "_Reporting":
        """Return a context manager that reports an exception raised in it and raises the result of
        `report()` instead. A disconnected client is not a refusal.
        """
        return _Reporting(self, attempt, kind)

    def report(self, error: Exception, attempt: Attempt) -> GateError:
        """Log and emit a refusal; return it with the attempt's headers and its reference added.

        Returns a copy: an error object that is raised again is a new refusal. An unexpected
        exception becomes a 503.
        """
        refusal = _as_refusal(error)
        reference = secrets.token_hex(6)
        self._log(refusal, reference)
        if self._events.has_listeners:
            who = attempt.identity
            self._events.emit(
                Event(
                    name="refused",
                    time=self._clock(),
                    issuer=who.issuer if who else None,
                    subject=who.subject if who else None,
                    agent=attempt.agent,
                    transport=attempt.transport,
                    code=refusal.code,
                    status=refusal.status_code,
                    cause=refusal.cause,
                    reference=reference,
                )
            )
        headers = {**attempt.headers, **self._headers(refusal), REFERENCE_HEADER: reference}
        return copied(refusal, headers=headers)

    def warn(self, message: str, *arguments: object) -> None:
        """Log a WARNING caused by a request or conversation, rate-limited like refusals."""
        left_out = self._lines.admit(message)
        if left_out is not None:
            logger.warning(message + "%s", *arguments, left_out)

    def _headers(self, error: GateError) -> Mapping[str, str]:
        headers = error.headers or {}
        if error.challenge is None:
            return headers
        return {**headers, "WWW-Authenticate": self.challenges.header(error.challenge)}

    def _log(self, error: GateError, reference: str) -> None:
        cause = error.cause.partition(":")[0]
        left_out = self._lines.admit(cause)
        if left_out is None:
            return
        is_operators_fault = error.trace or cause == _OPERATORS_FAULT
        line = f"refused {error.status_code} {reference}: {error.cause}{left_out}"
        logger.log(
            logging.ERROR if is_operators_fault else logging.WARNING,
            "%s",
            f"{line}\n{error.trace}" if error.trace else line,
        )


class _Reporting:
    """Report exceptions raised in the block."""

    __slots__ = ("_attempt", "_kind", "_refusals")

    def __init__(self, refusals: Refusals, attempt: Attempt, kind: type[Exception]) -> None:
        self._refusals = refusals
        self._attempt = attempt
        self._kind = kind

    def __enter__(self) -> Attempt:
        return self._attempt

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, self._kind) and not isinstance(error, ClientDisconnect):
            raise self._refusals.report(error, self._attempt) from None


def _as_refusal(error: Exception) -> GateError:
    if isinstance(error, GateError):
        return error
    return UnavailableError(cause=f"unexpected: {type(error).__name__}", trace=trace_of(error))
