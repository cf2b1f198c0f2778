"""Keys and sets of keys, as values: what is imported, for which algorithms, and what is found."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from support.signing import (
    CANARY,
    EC,
    ED,
    PRIMORIAL,
    RSA,
    b64,
    ec_signer,
    exponent_signer,
    jwks,
    octets,
    roca_signer,
    rsa_jwk,
    rsa_key,
    rsa_signer,
)

from xuna_middleware.identity.jwt._jose import JOSEError, import_key, read_compact
from xuna_middleware.identity.jwt._roca import has_roca_fingerprint
from xuna_middleware.identity.keys.jwks import MAX_KEYS, read_key_set, read_secrets

RSA_ALL: Final = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


def oct_key(length: int, **members: Any) -> dict[str, Any]:
    """Return a secret of so many octets."""
    return {"kty": "oct", "kid": "s", "k": b64(b"k" * length), **members}


FITTING: Final[Mapping[str, tuple[dict[str, Any], set[str]]]] = {
    "RSA": (dict(RSA.jwk), RSA_ALL),
    "RSA for RS256": ({**RSA.jwk, "alg": "RS256"}, {"RS256"}),
    "RSA for PS512": ({**RSA.jwk, "alg": "PS512"}, {"PS512"}),
    "RSA without use": ({k: v for k, v in RSA.jwk.items() if k != "use"}, RSA_ALL),
    "RSA with key_ops": ({**RSA.jwk, "key_ops": ["verify", "wrapKey"]}, RSA_ALL),
    "RSA with certificates": ({**RSA.jwk, "x5c": ["x"], "x5t": "y", "x5u": "z"}, RSA_ALL),
    "P-256": (dict(EC.jwk), {"ES256"}),
    "P-384": (dict(ec_signer("e384", "ES384").jwk), {"ES384"}),
    "P-521": (dict(ec_signer("e512", "ES512").jwk), {"ES512"}),
    "Ed25519": (dict(ED.jwk), {"EdDSA", "Ed25519"}),
    "Ed25519 for EdDSA": ({**ED.jwk, "alg": "EdDSA"}, {"EdDSA", "Ed25519"}),
    "Ed25519 for Ed25519": ({**ED.jwk, "alg": "Ed25519"}, {"EdDSA", "Ed25519"}),
    "a secret of 32": (oct_key(32), {"HS256"}),
    "a secret of 48": (oct_key(48), {"HS256", "HS384"}),
    "a secret of 64": (oct_key(64), {"HS256", "HS384", "HS512"}),
    "a secret for HS384": (oct_key(64, alg="HS384"), {"HS384"}),
}


@pytest.mark.parametrize(("jwk", "algorithms"), FITTING.values(), ids=FITTING.keys())
def test_algorithms_that_a_key_may_verify(jwk: dict[str, Any], algorithms: set[str]) -> None:
    """By type, curve, length, and the key's own `alg`."""
    assert import_key(jwk).algorithms == algorithms


