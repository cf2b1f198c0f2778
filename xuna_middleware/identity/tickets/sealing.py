"""Seal a token into the stored record of a ticket, so that only the ticket's holder can open it.

The key is derived from the ticket's own text (256 random bits) by HKDF-SHA256. The store holds the
text's SHA-256 as the record's name, from which nobody can derive the key. AES-256-GCM ensures that
neither the token nor the record's issuer changed after sealing: the token is sent to that issuer's
provider. Each key seals one token.
"""

import secrets
from base64 import b64decode, b64encode
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from xuna_middleware.errors import InvalidTokenError
from xuna_middleware.identity.rechecks import HeldToken

#: Separates this use of a ticket's text from any other.
_PURPOSE: Final = b"xuna-gate ticket: the token that proved its holder, v1"
_KEY_OCTETS: Final = 32
_NONCE_OCTETS: Final = 12


def seal(ticket: str, token: HeldToken) -> str:
    """Return a token encrypted for a ticket's record."""
    nonce = secrets.token_bytes(_NONCE_OCTETS)
    sealed = _cipher(ticket).encrypt(nonce, token.reveal().encode(), _octets(token.issuer))
    return b64encode(nonce + sealed).decode("ascii")


def unseal(ticket: str, sealed: str, issuer: str) -> HeldToken:
    """Return an issuer's token that was sealed with a ticket.

    Raises:
        InvalidTokenError: another ticket or issuer sealed it, or it was changed.
    """
    try:
        octets = b64decode(sealed)
        nonce, rest = octets[:_NONCE_OCTETS], octets[_NONCE_OCTETS:]
        text = _cipher(ticket).decrypt(nonce, rest, _octets(issuer)).decode()
    except (InvalidTag, ValueError):
        raise InvalidTokenError(cause="ticket: the token in its record can't be opened") from None
    return HeldToken(text, issuer)


def _octets(issuer: str) -> bytes:
    return issuer.encode("utf-8", "surrogatepass")


def _cipher(ticket: str) -> AESGCM:
    derived = HKDF(SHA256(), length=_KEY_OCTETS, salt=None, info=_PURPOSE)
    return AESGCM(derived.derive(ticket.encode()))
