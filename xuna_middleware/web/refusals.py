"""Tell the operator why somebody was refused: one log line and one event, with a reference.

The answer carries the reference in `Xuna-Gate-Ref` and nothing else of this. At most one line a
second for each cause, so that a flood of bad requests can't become a flood of log lines; the next
line says how many were left out.
"""

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from xuna_middleware._core.log_rate import Paced
from xuna_middleware.errors import GateError, UnavailableError, copied, trace_of
from xuna_middleware.events import Event, Events
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.web.www_authenticate import Challenges

logger = logging.getLogger("xuna_middleware")

REFERENCE_HEADER: Final = "Xuna-Gate-Ref"
#: The cause that nobody but the operator can mend: no key, a broken setting.
_OPERATORS_FAULT: Final = "configuration"


class Refusals:
    """Note refusals. Each error is noted once, however many hands it goes through."""

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

    def note(
        self,
        error: Exception,
        *,
        identity: Identity | None = None,
        agent: str | None = None,
        transport: str | None = None,
        told: Mapping[str, str] = MappingProxyType({}),
    ) -> GateError:
        """Log and emit a refusal; return it with its reference in the headers, and `told` beside.

        What is returned is a copy: an error that somebody keeps and raises again is a new refusal.
        What nobody foresaw becomes a 503.
        """
        refusal = _as_refusal(error)
        if isinstance(refusal.headers, _Noted):
            return refusal
        reference = secrets.token_hex(6)
        self._log(refusal, reference)
        if self._events.heard:
            self._events.emit(
                Event(
                    name="refused",
                    time=self._clock(),
                    issuer=identity.issuer if identity else None,
                    subject=identity.subject if identity else None,
                    agent=agent,
                    transport=transport,
                    code=refusal.code,
                    status=refusal.status_code,
                    cause=refusal.cause,
                    reference=reference,
                )
            )
        return copied(
            refusal, headers=_Noted({**told, **self._headers(refusal), REFERENCE_HEADER: reference})
        )

    def warn(self, message: str, *arguments: object) -> None:
        """Log a WARNING that requests and conversations cause, at the pace of refusals."""
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
        is_ours_to_mend = error.trace or cause == _OPERATORS_FAULT
        line = f"refused {error.status_code} {reference}: {error.cause}{left_out}"
        logger.log(
            logging.ERROR if is_ours_to_mend else logging.WARNING,
            "%s",
            f"{line}\n{error.trace}" if error.trace else line,
        )


class _Noted(dict[str, str]):
    """Mark the headers of an error that was noted already."""


def _as_refusal(error: Exception) -> GateError:
    if isinstance(error, GateError):
        return error
    return UnavailableError(cause=f"unexpected: {type(error).__name__}", trace=trace_of(error))
