"""A platform's end of a conversation that does what a test says, and nothing else."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from xuna_middleware.relay.frames import METADATA

#: What the platform begins with.
GREETING: Final = json.dumps(
    {"type": METADATA, f"{METADATA}_event": {"conversation_id": "conv_scripted"}}
)


class LineGoneError(Exception):
    """Say that the line has ended, as a WebSocket library does."""


class ScriptedLine:
    """Be a `PlatformConnection`: what the platform says is put in, what it hears is kept."""

    def __init__(self, *says: str | bytes) -> None:
        self._says: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self.heard: list[str] = []
        self.ended: tuple[int, str] | None = None
        self.closed: tuple[int, str] | None = None
        #: Cleared where the platform takes nothing.
        self.takes = asyncio.Event()
        self.takes.set()
        self._is_gone = False
        self.recv: Callable[[], Awaitable[str | bytes]] = self._recv
        self.send: Callable[[str], Awaitable[None]] = self._send
        for frame in says:
            self.say(frame)

    def say(self, frame: str | bytes | dict[str, Any]) -> None:
        """Let the platform say something."""
        self._says.put_nowait(json.dumps(frame) if isinstance(frame, dict) else frame)

    def hang_up(self, code: int | None = None, reason: str = "") -> None:
        """Let the platform close, after all that it said; without a code it breaks off."""
        self.ended = None if code is None else (code, reason)
        self._is_gone = True
        self._says.put_nowait(None)

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason
        self.hang_up()

    async def _recv(self) -> str | bytes:
        frame = await self._says.get()
        if frame is None:
            self._says.put_nowait(None)
            raise LineGoneError
        return frame

    async def _send(self, text: str) -> None:
        await self.takes.wait()
        if self._is_gone:
            raise LineGoneError
        self.heard.append(text)
