"""The client's certificate, as its SHA-256 thumbprint (`x5t#S256`, RFC 8705 section 3.1). Pure.

Two sources: the ASGI TLS extension, and the header of a proxy that ended TLS. None of uvicorn 0.54,
hypercorn 0.18 and granian 2.8 fills in the extension, so behind these only the header works.

Does not check: the chain, the dates or revocation; the TLS terminator did. Nor who sent the header:
the caller reads it only from a trusted proxy, which must overwrite any that clients send.
"""

import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from cryptography.x509 import load_der_x509_certificate

#: Of a header's value or a PEM text, in octets.
_MOST: Final = 16 * 1024
_RFC_9440: Final = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")
#: Envoy's Cert; a comma outside of quotes would begin a second element.
_ENVOY: Final = re.compile(rb'(?:[A-Za-z]+=(?:"(?:[^"\\]|\\.)*"|[^",;]*)(?:;|$))+')
_ENVOY_PAIR: Final = re.compile(rb'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)(?:;|$)')
#: Each costs far more to decode than a sound escape does.
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PEM: Final = re.compile(
    rb"\s*-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----\s*"
)


class CertificateError(ValueError):
    """The reason why a certificate can't be read, in fixed words that quote nothing from it."""


def thumbprint_from_tls(scope: Mapping[str, Any]) -> str | None:
    """Return the thumbprint of the connection's own client, None where the server tells none.

    Raises:
        CertificateError: the server found fault with the certificate, or it can't be read.
    """
    tls = (scope.get("extensions") or {}).get("tls") or {}
    chain = tuple(tls.get("client_cert_chain") or ())
    if tls.get("client_cert_error") is not None:
        raise CertificateError("the server found fault with it")
    if not chain:
        return None
    if not isinstance(chain[0], str) or not chain[0].isascii():
        raise CertificateError("not PEM")
    return _from_pem(chain[0].encode("ascii"))


def thumbprint_from_header(values: tuple[bytes, ...]) -> str:
    """Return the thumbprint from a proxy's header: RFC 9440, URL-encoded PEM or Envoy's XFCC.

    Raises:
        CertificateError: repeated, too long, several elements, or in none of these forms.
    """
    if len(values) != 1 or len(values[0]) > _MOST:
        raise CertificateError("the header is repeated or too long")
    value = values[0].strip(b" \t")
    if (found := _RFC_9440.fullmatch(value)) is not None:
        return _from_base64(found[1])
    escaped = value if value[:1] == b"-" else _from_envoy(value)
    if _BROKEN_ESCAPE.search(escaped):
        raise CertificateError("a broken escape")
    return _from_pem(unquote_to_bytes(escaped))


def _from_envoy(value: bytes) -> bytes:
    if not _ENVOY.fullmatch(value):
        raise CertificateError("an unknown form, or several elements")
    pairs = [pair.groups() for pair in _ENVOY_PAIR.finditer(value)]
    certificates = [text for name, text in pairs if name.lower() == b"cert"]
    if len(certificates) != 1 or certificates[0][:1] != b'"':
        raise CertificateError("there must be one Cert")
    return bytes(certificates[0][1:-1])


@lru_cache(maxsize=256)
def _from_pem(pem: bytes) -> str:
    found = _PEM.fullmatch(pem) if len(pem) <= _MOST else None
    if found is None:
        raise CertificateError("not one certificate in PEM")
    return _from_base64(b"".join(found[1].split()))


@lru_cache(maxsize=256)
def _from_base64(text: bytes) -> str:
    """Return the thumbprint of a DER certificate in base64 that has one spelling."""
    try:
        der = b64decode(text, validate=True)
        load_der_x509_certificate(der)
    except (ValueError, Base64Error):
        raise CertificateError("not one X.509 certificate") from None
    if b64encode(der) != text:
        raise CertificateError("not canonical base64")
    return urlsafe_b64encode(sha256(der).digest()).rstrip(b"=").decode("ascii")
