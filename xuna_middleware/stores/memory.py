"""A store in this process's memory: enough for one process, and for tests."""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from threading import Lock

from xuna_middleware.errors import ConfigurationError
from xuna_middleware.stores.protocol import StoreError


class MemoryStore:
    """Keep values in memory. Another process knows nothing of them.

    Args:
        most: how many values there may be at once. A full store refuses (`StoreError`): forgetting
            a used proof would let it be used again.
        monotonic: the clock, in seconds.

    Raises:
        ConfigurationError: `most` is no number of values.
    """

    def __init__(
        self, most: int = 100_000, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if type(most) is not int or most < 1:
            raise ConfigurationError("MemoryStore(most=…) must be a whole number, 1 or more")
        self._most = most
        self._now = monotonic
        self._kept: dict[str, tuple[float, bytes]] = {}
        #: When each key ends, the soonest first; a taken key stays here until then.
        self._ends: list[tuple[float, str]] = []
        self._lock = Lock()  # held for no await: threads may run event loops of their own

    def __repr__(self) -> str:
        return f"MemoryStore(most={self._most})"

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value unless the key is there; see `Store`."""
        with self._lock:
            now = self._now()
            self._forget_ended(now)
            if key in self._kept:
                return False
            if len(self._ends) >= self._most:
                raise StoreError("the store in memory is full")
            self._kept[key] = (now + seconds, value)
            heappush(self._ends, (now + seconds, key))
            return True

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; see `Store`."""
        with self._lock:
            ends, value = self._kept.pop(key, (float("-inf"), None))
            return value if self._now() < ends else None

    async def aclose(self) -> None:
        """Do nothing: there is no connection, and what was used stays used."""

    def _forget_ended(self, now: float) -> None:
        while self._ends and self._ends[0][0] <= now:
            ends, key = heappop(self._ends)
            if self._kept.get(key, (None,))[0] == ends:
                del self._kept[key]
