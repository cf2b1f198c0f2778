"""The client's certificate: from the ASGI TLS extension and from proxies' headers (RFC 8705)."""

import base64
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from support.signing import b64

from xuna_middleware.identity.bound.mtls import (
    CertificateError,
    thumbprint_from_header,
    thumbprint_from_tls,
)


def _certificate() -> x509.Certificate:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    dated = made.not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
    return dated.not_valid_after(datetime(2036, 1, 1, tzinfo=UTC)).sign(key, None)


CERTIFICATE: Final = _certificate()
DER: Final = CERTIFICATE.public_bytes(Encoding.DER)
PEM: Final = CERTIFICATE.public_bytes(Encoding.PEM).decode()
WANTED: Final = b64(sha256(DER).digest())
B64: Final = base64.b64encode(DER)
ESCAPED: Final = quote(PEM, safe="").encode()


@pytest.mark.parametrize(
    "value",
    [
        b":" + B64 + b":",
        ESCAPED,
        quote(PEM, safe="+/=").encode(),
        b'Hash=ab;Cert="' + ESCAPED + b'";Subject="CN=a,O=\\"b\\";Cert=";URI=spiffe://a',
    ],
    ids=["RFC 9440", "nginx", "AWS", "Envoy"],
)
def test_each_proxy_s_form(value: bytes) -> None:
    """RFC 9440, nginx, AWS, Envoy."""
    assert thumbprint_from_header((value,)) == WANTED


@pytest.mark.parametrize(
    "values",
    [
        (), (ESCAPED, ESCAPED), (b"",), (b"::",), (b":AAAA:",), (b":" + B64,), (b"x" * 17_000,),
        (b":" + B64 + b":, :" + B64 + b":",), (ESCAPED + ESCAPED,), (b"(null)",), (ESCAPED[:-40],),
        (b":" + base64.b64encode(DER + b"\0") + b":",), (b"Hash=ab",), (b"Cert=" + ESCAPED,),
        (b'Cert="' + ESCAPED + b'",Cert="' + ESCAPED + b'"',), (PEM.encode() + b"x",),
        (b'Cert="' + ESCAPED + b'";cert="' + ESCAPED + b'"',), (b":" + B64[:-4] + b"AAAA=:",),
    ],
)  # fmt: skip
def test_what_is_no_certificate(values: tuple[bytes, ...]) -> None:
    """Refused: none, repeated, too long, cut, several, trailing octets."""
    with pytest.raises(CertificateError):
        thumbprint_from_header(values)


@pytest.mark.parametrize("escape", [b"%", b"%4", b"%4g", b"%%", b"%" * 15_000])
@pytest.mark.parametrize(
    "form", [b"-%b", b'Cert="%b"', ESCAPED + b"%b"], ids=["PEM", "Envoy", "end"]
)
def test_broken_escapes_are_not_decoded(escape: bytes, form: bytes) -> None:
    """Each would cost many times as much as a sound one."""
    with pytest.raises(CertificateError, match="a broken escape"):
        thumbprint_from_header((form.replace(b"%b", escape),))


def tls(**members: Any) -> dict[str, Any]:
    """Return a scope with the extension."""
    return {"extensions": {"tls": {"client_cert_error": None, **members}}}


def test_the_leaf_of_the_chain_counts() -> None:
    """The first of an iterable."""
    assert thumbprint_from_tls(tls(client_cert_chain=iter([PEM, "other"]))) == WANTED


@pytest.mark.parametrize("scope", [{}, {"extensions": None}, tls(), tls(client_cert_chain=())])
def test_no_certificate(scope: dict[str, Any]) -> None:
    """None, which is no error."""
    assert thumbprint_from_tls(scope) is None


@pytest.mark.parametrize(
    "scope",
    [
        tls(client_cert_chain=[PEM], client_cert_error="expired"),
        *(tls(client_cert_chain=[leaf]) for leaf in (5, "", "é", PEM + PEM, PEM + " " * 17_000)),
    ],
)
def test_a_certificate_that_does_not_count(scope: dict[str, Any]) -> None:
    """One that the server faults, and what is not one certificate."""
    with pytest.raises(CertificateError):
        thumbprint_from_tls(scope)
