"""Notify every process of ended conversations and revocations before the next heartbeat."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from xuna_middleware.stores.wakeup import Wakeup

logger = logging.getLogger("xuna_middleware")

#: Seconds of silence after which a connection is tested.
_SILENCE: Final = 30.0
#: Seconds between two attempts to listen.
_SOONEST: Final = 1.0
_LATEST: Final = 30.0


class Listening:
    """Listen on one channel, with one connection for each event loop, starting at its first wait.

    Args:
        client_here: returns the running event loop's `redis.asyncio.Redis`.
        channel: the name of the channel.
        timeout: seconds for an answer.
    """

    def __init__(self, client_here: Callable[[], Any], channel: str, *, timeout: float) -> None:
        self._client_here = client_here
        self._channel = channel
        self._timeout = timeout
        self._bell = Wakeup(at_first=False)  # it rings as soon as it listens
        self._tasks: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    async def wait_for_wakeup(self) -> None:
        """Wait for a message since the last call, or for a new subscription."""
        loop = asyncio.get_running_loop()
        if loop not in self._tasks:
            self._tasks[loop] = task = loop.create_task(self._listen())
            task.add_done_callback(lambda _: self._tasks.pop(loop, None))
        await self._bell.wait()

    def ring(self) -> None:
        """Wake all waiters, so that one whose connection was closed opens another."""
        self._bell.ring()

    async def stop(self) -> None:
        """Close the connection of the running event loop."""
        task = self._tasks.get(asyncio.get_running_loop())
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _listen(self) -> None:
        """Ring at each message; if listening fails, try again, with growing pauses."""
        pause = _SOONEST
        while True:
            try:
                client = self._client_here()
                await client.ping()  # so that a cluster's client knows its nodes
                async with client.pubsub() as calls:
                    await calls.subscribe(self._channel)
                    while await self._heard(calls):
                        pause = _SOONEST
            except Exception as error:  # as in _asked()
                logger.info(
                    "pub/sub unavailable; revocations arrive with the next heartbeat: %s",
                    type(error).__name__,
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LATEST)

    async def _heard(self, calls: Any) -> bool:
        """Ring at the next message or subscription; return whether the connection is alive."""
        heard = await calls.get_message(timeout=_SILENCE)
        if heard is None:
            await calls.ping()
            heard = await calls.get_message(timeout=self._timeout)
        if heard is not None and heard["type"] in ("message", "subscribe"):
            self._bell.ring()
        return heard is not None
