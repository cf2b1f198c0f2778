"""When a conversation must end by itself: maximum duration, token expiry, silence, a stall.

Timers instead of tasks, so that a thousand conversations wait at almost no cost.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from xuna_middleware.relay.close_codes import (
    IDLE_TIMEOUT,
    MAX_DURATION,
    TOKEN_EXPIRED,
    CloseReason,
)

#: Seconds after which the clock is read again: the system's clock may be set in the meantime, or
#: the machine may be suspended.
_LONGEST_WAIT: Final = 5.0


class Deadlines:
    """End one conversation on time, on the running event loop. May call `end` more than once."""

    def __init__(
        self, end: Callable[[CloseReason], None], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._end = end
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def last_at_most(self, seconds: float) -> None:
        """End this many seconds from now."""
        self._set("duration", seconds, lambda: self._end(MAX_DURATION))

    def expire_at(self, moment: float | None) -> None:
        """End at this time of the system's clock, without leeway; replaces any earlier time.

        None means never.
        """
        self.cancel("exp")
        if moment is None:
            return
        left = moment - self._clock()
        if left <= 0:
            self._end(TOKEN_EXPIRED)
        else:
            self._set("exp", min(left, _LONGEST_WAIT), lambda: self.expire_at(moment))

    def be_heard(self, seconds: float, heard_at: Callable[[], float]) -> None:
        """End if the client is silent for so long; `heard_at` returns the loop's time."""
        left = heard_at() + seconds - self._loop.time()
        if left <= 0:
            self._end(IDLE_TIMEOUT)
        else:
            self._set("idle", left, lambda: self.be_heard(seconds, heard_at))

    def look_every(self, seconds: float, look: Callable[[], CloseReason | None]) -> None:
        """Call `look` at this interval; end if it returns a reason."""

        def again() -> None:
            ending = look()
            if ending is None:
                self.look_every(seconds, look)
            else:
                self._end(ending)

        self._set("look", seconds, again)

    def cancel(self, *names: str) -> None:
        """Cancel the named timers; without names, all of them."""
        for name in names or tuple(self._timers):
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()

    def _set(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._timers[name] = self._loop.call_later(seconds, call)
