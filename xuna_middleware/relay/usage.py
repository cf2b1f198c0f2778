"""The usage of a conversation: time, turns, and frames and bytes in each direction."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Meter:
    """Count one conversation while it runs.

    `began` and `ended` are of one monotonic clock, in seconds. Bytes are those of the frames' text.
    """

    began: float
    ended: float | None = None
    turns: int = 0
    client_frames: int = 0
    client_bytes: int = 0
    platform_frames: int = 0
    platform_bytes: int = 0

    def seconds(self, now: float) -> float:
        """Return how long it has lasted."""
        return max(0.0, (now if self.ended is None else self.ended) - self.began)


def size_of(text: str) -> int:
    """Return a text's length in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
