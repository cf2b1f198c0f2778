"""A throwaway certificate authority: what it issues is worth nothing outside of one test run."""

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
_DAY = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Issue certificates into a folder; `ca.pem` there is the authority's own."""

    folder: Path
    certificate: x509.Certificate = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    def issue(self, name: str, *names: x509.GeneralName) -> None:
        """Write `name`.pem and `name`.key, for the given subject alternative names."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key.public_key(), self.certificate.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
            critical=False,
        ).sign(self.key, hashes.SHA256())
        self._write(name, certificate, key)

    def client(self, name: str | None = None) -> ssl.SSLContext:
        """Return what trusts this authority alone, and shows the certificate of that name."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if name is not None:
            context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    def _write(self, name: str, certificate: x509.Certificate, key: "_Key") -> None:
        encoding = serialization.Encoding.PEM
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(encoding))
        private = key.private_bytes(
            encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.folder / f"{name}.key").write_bytes(private)


_Key = ec.EllipticCurvePrivateKey


def new_authority(folder: Path, clients: Sequence[str] = ()) -> Authority:
    """Return an authority with a server's certificate for loopback, and one for each client.

    A client `name` is known as `name.example.com`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder("Throwaway authority", key.public_key(), None)
    for extension in (x509.BasicConstraints(ca=True, path_length=0), _SIGNS):
        builder = builder.add_extension(extension, critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    authority = Authority(folder=folder, certificate=certificate, key=key)
    authority.issue("server", LOOPBACK)
    for client in clients:
        authority.issue(client, x509.DNSName(f"{client}.example.com"))
    return authority


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name | None
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
