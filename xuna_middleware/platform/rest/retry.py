"""Send, and send once more where that can help and harms nobody.

Sent again: what never reached a server, and what a 502, 503 or 504 says was not served. A `POST`
is no exception: should a server have made a token all the same, nobody ever holds it, it starts no
conversation, which is what costs quota, and it expires within minutes. Not sent again: what timed
out or broke off, since the server may be at work on it and time is short; a 429, which asks for
less and not for more.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, TypeAlias

from xuna_middleware._core.http import OutboundError, Reply

#: A fault is a value here, so that no traceback runs through the frames that sent.
Outcome: TypeAlias = Reply | OutboundError

_UNSERVED: Final = (502, 503, 504)
#: In seconds: before a second attempt where the platform names no time.
_PAUSE: Final = 0.1
#: In seconds: a second attempt with less than this would only turn a clear answer into a timeout.
_LEAST: Final = 1.0
#: In seconds: beyond a day a Retry-After is taken as one.
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
    """Call `once` with the seconds it has; a second time if the first came to nothing in time.

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
    """Return how long to wait before sending again; None where that would be wrong."""
    if isinstance(outcome, OutboundError):
        return _PAUSE if outcome.kind == "connect" else None
    if outcome.status not in _UNSERVED:
        return None
    asked = retry_after(outcome, now)
    return _PAUSE if asked is None else asked
