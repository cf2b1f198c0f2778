"""What a preset is tried on: tokens and documents of the shape that its provider documents."""

from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httpx
from support.signing import NOW, Signer, bare, changed, rsa_signer

from xuna_middleware import Credentials, Identity

KEY: Final = rsa_signer("key-1")
OTHER_KEY: Final = rsa_signer("key-2")
JWT: Final = {"typ": "JWT"}
AT_JWT: Final = {"typ": "at+jwt"}
CERTIFICATE: Final[dict[str, Any]] = {
    "x5c": ["MIIC+DCCAeCgAwIBAgIJ"],
    "x5t": "NjVBRjY5MDlCMUIwNzU4RTA2QzZF",
}

Claims = dict[str, Any]
HOUR: Final[Claims] = {"iat": NOW - 60, "exp": NOW + 3540}


class Closing(Protocol):
    """What a preset returns, as far as it matters here."""

    async def verify(self, credentials: Credentials) -> Identity: ...

    async def aclose(self) -> None: ...


def public(key: Signer = KEY, **members: Any) -> Claims:
    """Return a key as a provider publishes it, without `alg` unless it is given."""
    return {**bare(key.jwk), "kid": key.kid, "use": "sig", **members}


def published(issuer: str, jwks_uri: str, *keys: Claims, at: str | None = None) -> Claims:
    """Return a provider's documents by address; the metadata is `at` its issuer's place."""
    place = at or f"{issuer}/.well-known/openid-configuration"
    metadata = {"issuer": issuer, "jwks_uri": jwks_uri, "authorization_endpoint": f"{issuer}/auth"}
    return {place: metadata, jwks_uri: {"keys": list(keys) or [public(alg="RS256")]}}


def reach(documents: Mapping[str, Any]) -> Claims:
    """Return the options with which a preset finds these documents, at the tests' time."""

    def serve(request: httpx.Request) -> httpx.Response:
        document = documents.get(str(request.url))
        return httpx.Response(404) if document is None else httpx.Response(200, json=document)

    return {"http_transport": httpx.MockTransport(serve), "clock": lambda: NOW}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Hold a token before it is signed, and the preset that it is shown to."""

    preset: Callable[..., Closing]
    claims: Claims
    header: Claims

    def signed(self, key: Signer = KEY) -> str:
        return key.token(self.claims, {"alg": "RS256", "kid": key.kid, **self.header})

    def but(
        self, header: Claims | None = None, claims: Mapping[str, Any] = {}, **more: Any
    ) -> "Token":
        """Return another, with claims changed; LEFT_OUT takes one away."""
        chosen = self.header if header is None else header
        return Token(
            preset=self.preset, claims=changed(self.claims, {**claims, **more}), header=chosen
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """Say what becomes of a good token; `options` go to the preset."""

    token: Token
    client_id: str | None = None
    scopes: set[str] = field(default_factory=set)
    roles: set[str] = field(default_factory=set)
    options: Claims = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Hold all that is tried on one preset, by what it shows.

    `hints` are calls that can't be meant, with a piece of the fix.
    """

    accepted: Mapping[str, Accepted]
    refused: Mapping[str, Token]
    pasted: tuple[tuple[Callable[[], Any], str], ...]
    hints: tuple[tuple[Callable[[], Any], str], ...]


async def verified(token: Token, key: Signer = KEY, **options: Any) -> Identity:
    """Return whom a preset finds in a token."""
    async with aclosing(token.preset(**options)) as verifier:
        return await verifier.verify(Credentials(scheme="bearer", token=token.signed(key)))
