"""Ask again and again, while a conversation runs, whether what proved its caller is good still.

A timer, and a task only while a question is under way. The waits differ at random, so that a
thousand conversations that began together don't ask together; none is longer than the interval.
What has no answer is asked again sooner.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from xuna_middleware.errors import UnavailableError
from xuna_middleware.relay.close_codes import CloseReason, ConversationClosedError

#: A wait is at least this part of the interval.
_SHORTEST: Final = 0.75
#: Seconds within which the first question is asked, where it is to be soon.
_SOON: Final = 1.0
#: So many questions in a row without an answer end the conversation, when so many intervals have
#: passed since the first of them. Until then one that has no answer is asked again, after so many
#: seconds: a provider that has answered as often as it likes in this minute does so in the next.
_UNANSWERED: Final = 3
_PATIENCE: Final = 2
_PAUSES: Final = (1.0, 10.0)
#: Seconds that are too few to wait.
_AT_ONCE: Final = 0.01


class Recheck:
    """Ask about one conversation, on the running event loop.

    Args:
        ask: raises EndedError to end it; any other exception says that there is no answer.
        give_up: returns how it ends after two intervals, and three questions in a row, without an
            answer.
        end: ends it.
        spread: returns a random number between two.
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
        """Ask within each of these intervals from now on, for the first time `soon`; or never.

        What was asked before is forgotten: it was about something else.
        """
        self.stop()
        self._unanswered = 0
        if seconds is not None:
            self._wait(seconds, self._spread(0, _SOON) if soon else None)

    def stop(self) -> None:
        """Ask no more, and take no answer to what is under way."""
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
        except Exception as error:  # a fault of the gate's own must not end the asking either
            left = self._left(seconds)
            if left <= 0:
                self._end(self._give_up(error))
                return
            self._wait(seconds, min(left, self._pause(error)))
        else:
            self._unanswered = 0
            self._wait(seconds)

    def _left(self, seconds: float) -> float:
        """Count a question without an answer; return for how long the next may be waited for."""
        now = asyncio.get_running_loop().time()
        if not self._unanswered:
            self._since = now
        self._unanswered += 1
        left = self._since + _PATIENCE * seconds - now
        if left < _AT_ONCE:
            return 0.0 if self._unanswered >= _UNANSWERED else _PAUSES[0]
        return left

    def _pause(self, error: Exception) -> float:
        """Return when to ask again: as the error says, or later each time, and not all at once."""
        shortest, longest = _PAUSES
        said = error.retry_after if isinstance(error, UnavailableError) else shortest
        wait = min(longest, max(said, 2.0 ** min(self._unanswered - 1, 8)))
        return wait + self._spread(0, shortest)
