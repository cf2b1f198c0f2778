"""The conversation's WebSocket to the platform, as a value that others may hold."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

#: What clients and platform speak; a browser must see it chosen where it offers it.
SUBPROTOCOL: Final = "convai"


class PlatformConnection(Protocol):
    """Be an open WebSocket to the platform.

    Attributes:
        recv: returns the next frame; raises when there is none any more.
        send: sends a text frame, and waits where the platform is slow.
    """

    recv: Callable[[], Awaitable[str | bytes]]
    send: Callable[[str], Awaitable[None]]

    @property
    def ended(self) -> tuple[int, str] | None:
        """Return the code and reason of the platform's own close; None where it said none."""

    async def close(self, code: int, reason: str) -> None:
        """Close it. Waits a little for the platform's answer; harmless when it is closed."""
