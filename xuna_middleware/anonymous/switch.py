"""Pause and resume anonymous access, persistently and the same in every process.

Paused is one mark in the store, resumed is another, so that a store that lost its data is not
mistaken for a resume: a process that knows access as paused then pauses it again. A third mark says
when access was last resumed, for a process that could not write its pause to the store. Nobody is
admitted while the store can't be reached. A visitor who has signed in can't come back as that
visitor.
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
#: A pause must last: a mark can't be extended without a moment in which access is open.
_ALWAYS: Final = 100 * _YEAR
_MANY: Final = 10**9
#: How many visitors one person may have been at once, while their tokens would be valid.
MOST_DEPARTED: Final = 100
_PAUSED: Final = named(Region.SWITCHES, "entrance")


def _mark(who: str, field: str, seconds: float, most: int = _MANY) -> Wanted:
    """Return a count that only records whether something happened."""
    return who, Quota(field=field, most=most, amount=1, seconds=seconds, kind="rate")


_CLOSED: Final = _mark(_PAUSED, "closed", _ALWAYS)
_OPENED: Final = _mark(_PAUSED, "opened", _YEAR)
#: Taken anew by each `resume()`, so that its end says when that was.
_OPENED_LAST: Final = _mark(_PAUSED, "opened_last", _YEAR)
#: How much the clocks of a store and of a process may differ: a second, plus a thousandth.
_OFF: Final = 1.0
_DRIFT: Final = 0.001


def _left(visitor: str, seconds: float = _YEAR) -> Wanted:
    return _mark(named(Region.DEPARTED, f"visitor:{visitor}"), "left", seconds, 1)


def _departures(person: str, seconds: float) -> Wanted:
    quota = Quota(field="left", most=MOST_DEPARTED, amount=1, seconds=seconds, kind="slot")
    return named(Region.DEPARTED, person), quota


class AdmissionSwitch:
    """Admit or refuse visitors, as the operator has set."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: As far as this process knows.
        self._is_closed = False
        #: Whether the store may not know that this process paused access.
        self._is_unconfirmed = False
        #: When `pause()` was last called, by the event loop's clock.
        self._closed_at = 0.0
        #: Store writes caused by visitors: one for all of them, so that operators have room.
        self._written_for_visitors = SingleFlight[str, bool](
            "visitors: pausing anonymous access in the store", max_concurrent=1, max_queued=1
        )

    async def check(self, visitor: str) -> bool:
        """Refuse visitors while access is paused; otherwise return whether this one may go on,
        that is, has not signed in.

        Raises:
            AccessDeniedError: 403 `anonymous_paused`. UnavailableError: the store can't be reached.
        """
        marks = _CLOSED, _OPENED, _left(visitor)
        levels = await _tell(self._store.look(marks))
        is_closed, was_opened, has_left = [
            level.left < quota.most for level, (_, quota) in zip(levels, marks, strict=True)
        ]
        if self._is_unconfirmed:  # the store may not know about the pause
            confirming = self._written_for_visitors.ask("confirm", self._confirm)
            is_closed = await confirming or is_closed
        if self._is_closed and not is_closed and not was_opened:
            is_closed = await self._written_for_visitors.ask("close again", self._close_again)
        self._is_closed = is_closed
        if is_closed:
            raise _closed()
        return not has_left

    async def leave(self, visitor: str, move: MergeUsage, seconds: float) -> bool:
        """Turn a visitor into a signed-in person, and for `seconds` refuse callers with that
        visitor's token; return whether the visitor has left.

        For a person with too many former visitors (`MOST_DEPARTED`) no more are merged: the visitor
        stays, and keeps their usage.

        Raises:
            UnavailableError: the store can't be updated.
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
        """Refuse visitors, in every process that shares the store, from the next request on.

        Raises:
            UnavailableError: the store can't be updated. Access stays paused in this process anyway
                until `resume()` in any process; the next visitor causes another attempt.
        """
        self._closed_at = _now()
        await self._close()

    async def _close(self) -> None:
        self._is_closed = self._is_unconfirmed = True
        await self._forget(_OPENED)
        await _tell(self._store.reserve([_CLOSED]))
        self._is_unconfirmed = False

    async def _close_again(self) -> bool:
        logger.warning("the store lost that anonymous access is paused: paused again")
        await self._close()
        return True

    async def resume(self) -> None:
        """Admit visitors again. If this fails half-way, access stays as it was.

        Raises:
            UnavailableError: the store can't be updated.
        """
        await self._forget(_OPENED_LAST)
        await _tell(self._store.reserve([_OPENED, _OPENED_LAST]))
        await self._forget(_CLOSED)
        self._is_closed = self._is_unconfirmed = False

    async def _confirm(self) -> bool:
        """Write an unsaved pause to the store, unless access was resumed later; return whether it
        is paused as a result.

        Raises:
            UnavailableError: the store can't be read or updated.
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
        """Give back everything that was taken of a mark."""
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
        cause="visitors: anonymous access is paused; see gate.resume_anonymous()",
    )


async def _tell(telling: Awaitable[T]) -> T:
    try:
        return await telling
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None
