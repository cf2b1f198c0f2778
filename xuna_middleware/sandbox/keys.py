"""The provider's signing keys: the newest signs, all that are published verify."""

import secrets
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import RSAKey

ALGORITHM: Final = "RS256"
_BITS: Final = 2048


class SigningKeys:
    """Hold RSA keys, oldest first. The first is made when it is first needed."""

    def __init__(self) -> None:
        self._keys: list[RSAKey] = []

    def sign(self, claims: dict[str, Any], *, typ: str) -> str:
        """Return a signed JWT of that type."""
        key = self._published()[-1]
        header = {"alg": ALGORITHM, "typ": typ, "kid": key.kid}
        return jwt.encode(header, claims, key, algorithms=[ALGORITHM])

    def jwks(self) -> dict[str, Any]:
        """Return the public halves as a JWK set (RFC 7517)."""
        return {"keys": [key.as_dict(private=False) for key in self._published()]}

    def rotate(self) -> str:
        """Make a new key, which signs from now on, and return its kid. Old ones stay published."""
        self._published().append(_new_key())
        return str(self._keys[-1].kid)

    def retire(self) -> None:
        """Publish only the key that signs: what older ones signed is worthless from now on."""
        del self._published()[:-1]

    def _published(self) -> list[RSAKey]:
        if not self._keys:
            self._keys.append(_new_key())
        return self._keys


def _new_key() -> RSAKey:
    kid = f"sandbox-{secrets.token_hex(4)}"
    return RSAKey.generate_key(_BITS, {"kid": kid, "use": "sig", "alg": ALGORITHM})
