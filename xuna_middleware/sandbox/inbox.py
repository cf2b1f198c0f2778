"""Receive with patience: a receive that a deadline interrupts without losing a message."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Keep one receive under way. Waiting gives up in time; the receive goes on for the next wait.

    Cancelling a receive could lose the message that it was just given, so none is cancelled before
    the end.
    """

    def __init__(self, receive: Callable[[], Awaitable[T]]) -> None:
        self._receive = receive
        self._pending: asyncio.Task[T] | None = None

    async def next(self, patience: float) -> T | None:
        """Return the next message, or None after that many seconds; raise what the receive does."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._one())
        done, _ = await asyncio.wait({self._pending}, timeout=patience)
        if not done:
            return None
        received, self._pending = self._pending, None
        return received.result()

    def close(self) -> None:
        """Stop receiving. How a receive that nobody waits for ends, nobody asks."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending.add_done_callback(_unasked)

    async def _one(self) -> T:
        return await self._receive()


def _unasked(receiving: asyncio.Task[T]) -> None:
    if not receiving.cancelled():
        receiving.exception()
