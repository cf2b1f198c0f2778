"""What a store does: keep a value for a while, and tell who was first."""

from typing import Protocol


class StoreError(Exception):
    """Say that the store can't answer now, in fixed words. Whoever asked refuses: never open."""


class Store(Protocol):
    """Keep small values for a short time, the same for every process that shares it.

    Both verbs are atomic: of any number of callers in any number of processes, one is first.
    """

    async def put(self, key: str, value: bytes, seconds: float) -> bool:
        """Keep a value for so many seconds unless the key is there; tell whether it was kept.

        Raises:
            StoreError: it can't be known.
        """

    async def take(self, key: str) -> bytes | None:
        """Return a value and forget it; None where there is none.

        Raises:
            StoreError: it can't be known.
        """

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
