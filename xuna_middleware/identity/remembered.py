"""Remember tokens that were verified, so that the next request of a caller costs a hash."""

from collections import OrderedDict
from hashlib import sha256
from typing import Final

from xuna_middleware.identity.credentials import Identity

MAX_TOKENS: Final = 4096
MAX_TOKEN_LENGTH: Final = 8 * 1024
SECONDS: Final = 60.0


def fingerprint(token: str) -> bytes:
    """Return the SHA-256 of an ASCII token."""
    return sha256(token.encode("ascii")).digest()


class RememberedTokens:
    """Hold the last good results of one verifier, at most 4,096 of them, for at most a minute.

    The key is the SHA-256 of the whole token, the token itself isn't kept. Only what was verified
    is remembered, so strangers can't fill it; the oldest goes first.
    """

    __slots__ = ("_entries",)

    def __init__(self) -> None:
        #: Fingerprint → identity, not before, until.
        self._entries: OrderedDict[bytes, tuple[Identity, float, float]] = OrderedDict()

    def get(self, fingerprint: bytes, now: float) -> Identity | None:
        """Return whom the token proved, if it is remembered and still valid at `now`."""
        entry = self._entries.get(fingerprint)
        if entry is None:
            return None
        identity, not_before, until = entry
        return identity if not_before <= now < until else None

    def put(self, fingerprint: bytes, identity: Identity, not_before: float, until: float) -> None:
        """Remember a verified token for the times in which it is valid, seconds since the epoch."""
        if len(self._entries) >= MAX_TOKENS and fingerprint not in self._entries:
            self._entries.popitem(last=False)
        self._entries[fingerprint] = (identity, not_before, until)

    def drop(self, fingerprint: bytes) -> None:
        """Forget one token, which is not good any more."""
        self._entries.pop(fingerprint, None)

    def clear(self) -> None:
        """Forget all, as when the issuer's keys changed."""
        self._entries.clear()
