"""What a dialogue asks of its transport, and how either side ends it."""

from typing import Literal, Protocol


class Ended(Exception):  # noqa: N818 - an end is no error
    """End the conversation. `by` is who closed; the platform's end is sent, a client's noted."""

    def __init__(
        self, code: int, reason: str = "", *, by: Literal["user", "agent"], error: str | None = None
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.by = by
        self.error = error


class Carrier(Protocol):
    """Carry the frames of one conversation both ways, each a text, in order."""

    async def send(self, text: str) -> None:
        """Send one frame. Raises Ended, by the user, where the client is gone."""

    async def receive(self) -> str:
        """Return the client's next frame.

        Raises Ended: by the user once the client has gone, by the agent where what came is no text.
        """

    async def close(self, code: int, reason: str) -> None:
        """Tell the client that it is over. One that is already gone is no fault."""
