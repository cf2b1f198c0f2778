"""Check again and again, while a conversation runs, whether its caller's token is still good.

Uses a timer, and a task only during a check. The waits are random, so that a thousand conversations
that began together don't check together; none is longer than the interval. A check without an
answer is repeated sooner.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from xuna_middleware.errors import UnavailableError
from xuna_middleware.relay.close_codes import CloseReason, ConversationClosedError

#: A wait is at least this part of the interval.
_SHORTEST: Final = 0.75
#: Seconds within which the first check is made with `soon`.
_SOON: Final = 1.0
#: A conversation ends after `_UNANSWERED` checks in a row without an answer, once `_PATIENCE`
#: intervals have passed since the first of them. Until then such a check is repeated after a pause
#: of `_PAUSES` seconds (shortest, longest): a rate limit per minute ends soon.
_UNANSWERED: Final = 3
_PATIENCE: Final = 2
_PAUSES: Final = (1.0, 10.0)
#: In seconds; a shorter rest of the time counts as none.
_AT_ONCE: Final = 0.01


class Recheck:
    """Check the token of one conversation again and again, on the running event loop.

    Args:
        ask: raises ConversationClosedError to end it; any other exception means no answer.
        give_up: returns how it ends after two intervals, and three checks in a row, without an
            answer.
        end: ends it.
        spread: returns a random number between its two arguments.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[None]],
        give_up: Callable[[Exception], CloseReason],
        end: Callable[[CloseReason], None],
        *,
        spread: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._ask = ask
        self._give_up = give_up
        self._end = end
        self._spread = spread
        self._unanswered = 0
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, seconds: float | None, *, soon: bool = False) -> None:
        """Check once within each interval from now on, the first time `soon`; with None, never.

        Earlier checks are forgotten: they were about another token.
        """
        self.stop()
        self._unanswered = 0
        if seconds is not None:
            self._wait(seconds, self._spread(0, _SOON) if soon else None)

    def stop(self) -> None:
        """Stop checking, and ignore the result of a check that is under way."""
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._timer = self._task = None

    def _wait(self, seconds: float, first: float | None = None) -> None:
        wait = seconds * self._spread(_SHORTEST, 1) if first is None else first
        self._timer = asyncio.get_running_loop().call_later(wait, self._begin, seconds)

    def _begin(self, seconds: float) -> None:
        self._task = asyncio.get_running_loop().create_task(self._ask_once(seconds))

    async def _ask_once(self, seconds: float) -> None:
        try:
            await self._ask()
        except ConversationClosedError as ended:
            self._end(ended.ending)
            return
        except Exception as error:  # the gate's own faults must not stop the checks either
            left = self._left(seconds)
            if left <= 0:
                self._end(self._give_up(error))
                return
            self._wait(seconds, min(left, self._pause(error)))
        else:
            self._unanswered = 0
            self._wait(seconds)

    def _left(self, seconds: float) -> float:
        """Count a check without an answer; return the longest wait until the next one."""
        now = asyncio.get_running_loop().time()
        if not self._unanswered:
            self._since = now
        self._unanswered += 1
        left = self._since + _PATIENCE * seconds - now
        if left < _AT_ONCE:
            return 0.0 if self._unanswered >= _UNANSWERED else _PAUSES[0]
        return left

    def _pause(self, error: Exception) -> float:
        """Return the pause before the next check: growing, or the error's, plus a random part."""
        shortest, longest = _PAUSES
        said = error.retry_after if isinstance(error, UnavailableError) else shortest
        wait = min(longest, max(said, 2.0 ** min(self._unanswered - 1, 8)))
        return wait + self._spread(0, shortest)
