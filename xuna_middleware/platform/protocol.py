"""The protocol of a conversation's WebSocket to the platform."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

#: The sub-protocol of clients and platform; a browser that offers it must see it accepted.
SUBPROTOCOL: Final = "convai"


class PlatformConnection(Protocol):
    """An open WebSocket to the platform.

    Attributes:
        recv: returns the next frame; raises when there are no more.
        send: sends a text frame, and waits if the platform is slow.
    """

    recv: Callable[[], Awaitable[str | bytes]]
    send: Callable[[str], Awaitable[None]]

    @property
    def ended(self) -> tuple[int, str] | None:
        """Return the code and reason of the platform's own close; None if it sent none."""

    async def close(self, code: int, reason: str) -> None:
        """Close it. Waits briefly for the platform's answer; harmless if already closed."""
