"""Cache verified tokens, so that a caller's next request costs only a hash."""

from collections import OrderedDict
from hashlib import sha256
from typing import Final

from xuna_middleware.identity.credentials import Identity

MAX_TOKENS: Final = 4096
#: Octets of a token, or of its provider's answer; larger ones are verified each time.
MAX_TOKEN_LENGTH: Final = 8 * 1024
#: Octets of all cached texts. As Python objects they take up to 30 times as much.
MAX_OCTETS: Final = 4 * 1024 * 1024
SECONDS: Final = 60.0

#: How many expired entries are removed for each new one: so all go, at little cost each.
_ENDED_AT_ONCE: Final = 4


def fingerprint(token: str) -> bytes:
    """Return the SHA-256 of an ASCII token."""
    return sha256(token.encode("ascii")).digest()


class RememberedTokens:
    """Cache the last valid results of one verifier, for at most a minute: at most 4,096 of them,
    and those of 4 MiB of tokens or answers.

    The key is the SHA-256 of the whole token; the token itself isn't kept. Only verified tokens are
    cached, so strangers can't fill it; expired entries go first, then the oldest.
    """

    __slots__ = ("_entries", "_octets")

    def __init__(self) -> None:
        #: Fingerprint → identity, not before, until, octets; the oldest first.
        self._entries: OrderedDict[bytes, tuple[Identity, float, float, int]] = OrderedDict()
        self._octets = 0

    def get(self, fingerprint: bytes, now: float) -> Identity | None:
        """Return the token's identity, if it is cached and still valid at `now`."""
        entry = self._entries.get(fingerprint)
        if entry is None:
            return None
        identity, not_before, until, _ = entry
        return identity if not_before <= now < until else None

    def put(
        self,
        fingerprint: bytes,
        identity: Identity,
        not_before: float,
        until: float,
        *,
        octets: int,
        now: float,
    ) -> None:
        """Remember a verified token for the times in which it is valid, seconds since the epoch.

        `octets` is the length of the token or answer that the identity was read from.
        """
        self.drop(fingerprint)
        self._forget_ended(now)
        if octets > MAX_TOKEN_LENGTH:
            return
        self._entries[fingerprint] = (identity, not_before, until, octets)
        self._octets += octets
        while len(self._entries) > MAX_TOKENS or self._octets > MAX_OCTETS:
            self.drop(next(iter(self._entries)))

    def drop(self, fingerprint: bytes) -> None:
        """Forget one token, because it is no longer valid."""
        entry = self._entries.pop(fingerprint, None)
        if entry is not None:
            self._octets -= entry[3]

    def clear(self) -> None:
        """Forget all tokens, for example when the issuer's keys change."""
        self._entries.clear()
        self._octets = 0

    def _forget_ended(self, now: float) -> None:
        for _ in range(min(_ENDED_AT_ONCE, len(self._entries))):
            oldest = next(iter(self._entries))
            if self._entries[oldest][2] > now:
                return
            self.drop(oldest)