REFUSED: Final[Mapping[str, Any]] = {
    "no object": "x",
    "nothing": None,
    "no type": {},
    "unknown type": {"kty": "XYZ"},
    "AKP": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
    "P-256K": {**EC.jwk, "crv": "secp256k1"},
    "Ed448": {**ED.jwk, "crv": "Ed448"},
    "X25519": {**ED.jwk, "crv": "X25519"},
    "curve a list": {**EC.jwk, "crv": ["P-256"]},
    "no point": {"kty": "EC", "crv": "P-256"},
    "half a point": {**EC.jwk, "y": None},
    "point off the curve": {**EC.jwk, "x": b64(b"\1" * 32)},
    "point at infinity": {**EC.jwk, "x": b64(bytes(32)), "y": b64(bytes(32))},
    "point too long": {**EC.jwk, "x": b64(bytes(1) + b"\1" * 32)},
    "Ed25519 too short": {**ED.jwk, "x": b64(b"\1" * 31)},
    "n with padding": {**RSA.jwk, "n": RSA.jwk["n"] + "="},
    "n with a newline": {**RSA.jwk, "n": RSA.jwk["n"] + "\n"},
    "n in standard base64": {**RSA.jwk, "n": "+/" + RSA.jwk["n"][2:]},
    "n empty": {**RSA.jwk, "n": ""},
    "n zero": {**RSA.jwk, "n": "AA"},
    "e with unused bits": {**RSA.jwk, "e": "AQB"},
    "e zero": {**RSA.jwk, "e": "AA"},
    "e of 257 bits": {**RSA.jwk, "e": b64(b"\1" + b"\1" * 32)},
    "use enc": {**RSA.jwk, "use": "enc"},
    "use null": {**RSA.jwk, "use": None},
    "key_ops empty": {**RSA.jwk, "key_ops": []},
    "key_ops null": {**RSA.jwk, "key_ops": None},
    "key_ops of sign": {**RSA.jwk, "key_ops": ["sign"]},
    "alg none": {**RSA.jwk, "alg": "none"},
    "alg a list": {**RSA.jwk, "alg": ["RS256"]},
    "alg of P-384": {**EC.jwk, "alg": "ES384"},
    "alg HS256 on RSA": {**RSA.jwk, "alg": "HS256"},
    "alg HS512 on 32 octets": oct_key(32, alg="HS512"),
    "alg of AES": oct_key(32, alg="A256GCM"),
    "a secret of 31": oct_key(31),
    "an empty secret": {"kty": "oct", "k": ""},
    "a secret of a list": {"kty": "oct", "k": ["x"]},
    "kid a number": {**RSA.jwk, "kid": 1},
    "kid a list": {**RSA.jwk, "kid": ["rsa"]},
    **{f"private {name}": {**RSA.jwk, name: "AQAB"} for name in ("d", "p", "q", "dp", "dq", "qi")},
    "other primes": {**RSA.jwk, "oth": []},
}


@pytest.mark.parametrize("jwk", REFUSED.values(), ids=REFUSED.keys())
def test_key_that_is_refused(jwk: Any) -> None:
    """With one kind of error, in fixed words."""
    with pytest.raises(JOSEError) as caught:
        import_key(jwk)
    assert len(str(caught.value)) < 60


@pytest.mark.filterwarnings("ignore:Key size")  # joserfc warns, we refuse
@pytest.mark.parametrize("bits", [1024, 2040])
def test_rsa_too_small(bits: int) -> None:
    """2048 bits at least (RFC 7518 section 3.3)."""
    with pytest.raises(JOSEError, match="size"):
        import_key(rsa_jwk(rsa_key(bits).public_key()))


@pytest.mark.parametrize("octets", [b"\xff" * 1025, b"\1" + b"\xff" * 1024], ids=["8200", "8193"])
def test_rsa_too_large(octets: bytes) -> None:
    """8192 bits at most: a verification of more is a denial of service."""
    with pytest.raises(JOSEError, match="size"):
        import_key({**RSA.jwk, "n": b64(octets)})


def test_rsa_exponents() -> None:
    """Up to 32 bits: what a larger one makes dear is each verification."""
    signer = exponent_signer(2**32 - 201)
    assert import_key(signer.jwk).algorithms
    for exponent in (2**32 + 1, 2**64 + 1, 2**255 + 1):
        with pytest.raises(JOSEError, match="exponent"):
            import_key({**RSA.jwk, "e": b64(octets(exponent))})


def test_roca_fingerprint() -> None:
    """A number of the flawed generator's form has it (CVE-2017-15361); a real key has not."""
    flawed = pow(65537, 12345, PRIMORIAL) + PRIMORIAL * 10**500
    assert has_roca_fingerprint(flawed)
    assert not has_roca_fingerprint(rsa_key().public_key().public_numbers().n)
    assert not has_roca_fingerprint(flawed + 2)


def test_roca_key_is_refused() -> None:
    """A working key of 2048 bits, and all the same one whose primes can be found."""
    with pytest.raises(JOSEError, match="ROCA"):
        import_key(roca_signer().jwk)


def test_key_shows_no_material() -> None:
    """The repr names it by kid and thumbprint; a secret's doesn't even do that."""
    key = import_key(oct_key(40, k=b64(CANARY.encode() * 8)))
    assert b64(CANARY.encode() * 8) not in repr(key)
    assert CANARY not in repr(key)


