"""What the gate decided, kept for a while and told to whoever watches (Server-Sent Events).

Nobody has a queue of their own: each watcher walks along the one bounded history, so a slow or
forgotten one costs nothing, and one that comes back says with `Last-Event-ID` where it was.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from xuna_middleware import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Hold one event and its place in the history, counted from 1."""

    number: int
    event: Event


class Feed:
    """Remember the last events of a gate; for `on_event=[Immediate(feed)]`."""

    def __init__(self, *, keep: int = 200) -> None:
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._count = 0
        self._changed = asyncio.Event()
        self._closed = False

    def __call__(self, event: Event) -> None:
        """Take one event: the hook."""
        self._count += 1
        self._entries.append(Entry(number=self._count, event=event))
        self._wake()

    def close(self) -> None:
        """Let every watcher come to its end, so that the server can stop."""
        self._closed = True
        self._wake()

    def entries(self) -> tuple[Entry, ...]:
        """Return what is remembered, oldest first."""
        return tuple(self._entries)

    def events(self) -> tuple[Event, ...]:
        """Return the events that are remembered, oldest first."""
        return tuple(entry.event for entry in self._entries)

    async def watch(self, last: int = 0, *, pulse: float = 15) -> AsyncIterator[Entry | None]:
        """Yield the entries after number `last` as they come, and None after `pulse` idle seconds.

        A number that this history never reached (the server was started anew) means all of it.
        """
        last = 0 if last > self._count else last
        while not self._closed:
            changed = self._changed
            for entry in [entry for entry in self._entries if entry.number > last]:
                last = entry.number
                yield entry
            if changed is self._changed and not await _within(pulse, changed):
                yield None

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


async def _within(seconds: float, changed: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await changed.wait()
    except TimeoutError:
        return False


def stream(feed: Feed, request: Request) -> StreamingResponse:
    """Answer with the feed as `text/event-stream`, from where the watcher left it."""
    last = request.headers.get("last-event-id", "")
    return StreamingResponse(
        _encoded(feed, int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 0),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _encoded(feed: Feed, last: int) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    async for entry in feed.watch(last):
        yield ": nothing new\n\n" if entry is None else encode(entry)


def encode(entry: Entry) -> str:
    """Return one entry as a Server-Sent Event whose data is the event's JSON."""
    return f"id: {entry.number}\ndata: {json.dumps(readable(entry.event))}\n\n"


def readable(event: Event) -> dict[str, Any]:
    """Return an event as JSON's types, without what it doesn't say."""
    return {name: value for name, value in asdict(event).items() if value not in (None, ())}
