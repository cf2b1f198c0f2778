"""Remember tokens that were verified, so that the next request of a caller costs a hash."""

from hashlib import sha256
from typing import Final, NamedTuple

from xuna_middleware.identity.credentials import Identity

MAX_TOKENS: Final = 4096
MAX_TOKEN_LENGTH: Final = 8 * 1024
SECONDS: Final = 60.0


def fingerprint(token: str) -> bytes:
    """Return the SHA-256 of an ASCII token."""
    return sha256(token.encode("ascii")).digest()


class _Entry(NamedTuple):
    identity: Identity
    not_before: float
    until: float


class RememberedTokens:
    """Hold the last good results of one verifier, at most 4,096 of them, for at most a minute.

    The key is the SHA-256 of the whole token, the token itself isn't kept. Only what was verified
    is remembered, so strangers can't fill it; the oldest goes first.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}

    def get(self, fingerprint: bytes, now: float) -> Identity | None:
        """Return whom the token proved, if it is remembered and still valid at `now`."""
        entry = self._entries.get(fingerprint)
        if entry is None or not entry.not_before <= now < entry.until:
            return None
        return entry.identity

    def put(
        self, fingerprint: bytes, identity: Identity, *, not_before: float, until: float
    ) -> None:
        """Remember a verified token for the times in which it is valid, seconds since the epoch."""
        while len(self._entries) >= MAX_TOKENS:
            del self._entries[next(iter(self._entries))]
        self._entries[fingerprint] = _Entry(identity, not_before, until)

    def clear(self) -> None:
        """Forget all, as when the issuer's keys changed."""
        self._entries.clear()
