"""Receive with patience: an ASGI receive that a deadline interrupts without losing a message."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.types import Message


class Inbox:
    """Keep one receive under way. Waiting gives up in time; the receive goes on for the next wait.

    Cancelling a receive could lose the message that it was just given, so none is cancelled before
    the end.
    """

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._pending: asyncio.Task[Message] | None = None

    async def next(self, patience: float) -> Message | None:
        """Return the next message, or None after that many seconds."""
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._one())
        done, _ = await asyncio.wait({self._pending}, timeout=patience)
        if not done:
            return None
        received, self._pending = self._pending.result(), None
        return received

    def close(self) -> None:
        """Stop receiving."""
        if self._pending is not None:
            self._pending.cancel()

    async def _one(self) -> Message:
        return await self._receive()
