"""Live conversations: each holds a lease in the store, which heartbeats renew and all can see.

What a lease holds (slots of `Concurrent`, the record of the conversation) ends by itself when its
process dies. A heartbeat also brings word from elsewhere: that an operator ended the conversation,
or that its caller was revoked. A store that can wake its readers brings it at once.
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
#: Seconds between two looks where many words come.
_BREATH: Final = 0.1
#: Seconds for conversations to end when the gate does.
_PATIENCE: Final = 5.0
#: Made once: each heartbeat writes all conversations anew.
_written: Final = json.JSONEncoder(separators=(",", ":")).encode
_WORDS: Final = {"ended": ENDED_BY_OPERATOR, "revoked": REVOKED}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSession:
    """Tell of one live conversation that a gate carries, in whatever process.

    Attributes:
        id: the gate's own name for it, `ses_…`.
        issuer, subject: whose it is. agent: the configured name.
        started_at: seconds since the epoch.
        conversation_id: the platform's name for it, where that is known.
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
    """Return a name that nobody guesses: to know it is to be able to ask for its end."""
    return f"ses_{secrets.token_hex(16)}"


class LiveConversation:
    """Hold what belongs to one conversation of this process while it lasts.

    `lease_required` ends it when the store can't be asked for as long as the lease lasts.
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
        #: How it shall end, once somebody says so.
        self.word: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()
        #: Set when all is given back and settled.
        self.gone = asyncio.Event()
        self.deadlines = Deadlines(self.end)

    @property
    def lease(self) -> Lease:
        about = _written(self.session.to_dict())
        return Lease(self.session.id, about, LEASE, self.slots, self.standing)

    @property
    def is_lost(self) -> bool:
        """Whether its lease has run out, so that its slots may be somebody else's."""
        return self.lease_required and asyncio.get_running_loop().time() >= self.held_until

    def is_late(self, reserved_at: float) -> bool:
        """Tell whether what was reserved for it may have been somebody else's in between."""
        return bool(self.slots) and asyncio.get_running_loop().time() - reserved_at >= LEASE

    def end(self, ending: CloseReason) -> None:
        """End it as soon as that can be. The first word counts."""
        if not self.word.done():
            self.word.set_result(ending)

    async def race_with_end(self, doing: Coroutine[Any, Any, T]) -> T:
        """Return what comes of something, unless the word to end comes first.

        Raises:
            EndedError: it came; what was begun is cancelled then.
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
        """Take the platform's name for it, unless that is known."""
        if self.session.conversation_id is None:
            self.session = replace(self.session, conversation_id=conversation_id)

    def renew(self, standing: RevocationCheck, expires_at: float | None) -> None:
        """Let it last as long as a fresh token."""
        self.standing = standing
        self.deadlines.expire_at(expires_at)


class Sessions:
    """Know this process's live conversations, and ask the store for everybody's.

    `stores` are those in which leases may be held: the shared one first.
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
        """Begin to hold a conversation's lease.

        Raises:
            StoreError: it can't be held, and it must be.
        """
        try:
            await _hold(live.store, [live])
        except StoreError:
            if live.lease_required:
                raise
        loop = asyncio.get_running_loop()
        self._beating.setdefault(loop, LeaseRenewer(self._stores[0])).add(live)

    async def abandon(self, live: LiveConversation) -> bool:
        """Give up a lease of which it isn't known whether it is held; tell whether it may have been
        (what it held is free again then, or ends by itself).
        """
        await self._renew_no_more(live)
        return await self._release(live.store, live, live.slots)

    async def leave(self, live: LiveConversation) -> None:
        """Give up the lease: what it holds is free again."""
        await self._renew_no_more(live)
        await self._release(live.store, live, live.slots)
        if live.store is not self._stores[0]:
            await self._release(self._stores[0], live, ())

    async def _release(self, store: Store, live: LiveConversation, slots: Sequence[Charge]) -> bool:
        """Release a lease; tell whether there was one, or may have been."""
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
            StoreError: they can't be known.
        """
        told = [about for store in self._stores for about in await store.leases()]
        known = {
            session.id: session for session in (LiveSession(**json.loads(one)) for one in told)
        }
        return tuple(known.values())

    async def end(self, session_id: str) -> bool:
        """Ask that a conversation ends, wherever it is; tell whether there is such a one.

        Raises:
            StoreError: it can't be known.
        """
        return any([await store.end(session_id) for store in self._stores])

    async def aclose(self) -> None:
        """End those of the running event loop, and wait a little until all is given back."""
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
    """Renew the leases of one event loop, as long as there are any."""

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
        """Renew it no more. What is on its way is waited for: it says which slots are held."""
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
                    word.exception()  # it raises nothing, says Store; a store of the user's might
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
        """Return what is to be renewed in the shared store, and what elsewhere; end what is lost,
        as after a time in which this process stood still.
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
    except Exception as error:  # StoreError, or what a store of the user's raises
        _end_lost(lives, error)


async def _hold(store: Store, lives: Sequence[LiveConversation]) -> None:
    """Renew leases, and pass on what the store says about them."""
    asked_at = asyncio.get_running_loop().time()
    held = await store.hold([live.lease for live in lives])
    for live, answer in zip(lives, held, strict=True):
        if not _ended(live, answer):
            live.slots, live.held_until = answer.slots, asked_at + LEASE


async def _show(store: Store, lives: Sequence[LiveConversation]) -> None:
    """Show leases whose slots are held elsewhere, so that all can see and end them here, too."""
    held = await store.hold([live.lease._replace(slots=()) for live in lives])
    for live, answer in zip(lives, held, strict=True):
        _ended(live, answer)


def _ended(live: LiveConversation, answer: LeaseStatus) -> bool:
    """End what the store says shall end; tell whether it says so."""
    if answer.word:
        live.end(_WORDS[answer.word])
    return bool(answer.word)


def _end_lost(lives: Sequence[LiveConversation], error: Exception) -> None:
    """End what is held by nobody any more: others may have its slots, and none may know of it."""
    for live in lives:
        if live.is_lost:
            live.end(LEASE_LOST)
    why = error if isinstance(error, StoreError) else type(error).__name__
    logger.warning("leases of %d conversations could not be renewed: %s", len(lives), why)
