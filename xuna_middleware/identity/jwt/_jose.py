"""JSON Web Signature in its compact form, strictly (RFC 7515, 7518, 8037, 8725, 9864).

Only this module imports joserfc: its algorithm objects do the cryptography, and the parsing is our
own, since any lenient parsing is a second interpretation that an attacker can use.

- A token is three base64url segments and nothing else: no padding, no white space, no unused bits.
- The header names one allowed algorithm; it contains no key (`jwk`, `jku`, `x5u`, `x5c`), no
  extension (`crit`, `b64`), no compression and no nesting (`zip`, `cty`, `enc`).
- A key verifies only with algorithms that its type, curve, `alg`, `use` and `key_ops` allow.
"""

import string
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from xuna_middleware._core.strict_json import SMALL, Bounds, StrictJSONError, strict_object
from xuna_middleware.identity.jwt._roca import has_roca_fingerprint

#: Asymmetric algorithms; `EdDSA` and `Ed25519` are two names of one (RFC 8037, RFC 9864).
ASYMMETRIC: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
#: HMAC, with the secret's minimum length in octets (RFC 7518 section 3.2).
SYMMETRIC: Final = {"HS256": 32, "HS384": 48, "HS512": 64}

MAX_TOKEN_LENGTH: Final = 16 * 1024
MAX_PROOF_LENGTH: Final = 8 * 1024

