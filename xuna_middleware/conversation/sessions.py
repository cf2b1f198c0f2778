"""Live conversations: each holds a lease in the store, which heartbeats renew and all can see.

What a lease holds (slots of `Concurrent`, the record of the conversation) ends by itself when its
process dies. A heartbeat also brings word from elsewhere: that an operator ended the conversation,
or that its caller was revoked. A store that can wake its readers brings it at once.
"""

import asyncio
import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from xuna_middleware.conversation.endings import (
    ENDED_BY_OPERATOR,
    GOING_AWAY,
    REVOKED,
    STORE_UNAVAILABLE,
    Ending,
)
from xuna_middleware.conversation.relay import Relay
from xuna_middleware.stores.protocol import Held, Lease, Part, Standing, Store, StoreError

logger = logging.getLogger("xuna_middleware")

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
class Session:
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


class Live:
    """Hold what belongs to one conversation of this process while it lasts.

    `must_hold` ends it when the store can't be asked for as long as the lease lasts.
    """

    def __init__(
        self,
        session: Session,
        store: Store,
        slots: Sequence[Part],
        standing: Standing,
        *,
        must_hold: bool,
    ) -> None:
        self.session = session
        self.store = store
        self.slots = tuple(slots)
        self.standing = standing
        self.must_hold = must_hold
        self.held_until = 0.0
        #: Set when all is given back and settled.
        self.gone = asyncio.Event()
        self._relay: Relay | None = None
        self._early: Ending | None = None

    @property
    def lease(self) -> Lease:
        about = _written(self.session.to_dict())
        return Lease(self.session.id, about, LEASE, self.slots, self.standing)

    def carry(self, relay: Relay) -> None:
        """Name what carries it; a word that it shall end may have come before."""
        self._relay = relay
        if self._early is not None:
            relay.end(self._early)

    def end(self, ending: Ending) -> None:
        """End it as soon as that can be."""
        if self._relay is None:
            self._early = self._early or ending
        else:
            self._relay.end(ending)

    def told(self, conversation_id: str) -> None:
        """Take the platform's name for it, unless that is known."""
        if self.session.conversation_id is None:
            self.session = replace(self.session, conversation_id=conversation_id)

    def renew(self, standing: Standing, expires_at: float | None) -> None:
        """Let it last as long as a fresh token."""
        self.standing = standing
        if self._relay is not None:
            self._relay.deadlines.expire_at(expires_at)


class Sessions:
    """Know this process's live conversations, and ask the store for everybody's.

    `stores` are those in which leases may be held: the shared one first.
    """

    def __init__(self, *stores: Store) -> None:
        self._stores = stores
        self._beating: WeakKeyDictionary[asyncio.AbstractEventLoop, _Heart] = WeakKeyDictionary()

    def __len__(self) -> int:
        return sum(len(heart.lives) for heart in self._beating.values())

    async def enter(self, live: Live) -> None:
        """Begin to hold a conversation's lease.

        Raises:
            StoreError: it can't be held, and it must be.
        """
        try:
            await _hold(live.store, [live])
        except StoreError:
            if live.must_hold:
                raise
        loop = asyncio.get_running_loop()
        self._beating.setdefault(loop, _Heart(self._stores[0])).add(live)

    async def leave(self, live: Live) -> None:
        """Give up the lease: what it holds is free again."""
        heart = self._beating.get(asyncio.get_running_loop())
        if heart is not None:
            await heart.remove(live)
        try:
            await live.store.let_go(live.session.id, live.slots)
        except StoreError as error:
            logger.warning("a conversation's lease ends by itself, within 30 s: %s", error)

    async def all(self) -> tuple[Session, ...]:
        """Return the live conversations of all processes.

        Raises:
            StoreError: they can't be known.
        """
        told = [about for store in self._stores for about in await store.leases()]
        return tuple(Session(**json.loads(about)) for about in told)

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


class _Heart:
    """Renew the leases of one event loop, as long as there are any."""

    def __init__(self, waking: Store) -> None:
        self.lives: dict[str, Live] = {}
        self._waking = waking
        self._holding = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, live: Live) -> None:
        self.lives[live.session.id] = live
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._beat())

    async def remove(self, live: Live) -> None:
        """Renew it no more. What is on its way is waited for: it says which slots are held."""
        async with self._holding:
            self.lives.pop(live.session.id, None)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    async def _beat(self) -> None:
        word = asyncio.ensure_future(self._waking.woken())
        try:
            while self.lives:
                await asyncio.wait((word,), timeout=BEAT)
                if word.done():
                    word.exception()  # it raises nothing, says Store; a store of the user's might
                    await asyncio.sleep(_BREATH)
                    word = asyncio.ensure_future(self._waking.woken())
                await self._hold_all()
        finally:
            word.cancel()

    async def _hold_all(self) -> None:
        async with self._holding:
            by_store: dict[int, list[Live]] = {}
            for live in self.lives.values():
                by_store.setdefault(id(live.store), []).append(live)
            for lives in by_store.values():
                try:
                    await _hold(lives[0].store, lives)
                except Exception as error:  # StoreError, or what a store of the user's raises
                    _end_lost(lives, error)


async def _hold(store: Store, lives: Sequence[Live]) -> None:
    """Renew leases, and pass on what the store says about them."""
    asked_at = asyncio.get_running_loop().time()
    held = await store.hold([live.lease for live in lives])
    for live, answer in zip(lives, held, strict=True):
        _take(live, answer, asked_at + LEASE)


def _take(live: Live, answer: Held, held_until: float) -> None:
    if answer.word:
        live.end(_WORDS[answer.word])
        return
    live.slots, live.held_until = answer.slots, held_until


def _end_lost(lives: Sequence[Live], error: Exception) -> None:
    """End what is held by nobody any more: others may have its slots, and none may know of it."""
    now = asyncio.get_running_loop().time()
    for live in lives:
        if live.must_hold and now >= live.held_until:
            live.end(STORE_UNAVAILABLE)
    why = error if isinstance(error, StoreError) else type(error).__name__
    logger.warning("leases of %d conversations could not be renewed: %s", len(lives), why)
