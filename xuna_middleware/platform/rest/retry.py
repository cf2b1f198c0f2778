"""Send a request, and send it once more if that can help and does no harm.

Sent again: requests that never reached a server, and those that a 502, 503 or 504 reports as not
served. This includes `POST`: if a server did make a token, nobody ever gets it, it starts no
conversation, so it costs no quota, and it expires within minutes. Not sent again: requests that
timed out or broke off, since the server may still be working on them and time is short; a 429,
which asks for fewer requests.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

from xuna_middleware._core.http import OutboundError, Reply

#: A fault is a value here, so that no traceback includes the sending frames.
Outcome: TypeAlias = Reply | OutboundError

_UNSERVED: Final = (502, 503, 504)
#: Seconds: before a second attempt if the platform names no time.
_PAUSE: Final = 0.1
#: Seconds: a second attempt with less than this would only turn a clear answer into a timeout.
_LEAST: Final = 1.0
#: Seconds: a Retry-After of more than a day counts as one day.
_LONGEST: Final = 86_400.0
_SECONDS: Final = re.compile(r"[0-9]{1,9}", re.ASCII)


async def send(
    once: Callable[[float], Awaitable[Reply]],
    *,
    seconds: float,
    clock: Callable[[], float] = time.time,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> Outcome:
    """Call `once` with its time in seconds; call it again if the first call failed early enough.

    Args:
        seconds: for both attempts and the pause between them.
        clock: seconds since the epoch, for a Retry-After that is a date.
    """
    deadline = now() + seconds
    first = await _outcome(once, seconds)
    pause = _pause(first, clock())
    if pause is None or now() + pause + _LEAST > deadline:
        return first
    await sleep(pause)
    return await _outcome(once, deadline - now())


def retry_after(reply: Reply, now: float) -> float | None:
    """Return the seconds that Retry-After names, 0 to a day; None without a readable one.

    It is a number of seconds or a date (RFC 9110 section 10.2.3).
    """
    text = reply.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), _LONGEST)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    moment = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds()), _LONGEST)


async def _outcome(once: Callable[[float], Awaitable[Reply]], seconds: float) -> Outcome:
    try:
        return await once(seconds)
    except OutboundError as fault:
        return fault.with_traceback(None)


def _pause(outcome: Outcome, now: float) -> float | None:
    """Return how long to wait before sending again; None if it must not be sent again."""
    if isinstance(outcome, OutboundError):
        return _PAUSE if outcome.kind == "connect" else None
    if outcome.status not in _UNSERVED:
        return None
    asked = retry_after(outcome, now)
    return _PAUSE if asked is None else asked
