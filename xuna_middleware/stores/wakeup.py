"""Wake the waiters in all event loops of this process, from any thread."""

import asyncio
from contextlib import suppress
from threading import Lock


class Wakeup:
    """Wake one waiter in each event loop. A ring between two waits ends the next wait at once.

    Args:
        at_first: whether the first wait in each event loop also ends at once, since earlier rings
            are unknown to it.
    """

    def __init__(self, *, at_first: bool) -> None:
        self._at_first = at_first
        self._rung: dict[asyncio.AbstractEventLoop, asyncio.Event] = {}
        self._lock = Lock()

    async def wait(self) -> None:
        """Wait for a ring since the last wait."""
        rung = self._here()
        await rung.wait()
        rung.clear()

    def ring(self) -> None:
        """Wake the waiter in every open event loop."""
        with self._lock:
            loops = list(self._rung.items())
        for loop, rung in loops:
            with suppress(RuntimeError):  # it has been closed
                loop.call_soon_threadsafe(rung.set)

    def _here(self) -> asyncio.Event:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._rung:
                self._rung = {one: it for one, it in self._rung.items() if not one.is_closed()}
                self._rung[loop] = rung = asyncio.Event()
                if self._at_first:
                    rung.set()
            return self._rung[loop]
