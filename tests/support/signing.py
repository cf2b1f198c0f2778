"""Make tokens by hand: keys are made once, and every part of a token can be bent on its own.

Nothing here asks the library under test or a JOSE library, so that a test's token is exactly what
it says, whatever either of them thinks of it.
"""

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ISSUER: Final = "https://id.example.com"
AUDIENCE: Final = "voice"
#: Seconds since the epoch: the clock of every verifier in these tests.
NOW: Final = 1_800_000_000.0
#: In every secret of these tests, so that one search finds a leak of any.
CANARY: Final = "cAnArY"
#: As a value in `claims()` or `header()`: leave the member out.
LEFT_OUT: Final = object()

Sign = Callable[[bytes], bytes]

_HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "256": hashes.SHA256(),
    "384": hashes.SHA384(),
    "512": hashes.SHA512(),
}


@dataclass(frozen=True, kw_only=True)
class Signer:
    """Hold one private key, its public JWK, and how it signs."""

    kid: str
    algorithm: str
    jwk: Mapping[str, Any]
    sign: Sign = field(repr=False)

    def token(self, claims: Any = None, header: Any = None) -> str:
        """Return a compact token with this key's good header and claims, or with others."""
        return compact(
            self.header() if header is None else header,
            good_claims() if claims is None else claims,
            self.sign,
        )

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return the header of a good token, changed."""
        return changed({"alg": self.algorithm, "kid": self.kid, "typ": "at+jwt"}, changes)


def good_claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good access token, changed."""
    good = {
        "iss": ISSUER,
        "sub": "user-1",
        "aud": AUDIENCE,
        "iat": NOW - 10,
        "exp": NOW + 600,
        "client_id": "app",
        "scope": "voice:talk openid",
    }
    return changed(good, changes)


def changed(members: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return members with changes; LEFT_OUT drops one."""
    merged = {**members, **changes}
    return {name: value for name, value in merged.items() if value is not LEFT_OUT}


def compact(header: Any, payload: Any, sign: Sign) -> str:
    """Join a compact token; header and payload are JSON values, or the very bytes."""
    signing_input = f"{b64(raw(header))}.{b64(raw(payload))}"
    return f"{signing_input}.{b64(sign(signing_input.encode('ascii')))}"


def proof(
    signer: Signer, token: str, url: str, *, header: Mapping[str, Any] = {}, **changes: Any
) -> bytes:
    """Return a DPoP proof for a GET of an address with a token, changed (RFC 9449 section 4.2)."""
    good_header = {"typ": "dpop+jwt", "alg": signer.algorithm, "jwk": bare(signer.jwk)}
    ath = b64(hashlib.sha256(token.encode()).digest())
    good = {"jti": "proof-1", "htm": "GET", "htu": url, "iat": NOW, "ath": ath}
    return compact(changed(good_header, header), changed(good, changes), signer.sign).encode()


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return a public key's SHA-256 thumbprint (RFC 7638)."""
    members = {"RSA": ("e", "kty", "n"), "EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x")}
    needed = {name: jwk[name] for name in members[jwk["kty"]]}
    return b64(hashlib.sha256(json.dumps(needed, separators=(",", ":")).encode()).digest())


def bare(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """Return a key without what a set says of it."""
    return {name: value for name, value in jwk.items() if name not in ("kid", "use", "alg")}


def segments(header: str, payload: str, sign: Sign) -> str:
    """Join ready-made segments, however odd, and sign them as they stand."""
    signing_input = f"{header}.{payload}"
    return f"{signing_input}.{b64(sign(signing_input.encode('utf-8')))}"


def raw(value: Any) -> bytes:
    """Return bytes as they are, and anything else as JSON."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def b64(octets: bytes) -> str:
    """Return base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def unb64(segment: str) -> bytes:
    """Return the octets of a base64url segment."""
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def hmac_signer(secret: bytes, algorithm: str = "HS256") -> Sign:
    """Return how a secret signs."""
    digest = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}[algorithm[2:]]
    return lambda message: hmac.new(secret, message, digest).digest()