def test_set_finds_by_kid_and_algorithm() -> None:
    """A kid is a key of a dictionary; without one, exactly one key must fit."""
    keys = read_key_set(jwks(RSA, EC))
    assert keys.find("rsa", "RS256") is keys.find(None, "RS256")
    assert keys.find("nobody", "RS256") is None
    assert keys.find("", "RS256") is None
    for kid, algorithm in (("rsa", "ES256"), ("rsa", "HS256"), (None, "EdDSA"), (None, "none")):
        with pytest.raises(JOSEError):
            keys.find(kid, algorithm)


def test_key_without_kid() -> None:
    """It is found by algorithm alone, never by an empty kid."""
    keys = read_key_set({"keys": [{k: v for k, v in RSA.jwk.items() if k != "kid"}]})
    found = keys.find(None, "PS256")
    assert found is not None
    assert found.kid is None
    assert keys.find("", "PS256") is None


def test_several_keys_without_kid() -> None:
    """Two of them are ambiguous, two alike are one."""
    bare = [{k: v for k, v in each.jwk.items() if k != "kid"} for each in (RSA, rsa_signer("two"))]
    with pytest.raises(JOSEError):
        read_key_set({"keys": bare}).find(None, "RS256")
    assert read_key_set({"keys": [bare[0], bare[0]]}).find(None, "RS256")


AMBIGUOUS: Final[Mapping[str, dict[str, Any]]] = {
    "another key": {"kid": "rsa", **rsa_jwk(rsa_key(2048, 9).public_key())},
    "another type": {**EC.jwk, "kid": "rsa"},
    "another purpose": {**RSA.jwk, "alg": "RS512"},
    "material that can't be read": {**RSA.jwk, "n": RSA.jwk["n"] + "="},
    "material that is too weak": {**RSA.jwk, "n": b64(b"\xff" * 128)},
}


@pytest.mark.parametrize("other", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
@pytest.mark.parametrize("order", [1, -1])
def test_one_kid_of_two_keys_names_neither(other: dict[str, Any], order: int) -> None:
    """Whichever comes first; keys beside them stay."""
    keys = read_key_set({"keys": [*[dict(RSA.jwk), other][::order], dict(EC.jwk)]})
    assert keys.find("rsa", "RS256") is None
    assert keys.find("ec", "ES256")


def test_same_key_twice_is_one() -> None:
    """A provider that repeats itself says nothing new."""
    keys = read_key_set({"keys": [dict(RSA.jwk), dict(RSA.jwk)]})
    assert keys.find("rsa", "RS256")


def test_same_key_under_two_kids() -> None:
    """Each is found; without a kid neither is."""
    keys = read_key_set({"keys": [dict(RSA.jwk), {**RSA.jwk, "kid": "again"}]})
    assert keys.find("again", "RS256")
    with pytest.raises(JOSEError):
        keys.find(None, "RS256")


def test_sets_of_secrets() -> None:
    """Secrets stand alone, and only where an operator gives them; nobody publishes any."""
    assert read_secrets({"keys": [oct_key(32)]}).find("s", "HS256")
    mixed = {"keys": [oct_key(32), dict(RSA.jwk)]}
    for read in (read_key_set, read_secrets):
        with pytest.raises(JOSEError):
            read(mixed)
    with pytest.raises(JOSEError):
        read_key_set({"keys": [oct_key(32)]})


@pytest.mark.parametrize("other", [oct_key(31, kid="t"), oct_key(40), oct_key(32, kid=7), {}])
def test_every_secret_must_be_good(other: Any) -> None:
    """Too short, of a kid that is taken, or nothing at all: the operator's mistake."""
    with pytest.raises(JOSEError):
        read_secrets({"keys": [oct_key(32), other]})


def test_size_of_a_set() -> None:
    """A hundred members are read, one more is none."""
    filler: list[Any] = [{}] * (MAX_KEYS - 1)
    assert read_key_set({"keys": [dict(RSA.jwk), *filler]}).find("rsa", "RS256")
    with pytest.raises(JOSEError, match="at most"):
        read_key_set({"keys": [dict(RSA.jwk), *filler, {}]})


def test_key_verifies_nothing_else() -> None:
    """A token of another algorithm is false for it, and so is whatever the cryptography raises."""
    rsa, parts = import_key(dict(RSA.jwk)), read_compact(RSA.token())
    assert rsa.verify(parts)
    assert not rsa.verify(read_compact(EC.token()))
    mixed_up = replace(rsa, key=import_key(dict(EC.jwk)).key)
    assert not mixed_up.verify(parts)