_RSA_BITS: Final = range(2048, 8192 + 1)
#: Providers have 65537. One of 256 bits, as FIPS 186-5 allows, makes a verification ten times as
#: dear; Go's crypto/rsa takes none of more than 31 bits.
_RSA_EXPONENTS: Final = 2**32
#: Characters of a key's member; the largest RSA modulus has 1,366 in base64url. Importing a longer
#: one would cost up to 200 ms before its size is known.
_LONGEST_MEMBER: Final = 1536
_RSA_ALGORITHMS: Final = frozenset(name for name in ASYMMETRIC if name[:2] in ("RS", "PS"))
_EC_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_EDWARDS: Final = frozenset({"EdDSA", "Ed25519"})
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_FORBIDDEN_HEADERS: Final = frozenset(
    {"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "cty", "enc", "epk"}
)
_TEXT_HEADERS: Final = ("alg", "kid", "typ", "x5t", "x5t#S256")
_VERIFY: Final = {name: JWSRegistry.algorithms[name].verify for name in (*ASYMMETRIC, *SYMMETRIC)}
_ALPHABET: Final = (string.ascii_letters + string.digits + "-_").encode()
_TO_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
#: What a segment may end in, by its length modulo 4, when no unused bit is set.
_LAST: Final = (_ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")


class JOSEError(ValueError):
    """The reason for refusing a token or a key, in fixed words that quote nothing from it."""


class Header(NamedTuple):
    """The relevant parts of a token's header. `typ` is as sent, "" if there is none."""

    algorithm: str
    kid: str | None
    typ: str

    def __repr__(self) -> str:
        return "Header(…)"


class CompactToken(NamedTuple):
    """A token's parts, read but not verified. No rendering shows them."""

    header: Header
    payload: bytes
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        return "CompactToken(…)"


class _ReadyKey:
    """Wrap an imported key for an algorithm that asks for its verification key.

    joserfc's own key checks `use` and `key_ops` at each call; here the import checked them.
    """

    __slots__ = ("curve_key_size", "native")

    def __init__(self, key: Key) -> None:
        self.native = key.get_op_key("verify")
        self.curve_key_size = getattr(key, "curve_key_size", None)

    def get_op_key(self, _: str) -> Any:
        return self.native


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """One imported key and the algorithms it may verify."""

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    key: _ReadyKey = field(repr=False, compare=False)

    def verify(self, token: CompactToken) -> bool:
        """Return whether the token's signature is this key's. Never raises."""
        algorithm = token.header.algorithm
        if algorithm not in self.algorithms:
            return False
        try:
            return _VERIFY[algorithm](token.signing_input, token.signature, self.key)
        except Exception:
            return False


def read_compact(token: str) -> CompactToken:
    """Split a compact JWS and read its header. Doesn't verify anything.

    Raises:
        JOSEError: the token is not exactly as the top of this file describes.
    """
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise JOSEError("too long, or not ASCII")
    raw = token.encode("ascii")
    if raw.translate(None, _ALPHABET) != b"..":
        raise JOSEError("not a compact JWS")
    header, payload, signature = raw.split(b".")
    signing_input = raw[: len(header) + 1 + len(payload)]
    return CompactToken(
        _read_header(header), decode_base64url(payload), signing_input, decode_base64url(signature)
    )


def read_proof(value: bytes) -> tuple[CompactToken, VerificationKey]:
    """Split a DPoP proof (RFC 9449) and import the public key in its header.

    Doesn't verify anything: the caller compares the key's thumbprint.

    Raises:
        JOSEError: the proof is not exactly as the top of this file describes, or its `jwk` is no
            asymmetric public key.
    """
    if len(value) > MAX_PROOF_LENGTH or value.translate(None, _ALPHABET) != b"..":
        raise JOSEError("too long, or not a compact JWS")
    segment, payload, signature = value.split(b".")
    header, key = _read_proof_header(segment)
    signing_input = value[: len(segment) + 1 + len(payload)]
    read = decode_base64url(payload), signing_input, decode_base64url(signature)
    return CompactToken(header, *read), key


def read_object(raw: bytes, bounds: Bounds = SMALL) -> dict[str, Any]:
    """Parse a header, a payload or a document as one strict JSON object, or raise JOSEError."""
    try:
        return strict_object(raw, bounds)
    except StrictJSONError:
        raise JOSEError("not a strict JSON object") from None


def decode_base64url(segment: bytes) -> bytes:
    """Decode an alphabet-checked base64url segment (RFC 7515 section 2) that has one spelling."""
    if segment and segment[-1] not in _LAST[len(segment) % 4]:
        raise JOSEError("not canonical base64url")
    return a2b_base64(segment.translate(_TO_STANDARD) + b"==")


@lru_cache(maxsize=64)
def _read_header(segment: bytes) -> Header:
    """Read a header. All tokens of a key share one, so the last few are kept."""
    return _checked_header(read_object(decode_base64url(segment)), _FORBIDDEN_HEADERS)


@lru_cache(maxsize=256)
def _read_proof_header(segment: bytes) -> tuple[Header, VerificationKey]:
    """Read a proof's header. All proofs of a client share one, so the last few are kept."""
    header = read_object(decode_base64url(segment))
    checked = _checked_header(header, _FORBIDDEN_HEADERS - {"jwk"})
    jwk = header.get("jwk")
    if is_secret(jwk):
        raise JOSEError("a secret as jwk")
    return checked, import_key(jwk)


def _checked_header(header: dict[str, Any], forbidden: frozenset[str]) -> Header:
    if not forbidden.isdisjoint(header):
        raise JOSEError("forbidden header parameter")
    for name in _TEXT_HEADERS:
        if not isinstance(header.get(name, ""), str):
            raise JOSEError("malformed header parameter")
    if "alg" not in header:
        raise JOSEError("no algorithm")
    return Header(algorithm=header["alg"], kid=header.get("kid"), typ=header.get("typ", ""))


def import_key(jwk: Any) -> VerificationKey:
    """Import one JWK (RFC 7517) for verifying, strictly.

    Checks: key type, curve and point, RSA size (2048 to 8192 bits), exponent (65537 to 32 bits)
    and the ROCA fingerprint, the HMAC secret's length for its algorithm, and that `use`, `key_ops`
    and `alg` allow verifying. Private members are refused.

    Raises:
        JOSEError: for any other member of a set.
    """
    if not isinstance(jwk, dict):
        raise JOSEError("not an object")
    _check_purpose(jwk)
    try:
        key, fitting = _import(jwk)
        kid, thumbprint = jwk.get("kid"), key.thumbprint()
    except JOSEError:
        raise
    except Exception:
        raise JOSEError("not a usable key") from None
    if kid is not None and not isinstance(kid, str):
        raise JOSEError("kid is not a string")
    return VerificationKey(
        kid=kid, algorithms=_narrowed(fitting, jwk), thumbprint=thumbprint, key=_ReadyKey(key)
    )


def _check_purpose(jwk: dict[str, Any]) -> None:
    if not _PRIVATE_MEMBERS.isdisjoint(jwk):
        raise JOSEError("private members")
    if jwk.get("use", "sig") != "sig":
        raise JOSEError("use is not sig")
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise JOSEError("key_ops without verify")


def _import(jwk: dict[str, Any]) -> tuple[Key, frozenset[str]]:
    match jwk.get("kty"):
        case "RSA":
            return _import_rsa(jwk)
        case "EC":
            curve = jwk.get("crv")
            if curve not in _EC_ALGORITHMS:
                raise JOSEError("unknown curve")
            return ECKey.import_key(_public(jwk, "crv", "x", "y")), frozenset(
                {_EC_ALGORITHMS[curve]}
            )
        case "OKP":
            if jwk.get("crv") != "Ed25519":
                raise JOSEError("unknown curve")
            return OKPKey.import_key(_public(jwk, "crv", "x")), _EDWARDS
        case "oct":
            return _import_secret(jwk)
    raise JOSEError("unknown key type")


def _public(jwk: dict[str, Any], *members: str) -> dict[str, Any]:
    """Keep only the key's own members, each in its one spelling; the rest is already checked."""
    material = {name: jwk[name] for name in members}
    for name in members:
        if name != "crv":
            _octets(material[name])
    return {"kty": jwk["kty"], **material}


def _octets(text: str) -> bytes:
    raw = text.encode("ascii")
    if not 0 < len(raw) <= _LONGEST_MEMBER or raw.translate(None, _ALPHABET):
        raise JOSEError("empty, too long, or not base64url")
    return decode_base64url(raw)


def _import_rsa(jwk: dict[str, Any]) -> tuple[Key, frozenset[str]]:
    key = RSAKey.import_key(_public(jwk, "n", "e"))
    numbers = key.public_key.public_numbers()
    if numbers.n.bit_length() not in _RSA_BITS or numbers.n % 2 == 0:
        raise JOSEError("RSA modulus of a wrong size")
    if not 2**16 < numbers.e < _RSA_EXPONENTS or numbers.e % 2 == 0:
        raise JOSEError("RSA exponent")
    if has_roca_fingerprint(numbers.n):
        raise JOSEError("RSA modulus with the ROCA fingerprint")
    return key, _RSA_ALGORITHMS


def _import_secret(jwk: dict[str, Any]) -> tuple[Key, frozenset[str]]:
    material = _public(jwk, "k")
    length = len(_octets(material["k"]))
    fitting = frozenset(name for name, least in SYMMETRIC.items() if length >= least)
    if not fitting:
        raise JOSEError("secret too short")
    return OctKey.import_key(material), fitting


def _narrowed(fitting: frozenset[str], jwk: dict[str, Any]) -> frozenset[str]:
    """Return the algorithms of `fitting` that the key's own `alg` allows."""
    if "alg" not in jwk:
        return fitting
    named = jwk["alg"]
    if not isinstance(named, str) or named not in fitting:
        raise JOSEError("alg does not fit the key")
    return _EDWARDS if named in _EDWARDS else frozenset({named})


def import_signing_key(material: Any, algorithm: str) -> Key:
    """Import the operator's private key, PEM or JWK, for signing with an algorithm.

    Raises:
        JOSEError: it is no private key, or not for this algorithm.
    """
    kinds: dict[str, type[Key]] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}
    kind = kinds.get(algorithm[:2]) if algorithm in ASYMMETRIC else None
    if kind is None:
        raise JOSEError("unknown algorithm")
    try:
        key = kind.import_key(dict(material) if isinstance(material, Mapping) else material)
    except Exception:
        raise JOSEError("not a usable key") from None
    if not key.is_private or algorithm not in import_key(key.as_dict(private=False)).algorithms:
        raise JOSEError("not a private key for this algorithm")
    return key


def is_secret(jwk: Any) -> bool:
    """Return whether a member of a set is a symmetric key."""
    return isinstance(jwk, dict) and jwk.get("kty") == "oct"


def has_private_members(jwk: Any) -> bool:
    """Return whether a member of a set reveals a private key."""
    return isinstance(jwk, dict) and not _PRIVATE_MEMBERS.isdisjoint(jwk)
