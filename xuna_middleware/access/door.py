"""The visitors' door: what the operator says of it, the same in every process, and kept.

Closed is a mark in the store, opened is another one, so that a store that lost its data is not
taken for an operator who opened: a process that knows the door as closed then closes it again.
Nobody is admitted while the store can't be asked. Who signed in has left by it, and can't come back
as the visitor they were.
"""

import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import Final, TypeVar

from xuna_middleware.errors import AccessDeniedError, UnavailableError
from xuna_middleware.stores.protocol import Part, Quota, Store, StoreError, Wanted

logger = logging.getLogger("xuna_middleware")

T = TypeVar("T")

_YEAR: Final = 366 * 86_400
_MANY: Final = 10**9


def _mark(who: str, field: str, seconds: float) -> Wanted:
    """Return a count that only says whether something happened; no caller's name looks like it."""
    return who, Quota(field=field, most=_MANY, amount=1, seconds=seconds, kind="rate")


_CLOSED: Final = _mark("entrance", "closed", _YEAR)
_OPENED: Final = _mark("entrance", "opened", _YEAR)


def _left(visitor: str, seconds: float = _YEAR) -> Wanted:
    return _mark(f"left:{visitor}", "left", seconds)


class Door:
    """Stand between visitors and all that is open to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        #: As far as this process knows.
        self._is_closed = False

    async def check(self, visitor: str) -> bool:
        """Refuse visitors while the door is closed; else tell whether this one has not left.

        Raises:
            AccessDeniedError: 403 `visitors_closed`. UnavailableError: the store can't be asked.
        """
        marks = _CLOSED, _OPENED, _left(visitor)
        is_closed, was_opened, has_left = await self._happened(*marks)
        if self._is_closed and not is_closed and not was_opened:
            logger.warning("the store lost that the visitors' entrance is closed: closed again")
            await self.close()
            is_closed = True
        self._is_closed = is_closed
        if is_closed:
            raise _closed()
        return not has_left

    async def leave(self, visitor: str, seconds: float) -> None:
        """Let a visitor go for so many seconds, whoever may come in their name.

        Raises:
            UnavailableError: the store can't be told.
        """
        await _told(self._store.reserve([_left(visitor, seconds)]))

    async def close(self) -> None:
        """Turn visitors away, in every process that shares the store, from the next request on.

        Raises:
            UnavailableError: the store can't be told. A full one keeps the door of this process
                closed all the same.
        """
        self._is_closed = True
        await self._forget(_OPENED)
        await _told(self._store.reserve([_CLOSED]))

    async def open(self) -> None:
        """Let them in again. Where this fails half-way, the door stays as it was.

        Raises:
            UnavailableError: the store can't be told.
        """
        await _told(self._store.reserve([_OPENED]))
        await self._forget(_CLOSED)
        self._is_closed = False

    async def _happened(self, *marks: Wanted) -> list[bool]:
        levels = await _told(self._store.look(marks))
        return [level.left < _MANY for level in levels]

    async def _forget(self, mark: Wanted) -> None:
        """Give back all that was taken of a mark."""
        who, quota = mark
        (level,) = await _told(self._store.look([mark]))
        if level.left == _MANY:
            return
        looked = await _told(self._store.reserve([(who, replace(quota, amount=0))]))
        taken = Part(who, quota.field, looked.marks[0], _MANY - level.left, quota.kind)
        await _told(self._store.give_back([taken]))


def _closed() -> AccessDeniedError:
    return AccessDeniedError(
        "Visitors are not admitted right now.",
        code="visitors_closed",
        cause="visitors: the entrance is closed",
    )


async def _told(telling: Awaitable[T]) -> T:
    try:
        return await telling
    except StoreError as error:
        raise UnavailableError(cause=f"store: {error}") from None
