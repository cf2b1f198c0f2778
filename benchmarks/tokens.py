"""Make the tokens that every contender is given: RS256, RFC 9068, each one different."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import RSAAlgorithm

ISSUER: Final = "https://login.example"
AUDIENCE: Final = "https://voice.example"
KEY_ID: Final = "2026-01"
TYPE: Final = "at+jwt"


@dataclass(frozen=True, slots=True)
class Mint:
    """Sign access tokens with one RSA-2048 key, made for this run."""

    key: RSAPrivateKey = field(default_factory=lambda: generate_private_key(65537, 2048))

    def tokens(self, count: int, *, first: int = 0) -> list[str]:
        """Return `count` valid tokens, no two alike, good for an hour."""
        return [self.token(number) for number in range(first, first + count)]

    def token(self, number: int) -> str:
        return self.signed(claims(number))

    def signed(self, said: dict[str, Any]) -> str:
        """Return an access token with these claims."""
        headers = {"kid": KEY_ID, "typ": TYPE}
        return jwt.encode(said, self.key, algorithm="RS256", headers=headers)

    def public_jwk(self) -> dict[str, Any]:
        public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        members = {name: public[name] for name in ("kty", "n", "e")}
        return {**members, "kid": KEY_ID, "use": "sig", "alg": "RS256"}


def claims(number: int) -> dict[str, Any]:
    """Return what an access token usually says; `number` makes it a token of its own."""
    now = int(time.time())
    return {
        "iss": ISSUER,
        "sub": f"user-{number}",
        "aud": AUDIENCE,
        "exp": now + 3600,
        "iat": now,
        "jti": f"token-{number}",
        "client_id": "web",
        "scope": "openid profile voice:talk",
    }


def tampered(token: str) -> str:
    """Return the token with another signature of the right shape."""
    signed, _, signature = token.rpartition(".")
    return f"{signed}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
