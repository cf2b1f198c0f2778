"""Settle reservations with the true length of their conversations.

Nothing polls. A caller refused for lack of time or slots may have conversations that have ended:
only then the gate asks the platform about some of them, each at most once in a few seconds, and
gives back what they did not use. Shortly before a conversation can't be settled any more, the
process that issued it asks once more; if it still has no known end, it counts in full, and the
event `settlement_expired` reports that.
"""

import asyncio
import json
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Final, Literal, NamedTuple

from xuna_middleware._core.single_flight import SingleFlight
from xuna_middleware.access.limits.budgets import milliseconds
from xuna_middleware.access.limits.keys import LimitContext, subject_principal
from xuna_middleware.errors import ConfigurationError, UnavailableError
from xuna_middleware.events import Event, EventName, Events
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.platform.rest.client import Platform
from xuna_middleware.stores.protocol import Store, StoreError

logger = logging.getLogger("xuna_middleware")

#: Seconds before the platform is asked about the same conversation again.
_BETWEEN: Final = 5.0
#: Seconds for all questions of one refused request.
_PATIENCE: Final = 3.0
#: How many conversations a refused request asks about.
_AT_ONCE: Final = 8
#: How many of these questions run at once for refused callers, and as many for refused visitors;
#: how many wait; how many may run for one account or address (fewer than the total, since they may
#: hang), and how many of its questions wait. `LATE_ASK`: how many run at once for conversations at
#: their latest end. All have connections to the platform in addition to those for issuing; see
#: `pipeline.py`.
REFUSED_ASK: Final = 3
REFUSED_WAIT: Final = 32
REFUSED_OF_ONE: Final = 2
REFUSED_OF_ONE_WAITING: Final = 6
LATE_ASK: Final = 2
_MOST_ASKED: Final = 4_096
MOST_EXPECTED: Final = 10_000
#: How many of these may belong to one person, or to all visitors together.
EXPECTED_OF_ONE: Final = 2_000


class Expected(NamedTuple):
    """Record when a conversation can be settled for the last time, and what counts then.

    `number` is different for each, so that the fields after it are never compared.
    """

    at: float
    number: int
    platform: Platform
    conversation_id: str
    reserved: int
    owner: str


