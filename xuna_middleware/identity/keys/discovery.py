"""Fetch a provider's documents: its metadata (OpenID Connect Discovery 1.0) and its JWK Set.

Nothing in them is followed that the operator didn't vouch for: the `issuer` must be the configured
one to the letter, `jwks_uri` must lie on a trusted host, redirects are never followed, and bytes,
time and the number of keys are bounded.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from xuna_middleware._core.http import Outbound, OutboundError
from xuna_middleware._core.strict_json import DOCUMENT
from xuna_middleware.identity.jwt._jose import JOSEError, read_object
from xuna_middleware.identity.keys.endpoints import EndpointPolicy, KeySourceError
from xuna_middleware.identity.keys.jwks import KeySet, read_fetched_key_set

FETCH_SECONDS: Final = 5.0
_METADATA_SECONDS: Final = 3600


class KeySetAddress:
    """Load a JWK Set from an address that the operator wrote."""

    def __init__(self, url: str, outbound: Outbound) -> None:
        self._url = url
        self._outbound = outbound

    async def load(self) -> KeySet:
        """Fetch and read the set, or raise KeySourceError or JOSEError."""
        return await read_fetched_key_set(await fetch_object(self._outbound, self._url))


class Discovery:
    """Load a JWK Set from the address that the issuer's own metadata names.

    The metadata is read again after an hour, and after a set could not be fetched.
    """

    def __init__(
        self,
        issuer: str,
        metadata_url: str | None,
        policy: EndpointPolicy,
        outbound: Outbound,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._metadata_url = metadata_url or metadata_address(issuer)
        self._policy = policy
        self._outbound = outbound
        self._now = monotonic
        self._jwks_uri: str | None = None
        self._read_at = float("-inf")

    async def load(self) -> KeySet:
        """Fetch and read the set, or raise KeySourceError or JOSEError."""
        if self._jwks_uri is None or self._now() - self._read_at > _METADATA_SECONDS:
            metadata = await fetch_object(self._outbound, self._metadata_url)
            self._jwks_uri = checked_jwks_uri(metadata, self._issuer, self._policy)
            self._read_at = self._now()
        try:
            return await read_fetched_key_set(await fetch_object(self._outbound, self._jwks_uri))
        except (KeySourceError, JOSEError):
            self._jwks_uri = None
            raise


# Authlib is imported where it is used: it brings 50 modules, and who gives keys needs none of them.


def metadata_address(issuer: str) -> str:
    """Return where an issuer's metadata is (OpenID Connect Discovery 1.0 section 4)."""
    from authlib.oidc.discovery import get_well_known_url

    return str(get_well_known_url(issuer, external=True))


def checked_jwks_uri(metadata: Mapping[str, Any], issuer: str, policy: EndpointPolicy) -> str:
    """Return the metadata's `jwks_uri` if the document is the issuer's own. Pure.

    Raises:
        KeySourceError: naming the fix where the issuer differs.
    """
    from authlib.oidc.discovery import OpenIDProviderMetadata

    named = metadata.get("issuer")
    if named != issuer:
        raise KeySourceError(_issuer_hint(named, issuer))
    # First our own look, which bounds what Authlib's `urlsplit` would take minutes to normalize.
    address = policy.check(metadata.get("jwks_uri"))
    try:
        OpenIDProviderMetadata({"jwks_uri": address}).validate_jwks_uri()
    except (ValueError, TypeError, AttributeError):  # the latter two where it is no text
        if not policy.insecure_hosts:
            raise KeySourceError("endpoint: jwks_uri is missing or not https") from None
    return address


def checked_endpoint(
    metadata: Mapping[str, Any], name: str, issuer: str, policy: EndpointPolicy
) -> str:
    """Return an endpoint of the issuer's own metadata, on a host that is trusted. Pure.

    Raises:
        KeySourceError: naming the fix where the issuer differs.
    """
    named = metadata.get("issuer")
    if named != issuer:
        raise KeySourceError(_issuer_hint(named, issuer))
    if name not in metadata:
        raise KeySourceError(f"endpoint: the metadata names no {name}; give it as an option")
    return policy.check(metadata[name])


def _issuer_hint(named: Any, issuer: str) -> str:
    if not isinstance(named, str):
        return "issuer: the document names none"
    slash = {issuer + "/": "with the slash", issuer.rstrip("/"): "without the slash"}
    how = slash.get(named, "exactly so") if named != issuer else "exactly so"
    return f"issuer: the document says {json.dumps(named[:200])}, write it {how}"


async def fetch_object(outbound: Outbound, url: str) -> dict[str, Any]:
    """GET one JSON object, bounded, without following redirects."""
    try:
        reply = await outbound.request(
            "GET",
            url,
            headers={"Accept": "application/json"},
            max_bytes=DOCUMENT.size,
            timeout=FETCH_SECONDS,
        )
    except OutboundError as error:
        raise KeySourceError(f"fetch: {error.kind}") from None
    if reply.status != 200:
        raise KeySourceError(f"fetch: status {reply.status}")
    return read_object(reply.body, DOCUMENT)
