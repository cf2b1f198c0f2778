"""Share the connections to Redis among their uses, so that anonymous requests leave room for
callers, and neither of them delays an operator or a running conversation.

Each use has separate places. A command holds one from when it is sent until its connection is free
again; other commands wait in a queue with a bounded length and time, and both places and queue are
bounded per account. A command without a place fails with `StoreBusyError`: this process sends too
much at once, and the store isn't down. If the store doesn't answer at all, the waiting commands
fail at once.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from xuna_middleware.stores.protocol import Region, StoreBusyError, StoreError, region_of

#: Seconds for which a command waits for its place, unless its share says more; its `timeout`
#: starts afterwards.
QUEUE_SECONDS: Final = 5.0
#: Seconds by which the refusal of an account with too many commands is delayed: a client that
#: retries at once, over hundreds of connections, would leave this process no time for others. And
#: how many refusals are delayed at once.
REFUSED_AFTER_SECONDS: Final = 1.0
MOST_REFUSED_LATER: Final = 5_000


class Share(NamedTuple):
    """Say how many commands of one use may run at once in each event loop, how many more may wait,
    how many of both one account may have, and how many seconds they wait.
    """

    name: str
    places: int
    waiting: int
    of_one: int | None = None
    seconds: float = QUEUE_SECONDS


#: `revoke()`, `end()`, `leases()`, whether an operator was revoked, and pausing or resuming
#: anonymous access. There is room for a loop over all sessions of an app, and for a route by
#: which callers revoke their own.
OPERATORS: Final = Share("operators", 2, 10_000, seconds=60.0)
#: `hold()` of leases that aren't new: the heartbeat of all conversations of an event loop, which
#: also reads their revocations. No caller can delay it.
HEARTBEATS: Final = Share("heartbeats", 2, 1_000)
#: `hold()` of a new lease, for a conversation that begins.
CONVERSATIONS: Final = Share("conversations", 4, 1_000, 128)
#: `release_lease()`. Clients cause these by opening and closing conversations, so they are separate
#: from heartbeats and operators. A lease that isn't released runs out by itself.
ENDED_CONVERSATIONS: Final = Share("ended conversations", 4, 10_000, seconds=60.0)
#: Verified callers, and the platform's reports about their conversations.
CALLERS: Final = Share("callers", 16, 1_000, 256)
#: `give_back()`, for all principals. Each follows a reservation that had its place, and its request
#: waits for it, so no more of them wait than there are requests. A charge that isn't given back
#: stays counted.
GIVING_BACK: Final = Share("giving back", 4, 10_000, seconds=60.0)
#: `take()`: anybody can send a made-up one-time ticket.
TICKETS: Final = Share("tickets", 4, 1_000)
#: Callers who present nothing.
VISITORS: Final = Share("visitors", 4, 1_000)
SHARES: Final = (
    OPERATORS,
    HEARTBEATS,
    CONVERSATIONS,
    ENDED_CONVERSATIONS,
    CALLERS,
    GIVING_BACK,
    TICKETS,
    VISITORS,
)
#: The number of connections in each event loop, including one for pub/sub.
CONNECTIONS: Final = sum(share.places for share in SHARES) + 1

_OF_VISITORS: Final = {Region.VISITORS, Region.VISITORS_TICKETS, Region.PUZZLES, Region.DEPARTED}


def share_of(regions: Iterable[Region]) -> Share:
    """Return the share for commands about these regions."""
    found = set(regions)
    if found & _OF_VISITORS:
        return VISITORS
    return OPERATORS if found == {Region.SWITCHES} else CALLERS


def owner_of(principals: Iterable[str]) -> str | None:
    """Return the account of a command: the first principal that isn't shared by everybody."""
    owned = (each for each in principals if region_of(each) is not Region.COMMON)
    return next(owned, None)


@dataclass(slots=True)
class Answers:
    """Record when the store last answered, in one event loop."""

    last: float = float("-inf")


class Bulkhead:
    """Hold the places of one share in one event loop."""

    def __init__(self, share: Share, answers: Answers) -> None:
        self._share = share
        self._answers = answers
        self._free = share.places
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._owned = Counter[str]()
        self._refused_later = 0
        #: When the store was last found not to answer.
        self._silent_at = float("-inf")

    async def enter(self, owner: str | None) -> None:
        """Take a place, or wait for one; its holder must call `leave()`.

        Raises:
            StoreBusyError: there is none. StoreError: the store doesn't answer.
        """
        if owner is not None and self._share.of_one is not None:
            if self._owned[owner] >= self._share.of_one:
                await self._hold_refusal_back()
                raise self._busy("for one account")
            self._owned[owner] += 1
        try:
            await self._take_place()
        except BaseException:
            self._disown(owner)
            raise

    def leave(self, owner: str | None) -> None:
        """Give the place to the next waiter."""
        self._disown(owner)
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def report_silence(self) -> None:
        """Report that the store doesn't answer, so that nobody waits for a place."""
        self._silent_at = asyncio.get_running_loop().time()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(_silent())

    async def _hold_refusal_back(self) -> None:
        if self._refused_later >= MOST_REFUSED_LATER:
            return
        self._refused_later += 1
        try:
            await asyncio.sleep(REFUSED_AFTER_SECONDS)
        finally:
            self._refused_later -= 1

    async def _take_place(self) -> None:
        if self._free:
            self._free -= 1
            return
        if self._silent_at > self._answers.last:
            raise _silent()
        if len(self._waiting) >= self._share.waiting:
            raise self._busy("at once")
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(self._share.seconds, self._turn_away, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif not turn.cancelled() and turn.exception() is None:
                self.leave(None)  # it got its turn at that moment
            raise
        finally:
            timer.cancel()

    def _turn_away(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            self._waiting.remove(turn)
            turn.set_exception(self._busy(f"for {self._share.seconds:g} s"))

    def _disown(self, owner: str | None) -> None:
        if owner is not None and owner in self._owned:
            self._owned[owner] -= 1
            if not self._owned[owner]:
                del self._owned[owner]

    def _busy(self, how: str) -> StoreBusyError:
        return StoreBusyError(f"too much is asked of it {how} ({self._share.name})")


def _silent() -> StoreError:
    return StoreError("the store does not answer (TimeoutError)")
