"""Live conversations: each holds a lease in the store, renewed by heartbeats and visible to all.

If its process dies, a lease expires with all that it holds (slots of `Concurrent`, the record of
the conversation). A heartbeat also returns whether an operator ended the conversation or its caller
was revoked. A store that can wake its readers delivers that at once.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from xuna_middleware._core.log_rate import Paced
from xuna_middleware.relay.close_codes import (
    ENDED_BY_OPERATOR,
    GOING_AWAY,
    LEASE_LOST,
    REVOKED,
    CloseReason,
    ConversationClosedError,
)
from xuna_middleware.relay.deadlines import Deadlines
from xuna_middleware.stores.protocol import (
    Charge,
    Lease,
    LeaseStatus,
    RevocationCheck,
    Store,
    StoreError,
)

logger = logging.getLogger("xuna_middleware")

T = TypeVar("T")

#: Seconds for which a lease lasts, and between two heartbeats.
LEASE: Final = 30.0
BEAT: Final = 5.0
#: Seconds between two renewals if many wake-ups come.
_BREATH: Final = 0.1
#: Seconds for conversations to end when the gate closes.
_PATIENCE: Final = 5.0
#: Created once: each heartbeat encodes all conversations again.
_written: Final = json.JSONEncoder(separators=(",", ":")).encode
_WORDS: Final = {"ended": ENDED_BY_OPERATOR, "revoked": REVOKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSession:
    """Describe one live conversation that a gate carries, in any process.

    Attributes:
        id: the gate's own id for it, `ses_…`.
        issuer, subject: the caller. agent: the configured name.
        started_at: seconds since the epoch.
        conversation_id: the platform's id for it, if known.
    """

    id: str
    issuer: str
    subject: str
    agent: str
    started_at: float
    conversation_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON of the `/sessions` route."""
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in told.items() if value is not None}


def new_session_id() -> str:
    """Return an id that nobody can guess, since knowing it is enough to request the end."""
    return f"ses_{secrets.token_hex(16)}"


class LiveConversation:
    """Keep the state of one conversation of this process while it lasts.

    `lease_required` ends it if the store is unavailable for as long as the lease lasts.
    """

    def __init__(
        self,
        session: LiveSession,
        store: Store,
        slots: Sequence[Charge],
        standing: RevocationCheck,
        *,
        lease_required: bool,
    ) -> None:
        self.session = session
        self.store = store
        self.slots = tuple(slots)
        self.standing = standing
        self.lease_required = lease_required
        self.held_until = 0.0
        #: The close reason, once something ends it.
        self.word: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        #: Set when everything is given back and settled.
        self.gone = asyncio.Event()
        self.deadlines = Deadlines(self.end)

    @property
    def lease(self) -> Lease:
        about = _written(self.session.to_dict())
        return Lease(self.session.id, about, LEASE, self.slots, self.standing)

    @property
    def is_lost(self) -> bool:
        """Whether its lease has expired, so that another caller may have its slots."""
        return self.lease_required and asyncio.get_running_loop().time() >= self.held_until

    def is_late(self, reserved_at: float) -> bool:
        """Return whether another caller may have had its reserved slots in between."""
        return bool(self.slots) and asyncio.get_running_loop().time() - reserved_at >= LEASE

    def end(self, ending: CloseReason) -> None:
        """End it as soon as possible. The first reason counts."""
        if not self.word.done():
            self.word.set_result(ending)

    async def race_with_end(self, doing: Coroutine[Any, Any, T]) -> T:
        """Return the result of a coroutine, unless the conversation ends first.

        Raises:
            ConversationClosedError: it ended; the coroutine was cancelled.
        """
        if self.word.done():
            doing.close()
            raise ConversationClosedError(self.word.result())
        task = asyncio.ensure_future(doing)
        try:
            await asyncio.wait((task, self.word), return_when=asyncio.FIRST_COMPLETED)
            if self.word.done():
                raise ConversationClosedError(self.word.result())
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))

    def set_conversation_id(self, conversation_id: str) -> None:
        """Store the platform's id for it, unless one is known."""
        if self.session.conversation_id is None:
            self.session = replace(self.session, conversation_id=conversation_id)

    def renew(self, standing: RevocationCheck, expires_at: float | None) -> None:
        """Extend it to the expiry of a fresh token."""
        self.standing = standing
        self.deadlines.expire_at(expires_at)


