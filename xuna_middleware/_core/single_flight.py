"""Run external calls for many waiters within bounds: shared, counted, not repeated at once.

Unauthenticated requests decide how often such calls are needed, so nothing here grows with their
number. Every outbound call that such a request causes goes through here; each use has separate
bounds (docs/budgets.md).
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from contextvars import Context
from functools import partial
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from xuna_middleware.errors import UnavailableError

_MOST_REMEMBERED: Final = 4096

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: The event loop, and the owner of the call.
_Owner: TypeAlias = tuple[asyncio.AbstractEventLoop, Hashable]


class SingleFlight(Generic[K, T]):
    """Run one task for all waiters with the same key at the same time, in each event loop.

    At most `max_concurrent` run at once and `max_queued` more may wait for their turn; further
    ones get a 503 without any I/O. Cancelling one waiter doesn't cancel the shared task. `of_one`
    limits how many of all these one owner may have. `of_one_waiting` more of an owner wait until
    one of these is done, at most `max_queued` of all owners; until then they take no place from
    others. `owners` names the type of owner in log lines.
    """

    def __init__(
        self,
        what: str,
        *,
        max_concurrent: int,
        max_queued: int = 0,
        of_one: int | None = None,
        of_one_waiting: int = 0,
        owners: Literal["address", "account"] = "address",
    ) -> None:
        self._what = what
        self._in_flight = max_concurrent
        self._waiting = max_queued
        self._most = max_concurrent + max_queued
        self._of_one = of_one
        self._of_one_waiting = of_one_waiting
        self._owners = owners
        self._alone = Counter[asyncio.AbstractEventLoop]()
        #: By event loop and owner: calls that have a place or wait for one, and the places.
        self._owned = Counter[_Owner]()
        self._places: dict[_Owner, asyncio.Semaphore] = {}
        self._waiting_for_owner = Counter[asyncio.AbstractEventLoop]()
        self._tasks: dict[tuple[asyncio.AbstractEventLoop, K], asyncio.Task[T]] = {}
        self._turns: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    async def ask(
        self, key: K, question: Callable[[], Coroutine[Any, Any, T]], owner: Hashable = None
    ) -> T:
        """Return the result of a call that runs once, however many wait for it. It counts for the
        owner who asks first; none of that owner's calls wait outside the queue.

        Raises:
            UnavailableError: too many calls are under way, in total or for this owner, or the call
                was cancelled.
        """
        loop = asyncio.get_running_loop()
        turn = self._turn(loop)
        task = self._tasks.get((loop, key))
        if task is None:
            self._check_room()
            mine = (loop, owner)
            if self._of_one is not None:
                self._check_owner(mine, self._of_one)
                self._owned[mine] += 1
            story = self._in_turn(turn, question)
            task = self._tasks[loop, key] = loop.create_task(story, context=Context())
            task.add_done_callback(partial(self._answered, key, mine))
        await asyncio.wait({task})
        if task.cancelled():
            raise UnavailableError(cause=f"{self._what}: cancelled", retry_after=1)
        return task.result()

    async def alone(self, question: Callable[[], Awaitable[T]], owner: Hashable = None) -> T:
        """Return the result of a call that isn't shared, for example because it can be made only
        once. It is cancelled with its waiter.

        Raises:
            UnavailableError: too many calls are under way, in total or for this owner.
        """
        loop = asyncio.get_running_loop()
        turn = self._turn(loop)
        self._check_room()
        mine = (loop, owner)
        await self._take_place(mine)
        try:
            self._check_room()
            self._alone[loop] += 1
            try:
                async with turn:
                    return await question()
            finally:
                _take_one_off(self._alone, loop)
        finally:
            self._give_place_back(mine)

    # Two functions instead of a context manager: an async generator doesn't end with its loop.
    async def _take_place(self, owner: _Owner) -> None:
        """Take one of an owner's places; wait where all are taken."""
        if self._of_one is None:
            return
        self._check_owner(owner, self._of_one)
        places = self._places.setdefault(owner, asyncio.Semaphore(self._of_one))
        self._owned[owner] += 1
        self._waiting_for_owner[owner[0]] += 1
        try:
            await places.acquire()
        except BaseException:
            self._forget_one_of(owner)
            raise
        finally:
            _take_one_off(self._waiting_for_owner, owner[0])

    def _give_place_back(self, owner: _Owner) -> None:
        places = self._places.get(owner)
        self._forget_one_of(owner)
        if places is not None:
            places.release()

    def _forget_one_of(self, owner: _Owner) -> None:
        if owner not in self._owned:  # its event loop is closed
            return
        self._owned[owner] -= 1
        if not self._owned[owner]:
            del self._owned[owner]
            self._places.pop(owner, None)

    def _check_owner(self, owner: _Owner, of_one: int) -> None:
        owned = self._owned[owner]
        if owned < of_one:
            return
        is_full = self._waiting_for_owner.total() >= self._waiting
        if is_full or owned >= of_one + self._of_one_waiting:
            cause = f"{self._what}: more than {of_one} at once from one {self._owners}"
            if self._owners == "address":
                cause += "; behind a proxy, list it: trusted_proxies=…"
            raise UnavailableError(cause=cause, retry_after=1)

    def _check_room(self) -> None:
        if len(self._tasks) + self._alone.total() >= self._most:
            cause = f"{self._what}: too many at once (more than {self._most})"
            raise UnavailableError(cause=cause, retry_after=1)

    def stop(self) -> None:
        """Cancel the running calls of this event loop."""
        loop = asyncio.get_running_loop()
        for (where, _), task in list(self._tasks.items()):
            if where is loop:
                task.cancel()

    def _turn(self, loop: asyncio.AbstractEventLoop) -> asyncio.Semaphore:
        if loop not in self._turns:
            self._forget_closed_loops()
            self._turns[loop] = asyncio.Semaphore(self._in_flight)
        return self._turns[loop]

    def _forget_closed_loops(self) -> None:
        for loop in [each for each in self._turns if each.is_closed()]:
            del self._turns[loop]
        for place in [each for each in self._tasks if each[0].is_closed()]:
            del self._tasks[place]
        for owner in [each for each in self._owned if each[0].is_closed()]:
            del self._owned[owner]
            self._places.pop(owner, None)
        for counts in (self._alone, self._waiting_for_owner):
            for closed in [each for each in counts if each.is_closed()]:
                del counts[closed]

    async def _in_turn(
        self, turn: asyncio.Semaphore, question: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        async with turn:
            return await question()

    def _answered(self, key: K, owner: _Owner, task: asyncio.Task[T]) -> None:
        self._tasks.pop((task.get_loop(), key), None)
        self._forget_one_of(owner)
        if not task.cancelled():
            task.exception()  # mark as retrieved: the waiter may be gone


def _take_one_off(
    counts: Counter[asyncio.AbstractEventLoop], loop: asyncio.AbstractEventLoop
) -> None:
    """Decrement the count, unless the loop was closed and its count deleted."""
    if loop in counts:
        counts[loop] -= 1


class ExpiringSet(Generic[K]):
    """Remember keys for some seconds, each with a few bytes of data; beyond 4,096 keys, the oldest
    are dropped first.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[K, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def has(self, key: K, now: float) -> bool:
        """Return whether a key was added less than `seconds` ago."""
        return self.about(key, now) is not None

    def about(self, key: K, now: float) -> bytes | None:
        """Return the data of a key that was added less than `seconds` ago."""
        until, about = self._until.get(key, (now, b""))
        return about if until > now else None

    def put(self, key: K, now: float, about: bytes = b"") -> None:
        """Add a key as of now."""
        self._until[key] = now + self._seconds, about
        self._until.move_to_end(key)
        if len(self._until) > _MOST_REMEMBERED:
            self._until.popitem(last=False)

    def drop(self, key: K) -> None:
        """Remove a key."""
        self._until.pop(key, None)
