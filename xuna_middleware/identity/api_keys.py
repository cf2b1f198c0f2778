"""API keys for callers that have no provider: a kiosk, a job, a device that you own.

A key is `xgk_`, 256 random bits and a checksum, sent as a Bearer token. Only its SHA-256 is stored,
which for so many random bits needs no salt and no slow hash. The checksum (CRC-32, common in such
keys) detects a mistyped key without a look-up and lets secret scanners recognize keys for certain;
it proves nothing.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from xuna_middleware.errors import ConfigurationError, InvalidTokenError, NotAuthenticatedError
from xuna_middleware.identity.credentials import Credentials, Identity
from xuna_middleware.identity.protocols import MAX_TOKEN_SECONDS, VerifierTraits

PREFIX: Final = "xgk_"

_OCTETS: Final = 32
_LOOKS: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}[A-Za-z0-9_-]{{6}}")
_HASH: Final = re.compile(r"sha256:[0-9a-f]{64}")


class NewAPIKey(NamedTuple):
    """A new key, to be shown to its owner once, and the hash to store."""

    key: str
    hash: str

    def __repr__(self) -> str:
        return f"NewAPIKey(hash={self.hash!r})"


def new_api_key() -> NewAPIKey:
    """Make a random key. The hash doesn't reveal it, so a lost key needs a replacement."""
    secret = secrets.token_urlsafe(_OCTETS)
    key = f"{PREFIX}{secret}{_checksum(secret)}"
    return NewAPIKey(key, hash_api_key(key))


def hash_api_key(key: str) -> str:
    """Return the hash of a key, for storage.

    Raises:
        ConfigurationError: it isn't a gate's key, or is mistyped. The text contains none of it.
    """
    if not isinstance(key, str) or not _is_whole(key):
        raise ConfigurationError("this is no API key: one begins with xgk_ and has 53 characters")
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class APIKey:
    """Describe a key's owner. A subject may have several keys, so that a new one can replace one.

    Attributes:
        hash: `sha256:…`, as `new_api_key` and the command `xuna-gate api-key new` return it.
        subject, scopes, roles, claims: as in the `Identity` of the key's owner.
        expires_at: seconds since the epoch; None for a key that doesn't expire.

    Raises:
        ConfigurationError: the hash is malformed, or the other values make no valid identity.
    """

    hash: str
    subject: str
    scopes: Iterable[str] = ()
    roles: Iterable[str] = ()
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.hash, str) or not _HASH.fullmatch(self.hash):
            raise ConfigurationError(
                "APIKey(hash=…) takes the key's hash, sha256: and 64 hexadecimal digits, never the "
                "key itself; `xuna-gate api-key hash` tells it"
            )
        ends = self.expires_at
        if ends is not None and (type(ends) not in (int, float) or not math.isfinite(ends)):
            raise ConfigurationError("APIKey(expires_at=…) is in seconds since the epoch, or None")


class APIKeyVerifier:
    """Verify API keys sent as Bearer tokens, so that no other site's page can send one.

    Args:
        keys: all valid keys, in any order. To rotate: list the new key as well as the old one, and
            remove the old one when no client sends it any more.
        issuer: the issuer of the identities; limits and logs distinguish `(issuer, subject)`.
        clock: seconds since the epoch.

    Checks: the key, in constant time; its expiry.
    Does not check: how often it is used, from where, or by whom.

    Raises:
        ConfigurationError: there are none, one is listed twice, or one makes no valid identity.
    """

    def __init__(
        self,
        keys: Iterable[APIKey],
        *,
        issuer: str = "api-key",
        clock: Callable[[], float] = time.time,
    ) -> None:
        listed = tuple(keys) if isinstance(keys, Iterable) else ()
        if not listed or not all(isinstance(key, APIKey) for key in listed):
            raise ConfigurationError(
                'APIKeyVerifier takes a list: [APIKey(hash="sha256:…", subject="kiosk-7")]'
            )
        digests = [bytes.fromhex(key.hash[7:]) for key in listed]
        self._known = {
            digest: (digest, _identity(key, issuer))
            for digest, key in zip(digests, listed, strict=True)
        }
        if len(self._known) < len(listed):
            raise ConfigurationError("one API key is listed twice; a key stands for one subject")
        self._clock = clock
        self.issuer = issuer
        #: Read by the gate. A key that doesn't expire counts as valid for 100 years.
        self.traits = VerifierTraits(
            issuers=frozenset({issuer}), max_token_seconds=_longest(listed, clock())
        )

    def __repr__(self) -> str:
        return f"APIKeyVerifier({len(self._known)} keys)"

    def recognizes(self, token: str) -> bool:
        """Return whether a token looks like one of these keys."""
        return token.startswith(PREFIX)

    async def verify(self, credentials: Credentials) -> Identity:
        """Return the identity of a key's owner; see `Verifier.verify`."""
        if credentials.scheme != "bearer":
            raise NotAuthenticatedError(cause="authorization: an API key goes with Bearer")
        if not _is_whole(credentials.token):
            raise InvalidTokenError(cause="api key: malformed, or mistyped")
        identity = self._find(hashlib.sha256(credentials.token.encode()).digest())
        if identity is None:
            raise InvalidTokenError(cause="api key: not one of the listed ones")
        if identity.expires_at is not None and self._clock() >= identity.expires_at:
            raise InvalidTokenError(cause=f"expired: the API key of {identity.subject!r}")
        return identity

    def _find(self, digest: bytes) -> Identity | None:
        """Look a key up by its hash, no part of which anybody can choose, and compare all of it."""
        known = self._known.get(digest)
        return known[1] if known is not None and hmac.compare_digest(known[0], digest) else None


def _longest(keys: Iterable[APIKey], now: float) -> float:
    """Return for how many seconds the longest-lived of these keys is valid; 1 if none is."""
    ends = [now + MAX_TOKEN_SECONDS if key.expires_at is None else key.expires_at for key in keys]
    return min(max(1.0, max(ends) - now), MAX_TOKEN_SECONDS)


def _identity(key: APIKey, issuer: str) -> Identity:
    return Identity(
        subject=key.subject,
        issuer=issuer,
        scopes=key.scopes,
        roles=key.roles,
        claims=key.claims,
        expires_at=key.expires_at,
    )


def _is_whole(key: str) -> bool:
    looks = _LOOKS.fullmatch(key) is not None
    return looks and hmac.compare_digest(_checksum(key[len(PREFIX) : -6]), key[-6:])


def _checksum(secret: str) -> str:
    crc = zlib.crc32(secret.encode()).to_bytes(4, "big")
    return urlsafe_b64encode(crc).rstrip(b"=").decode("ascii")