@cache
def rsa_key(bits: int = 2048, number: int = 0, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """Return an RSA key, made once; `number` tells several apart."""
    return rsa.generate_private_key(exponent, bits)


@cache
def rsa_signer(kid: str = "rsa", algorithm: str = "RS256", bits: int = 2048) -> Signer:
    """Return a signer with a key of its own for each kid but the usual, which all share."""
    return _rsa_signer(rsa_key(bits, 0 if kid == "rsa" else hash(kid)), kid, algorithm)


def _rsa_signer(key: rsa.RSAPrivateKey, kid: str, algorithm: str) -> Signer:
    digest = _HASHES[algorithm[2:]]
    scheme: padding.AsymmetricPadding = (
        padding.PSS(padding.MGF1(digest), digest.digest_size)
        if algorithm.startswith("PS")
        else padding.PKCS1v15()
    )
    return Signer(
        kid=kid,
        algorithm=algorithm,
        jwk={"kid": kid, "use": "sig", **rsa_jwk(key.public_key())},
        sign=lambda message: key.sign(message, scheme, digest),
    )


#: The primes up to 167, by which ROCA keys are told, multiplied.
PRIMORIAL: Final = math.prod(n for n in range(3, 168) if all(n % d for d in range(2, n)))


@cache
def roca_signer() -> Signer:
    """Return a signer with a working key of the flawed generator's form (CVE-2017-15361)."""
    top = (3 << 1022) // PRIMORIAL
    p, q = (
        pow(65537, power, PRIMORIAL) + (top + more) * PRIMORIAL
        for power, more in ((3, 360), (2, 362))
    )
    d = pow(65537, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        *(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p)),
        rsa.RSAPublicNumbers(65537, p * q),
    )
    return _rsa_signer(numbers.private_key(), "roca", "RS256")


@cache
def exponent_signer(least: int) -> Signer:
    """Return a signer with a working RSA key whose exponent is `least`, odd, or little more."""
    numbers = rsa_key().private_numbers()
    p, q = numbers.p, numbers.q
    order = (p - 1) * (q - 1)
    exponent = next(e for e in range(least, least + 10_000, 2) if math.gcd(e, order) == 1)
    d = pow(exponent, -1, order)
    key = rsa.RSAPrivateNumbers(
        *(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p)),
        rsa.RSAPublicNumbers(exponent, p * q),
    )
    return _rsa_signer(key.private_key(), "exponent", "RS256")


def rsa_jwk(key: rsa.RSAPublicKey) -> dict[str, Any]:
    """Return the members of an RSA public key."""
    numbers = key.public_numbers()
    return {"kty": "RSA", "n": b64(octets(numbers.n)), "e": b64(octets(numbers.e))}


_CURVES: Final[Mapping[str, tuple[str, ec.EllipticCurve, int]]] = {
    "ES256": ("P-256", ec.SECP256R1(), 32),
    "ES384": ("P-384", ec.SECP384R1(), 48),
    "ES512": ("P-521", ec.SECP521R1(), 66),
}


@cache
def ec_signer(kid: str = "ec", algorithm: str = "ES256") -> Signer:
    """Return an elliptic-curve signer; signatures are R and S side by side (RFC 7518, 3.4)."""
    name, curve, size = _CURVES[algorithm]
    key = ec.generate_private_key(curve)
    numbers = key.public_key().public_numbers()
    digest = ec.ECDSA(_HASHES[algorithm[2:]])

    def sign(message: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(message, digest))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    point = {"x": b64(numbers.x.to_bytes(size, "big")), "y": b64(numbers.y.to_bytes(size, "big"))}
    jwk = {"kty": "EC", "crv": name, "kid": kid, "use": "sig", **point}
    return Signer(kid=kid, algorithm=algorithm, jwk=jwk, sign=sign)


@cache
def ed_signer(kid: str = "ed", algorithm: str = "EdDSA") -> Signer:
    """Return an Ed25519 signer; `EdDSA` and `Ed25519` are two names of it."""
    key = ed25519.Ed25519PrivateKey.generate()
    x = b64(key.public_key().public_bytes_raw())
    jwk = {"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": x}
    return Signer(kid=kid, algorithm=algorithm, jwk=jwk, sign=key.sign)


def octets(number: int) -> bytes:
    """Return a number's shortest big-endian octets."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def jwks(*signers: Signer) -> dict[str, Any]:
    """Return a JWK Set of public keys."""
    return {"keys": [dict(signer.jwk) for signer in signers]}


RSA: Final = rsa_signer()
EC: Final = ec_signer()
ED: Final = ed_signer()
#: What the verifiers of these tests know unless told otherwise.
KEYS: Final = jwks(RSA, EC, ED)