class Sessions:
    """Keep this process's live conversations, and ask the stores for those of all processes.

    `stores` are those that may hold leases, the shared one first.
    """

    def __init__(self, *stores: Store) -> None:
        self._stores = stores
        self._lines = Paced()
        self._beating: WeakKeyDictionary[asyncio.AbstractEventLoop, LeaseRenewer] = (
            WeakKeyDictionary()
        )

    def __len__(self) -> int:
        return sum(len(heart.lives) for heart in self._beating.values())

    async def enter(self, live: LiveConversation) -> None:
        """Take a conversation's lease and start to renew it.

        Raises:
            StoreError: the lease is required and can't be taken.
        """
        try:
            await _hold(live.store, [live], is_new=True)
        except StoreError:
            if live.lease_required:
                raise
        loop = asyncio.get_running_loop()
        self._beating.setdefault(loop, LeaseRenewer(self._stores[0])).add(live)

    async def abandon(self, live: LiveConversation) -> bool:
        """Give up a lease that may or may not be held; return whether it may have been (if so, its
        slots are free again, or expire by themselves).
        """
        await self._renew_no_more(live)
        return await self._release(live.store, live, live.slots)

    async def leave(self, live: LiveConversation) -> None:
        """Give up the lease and free its slots."""
        await self._renew_no_more(live)
        await self._release(live.store, live, live.slots)
        if live.store is not self._stores[0]:
            await self._release(self._stores[0], live, ())

    async def _release(self, store: Store, live: LiveConversation, slots: Sequence[Charge]) -> bool:
        """Release a lease; return whether there was one, or may have been."""
        try:
            return await store.release_lease(live.session.id, slots)
        except Exception as error:  # as in _try()
            why = error if isinstance(error, StoreError) else type(error).__name__
            left_out = self._lines.admit("release")
            if left_out is not None:
                logger.warning(
                    "a conversation's lease ends by itself, within 30 s: %s%s", why, left_out
                )
            return True

    async def _renew_no_more(self, live: LiveConversation) -> None:
        heart = self._beating.get(asyncio.get_running_loop())
        if heart is not None:
            await heart.remove(live)

    async def all(self) -> tuple[LiveSession, ...]:
        """Return the live conversations of all processes.

        Raises:
            StoreError: the store is unavailable.
        """
        told = [about for store in self._stores for about in await store.leases()]
        known = {
            session.id: session for session in (LiveSession(**json.loads(one)) for one in told)
        }
        return tuple(known.values())

    async def end(self, session_id: str) -> bool:
        """Request the end of a conversation in any process; return whether it exists.

        Raises:
            StoreError: the store is unavailable.
        """
        return any([await store.end(session_id) for store in self._stores])

    async def aclose(self) -> None:
        """End this event loop's conversations, and wait briefly until all is given back."""
        heart = self._beating.get(asyncio.get_running_loop())
        if heart is None:
            return
        lives = tuple(heart.lives.values())
        for live in lives:
            live.end(GOING_AWAY)
        if lives:
            leaving = [asyncio.ensure_future(live.gone.wait()) for live in lives]
            _, late = await asyncio.wait(leaving, timeout=_PATIENCE)
            for each in late:
                each.cancel()
        await heart.stop()


class LeaseRenewer:
    """Renew the leases of one event loop while there are any."""

    def __init__(self, shared: Store) -> None:
        self.lives: dict[str, LiveConversation] = {}
        self._shared = shared
        self._holding = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, live: LiveConversation) -> None:
        self.lives[live.session.id] = live
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._beat())

    async def remove(self, live: LiveConversation) -> None:
        """Stop renewing a lease. Waits for a running renewal, which returns the held slots."""
        async with self._holding:
            self.lives.pop(live.session.id, None)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    async def _beat(self) -> None:
        word = asyncio.ensure_future(self._shared.wait_for_wakeup())
        try:
            while self.lives:
                await asyncio.wait((word,), timeout=BEAT)
                if word.done():
                    word.exception()  # by the protocol it raises nothing; a user's store might
                    await asyncio.sleep(_BREATH)
                    word = asyncio.ensure_future(self._shared.wait_for_wakeup())
                await self._hold_all()
        finally:
            word.cancel()

    async def _hold_all(self) -> None:
        async with self._holding:
            here, elsewhere = self._lives()
            await _try(_hold, here, self._shared)
            by_store: dict[int, list[LiveConversation]] = {}
            for live in elsewhere:
                by_store.setdefault(id(live.store), []).append(live)
            for lives in by_store.values():
                await _try(_hold, lives, lives[0].store)
            await _try(_show, elsewhere, self._shared)

    def _lives(self) -> tuple[list[LiveConversation], list[LiveConversation]]:
        """Return the conversations to renew in the shared store, and those in others; end those
        whose lease is lost, such as after this process was suspended.
        """
        here: list[LiveConversation] = []
        elsewhere: list[LiveConversation] = []
        for live in self.lives.values():
            if live.is_lost:
                live.end(LEASE_LOST)
            else:
                (here if live.store is self._shared else elsewhere).append(live)
        return here, elsewhere


_Renew: TypeAlias = Callable[[Store, Sequence[LiveConversation]], Awaitable[None]]


async def _try(renew: _Renew, lives: Sequence[LiveConversation], store: Store) -> None:
    if not lives:
        return
    try:
        await renew(store, lives)
    except Exception as error:  # StoreError, or anything from a user's store
        _end_lost(lives, error)


async def _hold(store: Store, lives: Sequence[LiveConversation], *, is_new: bool = False) -> None:
    """Hold leases, and apply the store's answers to their conversations."""
    asked_at = asyncio.get_running_loop().time()
    held = await store.hold([live.lease._replace(is_new=is_new) for live in lives])
    for live, answer in zip(lives, held, strict=True):
        if not _ended(live, answer):
            live.slots, live.held_until = answer.slots, asked_at + LEASE


async def _show(store: Store, lives: Sequence[LiveConversation]) -> None:
    """Publish leases whose slots another store holds, so that all can see and end them here."""
    held = await store.hold([live.lease._replace(slots=()) for live in lives])
    for live, answer in zip(lives, held, strict=True):
        _ended(live, answer)


def _ended(live: LiveConversation, answer: LeaseStatus) -> bool:
    """End a conversation if the store's answer requires it; return whether it does."""
    if answer.word:
        live.end(_WORDS[answer.word])
    return bool(answer.word)


def _end_lost(lives: Sequence[LiveConversation], error: Exception) -> None:
    """End conversations with a lost lease: others may have its slots, and may not see it."""
    for live in lives:
        if live.is_lost:
            live.end(LEASE_LOST)
    why = error if isinstance(error, StoreError) else type(error).__name__
    logger.warning("leases of %d conversations could not be renewed: %s", len(lives), why)