class Settlement:
    """Settle conversations, and remember which ones this process asked the platform about."""

    def __init__(
        self,
        store: Store,
        events: Events,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._events = events
        self._clock = clock
        self._now = monotonic
        #: When the platform was last asked about each, oldest first.
        self._asked: OrderedDict[str, float] = OrderedDict()
        self._callers = _refused("account")
        #: Visitors' questions, kept apart so that no caller waits for them.
        self._visitors = _refused("address")
        #: A heap: the first item is due first.
        self._expected: list[Expected] = []
        self._owned = Counter[str]()
        self._late = SingleFlight[str, bool](
            "conversations at their latest end", max_concurrent=LATE_ASK, max_queued=MOST_EXPECTED
        )
        self._numbers = count()
        self._timer: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None
        self._expiring: set[asyncio.Task[None]] = set()

    def expect(
        self,
        platform: Platform,
        conversation_id: str,
        seconds: float,
        reserved: int,
        identity: Identity,
    ) -> None:
        """Check after `seconds` whether a conversation was settled; if not, ask the platform
        once. `reserved` is in milliseconds. Conversations beyond the bounds count in full.
        """
        owner = identity.issuer if identity.is_anonymous else subject_principal(identity)
        if len(self._expected) >= MOST_EXPECTED or self._owned[owner] >= EXPECTED_OF_ONE:
            return
        self._owned[owner] += 1
        at = self._now() + seconds
        one = Expected(at, next(self._numbers), platform, conversation_id, reserved, owner)
        heappush(self._expected, one)
        self._wake()

    def stop(self) -> None:
        """Cancel the timer and the tasks of the running event loop."""
        if self._timer is not None:
            self._timer[1].cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        for task in self._expiring:
            if task.get_loop() is loop:
                task.cancel()

    async def settle_finished(
        self, platform: Platform, conversations: Iterable[str], asked: LimitContext
    ) -> bool:
        """Ask about some conversations and settle those that are over; return whether any were.
        `asked` is the refused caller's context.

        Conversations that this process never asked about come first, then those it asked about
        longest ago: a caller who is refused repeatedly thus gets all of them checked in turn.
        """
        settled: list[bool] = []
        questions, owner = self._callers, subject_principal(asked.identity)
        if asked.identity.is_anonymous:
            questions, owner = self._visitors, asked.address() or ""

        async def look(conversation_id: str) -> None:
            has_begun = False

            def ask() -> Awaitable[bool]:
                nonlocal has_begun
                has_begun = True
                return self._settle_if_over(platform, conversation_id)

            try:
                settled.append(await questions.alone(ask, owner))
            except UnavailableError:
                pass  # too many questions at once; this one is asked later
            finally:
                if not has_begun:
                    self._asked.pop(conversation_id, None)

        # What is settled within this time counts, even if other questions are still waiting.
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await asyncio.gather(*map(look, self._due(conversations)))
        return any(settled)

    async def settle(
        self, conversation_id: str, seconds: float, store: Store | None = None
    ) -> bool:
        """Settle a reservation with the true length, once; return whether there was one.

        `store` is the store of the reservation, if that is not the shared one.

        Raises:
            UnavailableError: the store is unavailable.
        """
        try:
            about = await (store or self._store).settle(conversation_id, milliseconds(seconds))
        except StoreError as error:
            raise UnavailableError(cause=f"store: {error}") from None
        if about is None:
            return False
        self._emit("settled", conversation_id, seconds, *json.loads(about))
        return True

    def _wake(self) -> None:
        """Set the running loop's timer to the next conversation's time."""
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer[0] is loop:
            self._timer[1].cancel()
        delay = max(0.0, self._expected[0].at - self._now())
        self._timer = loop, loop.call_later(delay, self._expire)

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while self._expected and self._expected[0].at <= self._now():
            one = heappop(self._expected)
            self._owned[one.owner] -= 1
            if not self._owned[one.owner]:
                del self._owned[one.owner]
            task = loop.create_task(self._expire_one(one))
            self._expiring.add(task)
            task.add_done_callback(self._expiring.discard)
        if self._expected:
            self._wake()

    async def _expire_one(self, one: Expected) -> None:
        """Settle an open one: with its true length, or else with all that was reserved."""
        with suppress(StoreError):  # its note expires by itself
            if not await self._store.is_pending(one.conversation_id):
                return
            with suppress(UnavailableError):
                await self._late.alone(partial(self._settle_in_time, one))
            about = await self._store.settle(one.conversation_id, one.reserved)
            if about is not None:
                self._emit("settlement_expired", one.conversation_id, None, *json.loads(about))

    async def _settle_in_time(self, one: Expected) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                return await self._settle_if_over(one.platform, one.conversation_id)
        return False

    async def _settle_if_over(self, platform: Platform, conversation_id: str) -> bool:
        try:
            ended = await platform.get_conversation(conversation_id)
            if ended is None:
                return False
            return await self.settle(conversation_id, ended.seconds)
        except (UnavailableError, ConfigurationError) as error:
            logger.info("%s could not be settled: %s", conversation_id, type(error).__name__)
            return False

    def _due(self, conversations: Iterable[str]) -> list[str]:
        """Return which conversations to ask about now, and record the time."""
        now = self._now()
        rested = [one for one in conversations if self._asked_at(one) <= now - _BETWEEN]
        due = sorted(rested, key=self._asked_at)[:_AT_ONCE]
        for one in due:
            self._asked[one] = now
            self._asked.move_to_end(one)
        while len(self._asked) > _MOST_ASKED:
            self._asked.popitem(last=False)
        return due

    def _asked_at(self, conversation_id: str) -> float:
        return self._asked.get(conversation_id, -inf)

    def _emit(
        self,
        name: EventName,
        conversation_id: str,
        seconds: float | None,
        issuer: str,
        subject: str,
        agent: str,
    ) -> None:
        self._events.emit(
            Event(
                name=name,
                time=self._clock(),
                conversation_id=conversation_id,
                seconds=seconds,
                issuer=issuer,
                subject=subject,
                agent=agent,
            )
        )


def _refused(owners: Literal["account", "address"]) -> SingleFlight[str, bool]:
    return SingleFlight(
        "conversations that may have ended",
        max_concurrent=REFUSED_ASK,
        max_queued=REFUSED_WAIT,
        of_one=REFUSED_OF_ONE,
        of_one_waiting=REFUSED_OF_ONE_WAITING,
        owners=owners,
    )


def about_whom(identity: Identity, agent: str) -> str:
    """Return one short line that names a conversation's caller and agent, for its last event."""
    return json.dumps([identity.issuer, identity.subject, agent], separators=(",", ":"))
