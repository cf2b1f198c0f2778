"""Keys that are published one by one, each as a PEM at a URL that ends in its kid.

`RemoteKeys` keeps the wanted keys fresh as a set: its rules about cooldown, waiting, failures and
staleness also apply here. The differences, since there is no list of all kids:

- Until a kid has been requested, nobody knows whether there is such a key. Within a cooldown that
  is a 503, not a 401; after the request, a missing one is a 401 for ten seconds without I/O.
- At most eight new kids are requested in one cooldown. A flood of made-up ones that bypasses the
  load balancer can delay a new key while it lasts, but never one that is in use.
- A key stays wanted once it has verified a signature: the latest eight. Others are forgotten at the
  next fetch.
"""

import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from xuna_middleware._core.http import Outbound, OutboundError
from xuna_middleware._core.single_flight import ExpiringSet
from xuna_middleware.errors import InvalidTokenError, UnavailableError
from xuna_middleware.identity.jwt._jose import JOSEError, VerificationKey, import_key
from xuna_middleware.identity.keys.discovery import FETCH_SECONDS
from xuna_middleware.identity.keys.endpoints import KeySourceError
from xuna_middleware.identity.keys.jwks import KeySet
from xuna_middleware.identity.keys.sources import JWKSRefresh, RemoteKeys, unknown_key

#: A kid that may become part of a URL.
KEY_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: One key doesn't bring the others, as a set does: so the wait for the next is shorter.
SHORT_COOLDOWN: Final = JWKSRefresh(cooldown=1)

#: How many new kids are asked for in one cooldown, and how many proven keys are kept.
MOST: Final = 8
_ABSENT_SECONDS: Final = 10.0
_MAX_PEM: Final = 4096
#: S3's status for a missing key: 404 to those who may list, 403 to others.
_ABSENT: Final = (403, 404)
_COORDINATE: Final = 32


class KeysByAddress:
    """Find ES256 keys by kid. Belongs to no event loop, like `RemoteKeys`."""

    def __init__(
        self,
        issuer: str,
        address: str,
        outbound: Outbound,
        freshness: JWKSRefresh | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._outbound = outbound
        self._now = monotonic
        self._wanted: dict[str, None] = {}
        self._proven: dict[str, None] = {}
        self._absent = ExpiringSet[str](_ABSENT_SECONDS)
        kept = SHORT_COOLDOWN if freshness is None else freshness
        self._keys = RemoteKeys(issuer, self._load, _nothing, kept, monotonic=monotonic)
        self._cooldown = kept.cooldown

    @property
    def ready(self) -> bool:
        return self._keys.ready

    def start(self) -> None:
        self._keys.start()

    def stop(self) -> None:
        self._keys.stop()

    async def find(self, kid: str) -> VerificationKey:
        """Return the key, after waiting for it if it is new.

        Raises:
            InvalidTokenError: there is no such key.
            UnavailableError: it can't be known now.
        """
        if key := self._keys.known(kid, "ES256"):
            return key
        if self._absent.has(kid, self._now()):
            raise unknown_key()
        self._want(kid)
        try:
            return await self._keys.find(kid, "ES256")
        except InvalidTokenError:
            if kid in self._wanted:
                raise self._not_yet() from None
            raise

    def proven(self, kid: str) -> None:
        """Keep a key, since it verified a signature."""
        if kid not in self._proven:
            self._proven[kid] = None
            if len(self._proven) > MOST:
                del self._proven[next(iter(self._proven))]

    def _want(self, kid: str) -> None:
        if len(self._wanted) >= MOST and kid not in self._wanted:
            raise self._not_yet()
        self._wanted[kid] = None

    def _not_yet(self) -> UnavailableError:
        return UnavailableError(
            cause="key source: a new key is asked for in a moment", retry_after=self._cooldown
        )

    async def _load(self) -> KeySet:
        """Fetch all wanted keys; one failure fails all, so that the last good set stays."""
        asked = tuple({**self._proven, **self._wanted})
        found = [await self._fetch(kid) for kid in asked]
        for kid, key in zip(asked, found, strict=True):
            self._wanted.pop(kid, None)
            if key is None:
                self._proven.pop(kid, None)
                self._absent.put(kid, self._now())
        keys = [key for key in found if key is not None]
        return KeySet(keys=frozenset(keys), by_kid={str(key.kid): key for key in keys})

    async def _fetch(self, kid: str) -> VerificationKey | None:
        try:
            reply = await self._outbound.request(
                "GET", self._address + kid, max_bytes=_MAX_PEM, timeout=FETCH_SECONDS
            )
        except OutboundError as error:
            raise KeySourceError(f"fetch: {error.kind}") from None
        if reply.status in _ABSENT:
            return None
        if reply.status != 200:
            raise KeySourceError(f"fetch: status {reply.status}")
        return import_pem(reply.body, kid)


def import_pem(pem: bytes, kid: str) -> VerificationKey:
    """Import a published P-256 key.

    Raises:
        JOSEError: it is anything else.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise JOSEError("not a PEM of a public key") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise JOSEError("not a P-256 key")
    point = key.public_numbers()
    x, y = _coordinate(point.x), _coordinate(point.y)
    return import_key({"kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y})


def _coordinate(number: int) -> str:
    octets = number.to_bytes(_COORDINATE, "big")
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def _nothing() -> None:
    """Do nothing: nothing else needs to know that keys changed."""
