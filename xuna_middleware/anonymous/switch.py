"""The visitors' door: what the operator says of it, the same in every process, and kept.

Closed is a mark in the store, opened is another one, so that a store that lost its data is not
taken for an operator who opened: a process that knows the door as closed then closes it again. A
third mark says when it was opened last, for a process that could not tell the store that it closed.
Nobody is admitted while the store can't be asked. Who signed in has left by it, and can't come back
as the visitor they were.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Final, TypeVar

from xuna_middleware._core.single_flight import SingleFlight
from xuna_middleware.errors import AccessDeniedError, UnavailableError
from xuna_middleware.stores.protocol import (
    Charge,
    MergeUsage,
    Quota,
    Region,
    Store,
    StoreError,
    Wanted,
    named,
)

logger = logging.getLogger("xuna_middleware")

T = TypeVar("T")

_YEAR: Final = 366 * 86_400
#: What is closed stays so: no mark can be made to last longer without a moment in which it's open.
_ALWAYS: Final = 100 * _YEAR
_MANY: Final = 10**9
#: How many visitors one person may have been at once, while their tickets would be good.
MOST_DEPARTED: Final = 100
_ENTRANCE: Final = named(Region.SWITCHES, "entrance")


def _mark(who: str, field: str, seconds: float, most: int = _MANY) -> Wanted:
    """Return a count that only says whether something happened."""
    return who, Quota(field=field, most=most, amount=1, seconds=seconds, kind="rate")


_CLOSED: Final = _mark(_ENTRANCE, "closed", _ALWAYS)
_OPENED: Final = _mark(_ENTRANCE, "opened", _YEAR)
#: Taken anew by each `open()`, so that its end says when that was.
_OPENED_LAST: Final = _mark(_ENTRANCE, "opened_last", _YEAR)
#: By how much the clocks of a store and of a process may differ: a second, and a thousandth.
_OFF: Final = 1.0
_DRIFT: Final = 0.001


def _left(visitor: str, seconds: float = _YEAR) -> Wanted:
    return _mark(named(Region.DEPARTED, f"visitor:{visitor}"), "left", seconds, 1)


def _departures(person: str, seconds: float) -> Wanted:
    quota = Quota(field="left", most=MOST_DEPARTED, amount=1, seconds=seconds, kind="slot")
    return named(Region.DEPARTED, person), quota


class AdmissionSwitch:
    """Stand between visitors and all that is open to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: As far as this process knows.
        self._is_closed = False
        #: Whether the store may not know that it was closed here.
        self._is_unconfirmed = False
        #: When somebody called `close()` last, by the event loop's clock.
        self._closed_at = 0.0
        #: What visitors cause to be written: once for all of them, so that operators have room.
        self._written_for_visitors = SingleFlight[str, bool](
            "visitors: telling the store of the entrance", max_concurrent=1, max_queued=1
        )

    async def check(self, visitor: str) -> bool:
        """Refuse visitors while the door is closed; else tell whether this one has not left.

        Raises:
            AccessDeniedError: 403 `anonymous_paused`. UnavailableError: the store can't be asked.
        """
        marks = _CLOSED, _OPENED, _left(visitor)
        levels = await _tell(self._store.look(marks))
        is_closed, was_opened, has_left = [
            level.left < quota.most for level, (_, quota) in zip(levels, marks, strict=True)
        ]
        if self._is_unconfirmed:  # the store may not have heard of it
            confirming = self._written_for_visitors.ask("confirm", self._confirm)
            is_closed = await confirming or is_closed
        if self._is_closed and not is_closed and not was_opened:
            is_closed = await self._written_for_visitors.ask("close again", self._close_again)
        self._is_closed = is_closed
        if is_closed:
            raise _closed()
        return not has_left

    async def leave(self, visitor: str, move: MergeUsage, seconds: float) -> bool:
        """Let a visitor become a person, and turn away for so many seconds whoever comes as that
        visitor; tell whether the visitor has left.

        A person whose visitors left too often (`MOST_DEPARTED`) takes no further ones along: the
        visitor stays, and keeps what they spent.

        Raises:
            UnavailableError: the store can't be told.
        """
        wanted = _left(visitor, seconds), _departures(move.person, seconds)
        moved = await _tell(self._store.move(move, wanted))
        has_left = moved.taken or moved.levels[0].left < 1
        if not has_left:
            logger.warning(
                "visitors: one caller signed in as %d visitors within "
                "AnonymousAccess(token_seconds=%d): the ticket of one more stays good",
                MOST_DEPARTED,
                seconds,
            )
        return has_left

    async def pause(self) -> None:
        """Turn visitors away, in every process that shares the store, from the next request on.

        Raises:
            UnavailableError: the store can't be told. The door of this process stays closed all the
                same, until `open()` in any process; the next visitor has the store told again.
        """
        self._closed_at = _now()
        await self._close()

    async def _close(self) -> None:
        self._is_closed = self._is_unconfirmed = True
        await self._forget(_OPENED)
        await _tell(self._store.reserve([_CLOSED]))
        self._is_unconfirmed = False

    async def _close_again(self) -> bool:
        logger.warning("the store lost that the visitors' entrance is closed: closed again")
        await self._close()
        return True

    async def resume(self) -> None:
        """Let them in again. Where this fails half-way, the door stays as it was.

        Raises:
            UnavailableError: the store can't be told.
        """
        await self._forget(_OPENED_LAST)
        await _tell(self._store.reserve([_OPENED, _OPENED_LAST]))
        await self._forget(_CLOSED)
        self._is_closed = self._is_unconfirmed = False

    async def _confirm(self) -> bool:
        """Tell the store what it was not told, unless somebody opened the door later; tell whether
        it is closed by that.

        Raises:
            UnavailableError: the store can't be asked or told.
        """
        since = _now() - self._closed_at
        (opened,) = await _tell(self._store.look([_OPENED_LAST]))
        if opened.left < _MANY and _YEAR - opened.seconds + _OFF < since * (1 - _DRIFT):
            self._is_unconfirmed = False
            return False
        await self._close()
        logger.warning(
            "gate.pause_anonymous() could not tell the store %.0f s ago, and has told it now: "
            "visitors are turned away in every process, until gate.resume_anonymous()",
            since,
        )
        return True

    async def _forget(self, mark: Wanted) -> None:
        """Give back all that was taken of a mark."""
        who, quota = mark
        (level,) = await _tell(self._store.look([mark]))
        if level.left == _MANY:
            return
        looked = await _tell(self._store.reserve([(who, replace(quota, amount=0))]))
        taken = Charge(who, quota.field, looked.marks[0], _MANY - level.left, quota.kind)
        await _tell(self._store.give_back([taken]))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _closed() -> AccessDeniedError:
    return AccessDeniedError(
        "AnonymousAccess are not admitted right now.",
        code="anonymous_paused",
        cause="visitors: the entrance is closed",
    )


async def _tell(telling: Awaitable[T]) -> T:
    try:
        return await telling
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None
