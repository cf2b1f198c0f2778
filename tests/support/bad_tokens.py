"""Every way a token can be bad, by name (the rows of "Tokens and keys"), each made by hand.

`FOR_ANYBODY` are bad for the usual verifier. `FOR_PLAIN_JWT` are bad even for one that was told to
accept `typ: JWT`. All but the named fault is good in each, so that nothing else can refuse it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives import serialization

from support.signing import (
    AUDIENCE,
    EC,
    ED,
    ISSUER,
    LEFT_OUT,
    NOW,
    RSA,
    b64,
    compact,
    ec_signer,
    good_claims,
    hmac_signer,
    raw,
    rsa_key,
    rsa_signer,
    segments,
    unb64,
)

Make = Callable[[], str]
PLAIN: Final = {"typ": "JWT"}
STRANGER: Final = rsa_signer("stranger")

_HEADER: Final = b64(raw(RSA.header()))
_PAYLOAD: Final = b64(raw(good_claims()))


def with_header(**changes: Any) -> Make:
    """Return a token whose header is changed, signed well."""
    return lambda: RSA.token(header=RSA.header(**changes))


def with_claims(**changes: Any) -> Make:
    """Return a token whose claims are changed, signed well."""
    return lambda: RSA.token(good_claims(**changes))


def with_payload(payload: bytes) -> Make:
    """Return a token with these very octets as payload, signed well."""
    return lambda: RSA.token(payload)


def with_raw_header(text: bytes) -> Make:
    """Return a token with these very octets as header, signed well."""
    return lambda: compact(text, good_claims(), RSA.sign)


def inserted(text: str) -> bytes:
    """Return a payload with `text` as one more member, as it stands."""
    return json.dumps(good_claims())[:-1].encode() + b"," + text.encode() + b"}"


def reshaped(reshape: Callable[[list[str]], str]) -> Make:
    """Return a good token whose three segments are put together in another way."""
    return lambda: reshape(RSA.token().split("."))


def in_segment(number: int, respell: Callable[[str], str], *, resigned: bool = True) -> Make:
    """Respell one segment of a good token; the signature is of the respelt one."""

    def make() -> str:
        header, payload, signature = RSA.token().split(".")
        parts = [header, payload, signature]
        parts[number] = respell(parts[number])
        return (
            segments(parts[0], parts[1], RSA.sign) if number < 2 and resigned else ".".join(parts)
        )

    return make


def unused_bit_set(segment: str) -> str:
    """Respell the last letter of a segment so that it decodes to the same octets."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(segment) % 4 in (2, 3), "this segment has no unused bits"
    respelt = segment[:-1] + alphabet[alphabet.index(segment[-1]) + 1]
    assert unb64(respelt) == unb64(segment)
    return respelt


def payload_with_unused_bits() -> str:
    """Return a signed token whose payload segment has a second spelling."""
    for padding in ("", " ", "  "):
        payload = b64(json.dumps(good_claims()).encode() + padding.encode())
        if len(payload) % 4:
            return segments(_HEADER, unused_bit_set(payload), RSA.sign)
    raise AssertionError("one of three lengths has unused bits")


def with_public_key_as_secret(encoding: Callable[[], bytes], algorithm: str) -> Make:
    """Return a token that is authenticated with what everybody knows."""

    def make() -> str:
        header = RSA.header(alg=algorithm)
        return compact(header, good_claims(), hmac_signer(encoding(), algorithm))

    return make


def pem() -> bytes:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def pkcs1_pem() -> bytes:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    )


def der() -> bytes:
    return (
        rsa_key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def jwk_json() -> bytes:
    return json.dumps(RSA.jwk).encode()


def unsigned(algorithm: str) -> Make:
    """Return an unsecured token, with and without anything in place of a signature."""
    return lambda: f"{b64(raw(RSA.header(alg=algorithm)))}.{_PAYLOAD}."


def pretending(algorithm: str) -> Make:
    """Return an unsecured token with something in place of its signature."""
    return lambda: f"{b64(raw(RSA.header(alg=algorithm)))}.{_PAYLOAD}.AAAA"


ALGORITHMS: Final[Mapping[str, Make]] = {
    **{f"alg {name}, no signature": unsigned(name) for name in ("none", "None", "NONE", "nOnE")},
    **{f"alg {name}, some signature": pretending(name) for name in ("none", "NONE", "nOnE", "")},
    "alg with a space": with_header(alg="RS256 "),
    "alg in lower case": with_header(alg="rs256"),
    "alg missing": with_header(alg=LEFT_OUT),
    "alg null": with_header(alg=None),
    "alg a list": with_header(alg=["RS256"]),
    "alg a number": with_header(alg=256),
    "alg an object": with_header(alg={"RS256": True}),
    "alg unknown": with_header(alg="XS256"),
    "alg of encryption": with_header(alg="RSA-OAEP"),
    "alg ES256K": with_header(alg="ES256K"),
    "alg Ed448": with_header(alg="Ed448"),
    **{
        f"{algorithm} with the public key as {name}": with_public_key_as_secret(encoding, algorithm)
        for algorithm in ("HS256", "HS384", "HS512")
        for name, encoding in {
            "PEM": pem,
            "PKCS1 PEM": pkcs1_pem,
            "DER": der,
            "JWK": jwk_json,
        }.items()
    },
    "PS256 for a key's RS256 signature": with_header(alg="PS256"),
    "RS384 for a key's RS256 signature": with_header(alg="RS384"),
    "ES256 with an RSA key's kid": with_header(alg="ES256"),
    "RS256 with an EC key's kid": lambda: RSA.token(header=RSA.header(kid="ec")),
    "EdDSA with an EC key's kid": lambda: ED.token(header=ED.header(kid="ec")),
    "ES384 with a P-256 key": lambda: ec_signer("p384", "ES384").token(
        header={"alg": "ES384", "kid": "ec", "typ": "at+jwt"}
    ),
}

HEADERS: Final[Mapping[str, Make]] = {
    "jwk": lambda: STRANGER.token(header=STRANGER.header(jwk=dict(STRANGER.jwk))),
    "jwk of the very key": with_header(jwk=dict(RSA.jwk)),
    "jwk without kid": lambda: STRANGER.token(
        header=STRANGER.header(jwk=dict(STRANGER.jwk), kid=LEFT_OUT)
    ),
    "jku": with_header(jku="https://evil.example/keys"),
    "jku of the issuer": with_header(jku=ISSUER + "/keys"),
    "x5u": with_header(x5u="https://evil.example/cert"),
    "x5c": with_header(x5c=["MIIB"]),
    "kid a number": with_header(kid=7),
    "kid null": with_header(kid=None),
    "kid a list": with_header(kid=["rsa"]),
    "kid an object": with_header(kid={"rsa": 1}),
    "kid of a path": with_header(kid="../../../../dev/null"),
    "kid of SQL": with_header(kid="rsa' OR '1'='1"),
    "kid of 10 KB": with_header(kid="k" * 10_000),
    "kid empty": with_header(kid=""),
    "kid in upper case": with_header(kid="RSA"),
    "kid with a NUL": with_header(kid="rsa\0"),
    "kid unknown": lambda: STRANGER.token(),
    "kid of another key": lambda: STRANGER.token(header=STRANGER.header(kid="rsa")),
    "no kid, and several keys": with_header(kid=LEFT_OUT, alg="RS999"),
    "crit unknown": with_header(crit=["exp2"], exp2=1),
    "crit empty": with_header(crit=[]),
    "crit of a registered parameter": with_header(crit=["alg"]),
    "crit of an absent member": with_header(crit=["absent"]),
    "crit null": with_header(crit=None),
    "crit a text": with_header(crit="exp"),
    "crit b64": with_header(crit=["b64"], b64=True),
    "b64 false": with_header(b64=False),
    "b64 false and critical": with_header(b64=False, crit=["b64"]),
    "zip": with_header(zip="DEF"),
    "cty JWT": with_header(cty="JWT"),
    "enc": with_header(enc="A256GCM"),
    "typ missing": with_header(typ=LEFT_OUT),
    "typ empty": with_header(typ=""),
    "typ null": with_header(typ=None),
    "typ a list": with_header(typ=["at+jwt"]),
    "typ JWT": with_header(typ="JWT"),
    "typ logout+jwt": with_header(typ="logout+jwt"),
    "typ secevent+jwt": with_header(typ="secevent+jwt"),
    "typ dpop+jwt": with_header(typ="dpop+jwt"),
    "typ client-authentication+jwt": with_header(typ="client-authentication+jwt"),
    "typ application twice": with_header(typ="application/application/at+jwt"),
    "typ with a space": with_header(typ="at+jwt "),
    "typ text/at+jwt": with_header(typ="text/at+jwt"),
}

SHAPES: Final[Mapping[str, Make]] = {
    "JWE of five segments": lambda: f"{b64(raw(RSA.header(enc='A256GCM')))}.AAAA.AAAA.AAAA.AAAA",
    "two segments": reshaped(lambda parts: ".".join(parts[:2])),
    "one segment": reshaped(lambda parts: parts[0]),
    "four segments": reshaped(lambda parts: ".".join([*parts, parts[2]])),
    "detached payload": reshaped(lambda parts: f"{parts[0]}..{parts[2]}"),
    "no header": reshaped(lambda parts: f".{parts[1]}.{parts[2]}"),
    "no signature": reshaped(lambda parts: f"{parts[0]}.{parts[1]}."),
    "header twice": reshaped(lambda parts: f"{parts[0]}.{parts[0]}.{parts[2]}"),
    "signature cut": reshaped(lambda parts: ".".join(parts)[:-4]),
    "signature longer": reshaped(lambda parts: ".".join(parts) + "AAAA"),
    "signature of zeros": reshaped(lambda parts: f"{parts[0]}.{parts[1]}.{'A' * len(parts[2])}"),
    "signature of another token": reshaped(
        lambda parts: f"{parts[0]}.{b64(raw(good_claims(sub='boss')))}.{parts[2]}"
    ),
    "unused bits in the signature": in_segment(2, unused_bit_set),
    "unused bits in the payload": payload_with_unused_bits,
    "a segment of length 1 mod 4": reshaped(lambda parts: f"{parts[0]}A.{parts[1]}.{parts[2]}"),
    "plus and slash": reshaped(
        lambda parts: f"{parts[0]}.{parts[1]}.{(parts[2][:-8] + 'ab-_ab-_').replace('-', '+')}"
    ),
    "opaque": lambda: "2YotnFZFEjr1zCsicMWpAA",
    "a dot": lambda: ".",
    "two dots": lambda: "..",
    "tildes": reshaped("~".join),
    "nearly 16 KB, and cut": lambda: RSA.token(good_claims(pad="x" * 11_800))[:16_200],
}

JSON: Final[Mapping[str, Make]] = {
    "duplicate claim": with_payload(inserted('"sub": "user-1"')),
    "duplicate claim by escape": with_payload(inserted('"s\\u0075b": "boss"')),
    "duplicate nested claim": with_payload(inserted('"a": {"b": 1, "b": 2}')),
    "duplicate header parameter": with_raw_header(
        b'{"alg": "none", "alg": "RS256", "kid": "rsa", "typ": "at+jwt"}'
    ),
    "UTF-16 payload": with_payload(json.dumps(good_claims()).encode("utf-16")),
    "UTF-16-LE payload": with_payload(json.dumps(good_claims()).encode("utf-16-le")),
    "UTF-32 payload": with_payload(json.dumps(good_claims()).encode("utf-32")),
    "UTF-16 header": with_raw_header(json.dumps(RSA.header()).encode("utf-16")),
    "BOM": with_payload(b"\xef\xbb\xbf" + json.dumps(good_claims()).encode()),
    "BOM in the header": with_raw_header(b"\xef\xbb\xbf" + json.dumps(RSA.header()).encode()),
    "bad UTF-8": with_payload(inserted('"a": "x"').replace(b'"x"', b'"\xff"')),
    "overlong UTF-8": with_payload(inserted('"a": "x"').replace(b'"x"', b'"\xc0\xaf"')),
    "UTF-8 surrogate": with_payload(inserted('"a": "x"').replace(b'"x"', b'"\xed\xa0\x80"')),
    "lone surrogate": with_payload(inserted('"a": "\\ud800"')),
    "lone surrogate in a name": with_payload(inserted('"\\udfff": 1')),
    "surrogates the wrong way round": with_payload(inserted('"a": "\\udc00\\ud800"')),
    "escaped NUL": with_payload(inserted('"a": "\\u0000"')),
    "raw NUL": with_payload(inserted('"a": "\0"')),
    "raw NUL after the object": with_payload(json.dumps(good_claims()).encode() + b"\0"),
    "raw newline in a text": with_payload(inserted('"a": "\n"')),
    "NaN": with_payload(inserted('"a": NaN')),
    "Infinity": with_payload(inserted('"a": Infinity')),
    "minus Infinity": with_payload(inserted('"a": -Infinity')),
    "1e400": with_payload(inserted('"a": 1e400')),
    "minus 1e400": with_payload(inserted('"a": -1e400')),
    "an integer of 5,000 digits": with_payload(inserted('"a": ' + "9" * 5000)),
    "nested 33 deep": with_payload(inserted('"a": ' + "[" * 32 + "]" * 32)),
    "nested 5,000 deep": with_payload(inserted('"a": ' + "[" * 5000 + "]" * 5000)),
    "nested objects": with_payload(inserted('"a": ' + '{"a":' * 40 + "1" + "}" * 40)),
    "unclosed 5,000 deep": with_payload(b"[" * 5000),
    "payload a list": with_payload(b"[]"),
    "payload a text": with_payload(b'"iss"'),
    "payload a number": with_payload(b"1"),
    "payload null": with_payload(b"null"),
    "payload empty object": with_payload(b"{}"),
    "payload two objects": with_payload(json.dumps(good_claims()).encode() * 2),
    "payload with a comment": with_payload(inserted('"a": 1 /* */')),
    "payload with a trailing comma": with_payload(json.dumps(good_claims())[:-1].encode() + b",}"),
    "payload not JSON": with_payload(b"hello"),
    "header a list": with_raw_header(b'["alg", "RS256"]'),
    "header a text": with_raw_header(b'"RS256"'),
    "header not JSON": with_raw_header(b"\x00\x01\x02"),
    "header nested 5,000 deep": with_raw_header(b'{"alg":' + b"[" * 5000 + b"]" * 5000 + b"}"),
}

SIGNATURES: Final[Mapping[str, Make]] = {
    "RS256 by another key": lambda: compact(RSA.header(), good_claims(), STRANGER.sign),
    "ES256 by another key": lambda: compact(EC.header(), good_claims(), ec_signer("other").sign),
    "ES256 of 63 octets": lambda: compact(EC.header(), good_claims(), lambda m: EC.sign(m)[:-1]),
    "ES256 of 65 octets": lambda: compact(EC.header(), good_claims(), lambda m: EC.sign(m) + b"\0"),
    "ES256 padded in the middle": lambda: compact(
        EC.header(), good_claims(), lambda m: b"\0" + EC.sign(m)[:32] + b"\0" + EC.sign(m)[32:]
    ),
    "ES256 of zeros": lambda: compact(EC.header(), good_claims(), lambda m: bytes(64)),
    "ES256 of r and s zero but long": lambda: compact(
        EC.header(), good_claims(), lambda m: bytes(96)
    ),
    "ES256 in DER": lambda: compact(EC.header(), good_claims(), _der_signature),
    "EdDSA cut": lambda: compact(ED.header(), good_claims(), lambda m: ED.sign(m)[:-1]),
    "EdDSA of zeros": lambda: compact(ED.header(), good_claims(), lambda m: bytes(64)),
    "RS256 of one octet": lambda: compact(RSA.header(), good_claims(), lambda m: b"\0"),
    "RS256 with a zero before": lambda: compact(
        RSA.header(), good_claims(), lambda m: b"\0" + RSA.sign(m)
    ),
}


def _der_signature(message: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    signature = EC.sign(message)
    return encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )


_NO_TIMES: Final = {
    "null": None,
    "text": str(int(NOW)),
    "true": True,
    "false": False,
    "a list": [NOW],
    "an object": {"seconds": NOW},
    "an empty text": "",
}

TIMES: Final[Mapping[str, Make]] = {
    **{f"{name} missing": with_claims(**{name: LEFT_OUT}) for name in ("exp", "iat")},
    **{
        f"{name} {kind}": with_claims(**{name: value})
        for name in ("exp", "iat", "nbf")
        for kind, value in _NO_TIMES.items()
    },
    "exp of 300 digits": with_payload(inserted('"x": 1').replace(b"1800000600.0", b"9" * 300)),
    "exp beyond every calendar": with_claims(exp=2**60),
    "nbf far below zero": with_claims(nbf=-(2**60)),
    "expired": with_claims(exp=NOW - 31, iat=NOW - 600),
    "expired to the second": with_claims(exp=NOW - 30, iat=NOW - 600),
    "expired long ago": with_claims(exp=1.0, iat=0),
    "iat beyond the leeway": with_claims(iat=NOW + 31),
    "nbf beyond the leeway": with_claims(nbf=NOW + 31),
    "life over 24 h": with_claims(iat=NOW - 1, exp=NOW + 86_400),
    "life over 24 h, seen late": with_claims(iat=NOW - 86_401, exp=NOW + 600),
    "exp over 24 h ahead": with_claims(iat=NOW + 30, exp=NOW + 86_431),
}

CLAIMS: Final[Mapping[str, Make]] = {
    **{f"{name} missing": with_claims(**{name: LEFT_OUT}) for name in ("iss", "sub", "aud")},
    "iss of another": with_claims(iss="https://evil.example"),
    "iss with a slash": with_claims(iss=ISSUER + "/"),
    "iss by prefix": with_claims(iss=ISSUER + ".evil.example"),
    "iss cut": with_claims(iss=ISSUER[:-1]),
    "iss in upper case": with_claims(iss=ISSUER.upper()),
    "iss over http": with_claims(iss=ISSUER.replace("https", "http")),
    "iss with a port": with_claims(iss=ISSUER + ":443"),
    "iss a list": with_claims(iss=[ISSUER]),
    "iss null": with_claims(iss=None),
    "iss empty": with_claims(iss=""),
    "iss an object": with_claims(iss={ISSUER: 1}),
    "aud of another": with_claims(aud="account"),
    "aud null": with_claims(aud=None),
    "aud empty": with_claims(aud=""),
    "aud an empty list": with_claims(aud=[]),
    "aud a substring": with_claims(aud=AUDIENCE[:-1]),
    "aud a superstring": with_claims(aud=AUDIENCE + "x"),
    "aud in a sentence": with_claims(aud=f"{AUDIENCE} other"),
    "aud in upper case": with_claims(aud=AUDIENCE.upper()),
    "aud with a slash": with_claims(aud=AUDIENCE + "/"),
    "aud an object": with_claims(aud={AUDIENCE: True}),
    "aud a list with a number": with_claims(aud=[AUDIENCE, 7]),
    "aud a list with null": with_claims(aud=[None, AUDIENCE]),
    "aud a nested list": with_claims(aud=[[AUDIENCE]]),
    "aud true": with_claims(aud=True),
    "sub null": with_claims(sub=None),
    "sub empty": with_claims(sub=""),
    "sub a number": with_claims(sub=7),
    "sub a list": with_claims(sub=["user-1"]),
    "sub an object": with_claims(sub={"id": 1}),
    "sub of 256": with_claims(sub="x" * 256),
    "sub with a newline": with_claims(sub="user\n1"),
    "sub with a carriage return": with_claims(sub="user\r1"),
    "sub with an escape": with_claims(sub="user\x1b[2J"),
    "sub with DEL": with_claims(sub="user\x7f"),
    "sub with a C1 control": with_claims(sub="user\x85"),
    "sub with a line separator": with_claims(sub="user\u2028"),
    "sub with a right-to-left mark": with_claims(sub="user\u202e1"),
    "cnf of DPoP": with_claims(cnf={"jkt": "x"}),
    "cnf of mTLS": with_claims(cnf={"x5t#S256": "x"}),
    "cnf empty": with_claims(cnf={}),
    "jti a number": with_claims(jti=1),
    "jti null": with_claims(jti=None),
    "cnf null": with_claims(cnf=None),
}

FOR_ANYBODY: Final[Mapping[str, Make]] = {
    **ALGORITHMS,
    **HEADERS,
    **SHAPES,
    **JSON,
    **SIGNATURES,
    **TIMES,
    **CLAIMS,
}


def plain(**changes: Any) -> Make:
    """Return a token of the plain type `JWT`, its claims changed."""
    return lambda: RSA.token(good_claims(**changes), RSA.header(typ="JWT"))


_UNMARKED: Final = {"scope": LEFT_OUT, "client_id": LEFT_OUT}

FOR_PLAIN_JWT: Final[Mapping[str, Make]] = {
    "ID token by nonce": plain(nonce="n"),
    "ID token by at_hash": plain(at_hash="h"),
    "ID token by c_hash": plain(c_hash="h"),
    "ID token by token_use": plain(token_use="id"),
    "ID token by payload typ": plain(typ="ID"),
    "ID token by null nonce": plain(nonce=None),
    "unmarked": plain(**_UNMARKED),
    "unmarked, with azp": plain(**_UNMARKED, azp="app"),
    "unmarked, with another token_use": plain(**_UNMARKED, token_use="refresh"),
    "unmarked, with another payload typ": plain(**_UNMARKED, typ="Refresh"),
    "typ logout+jwt": with_header(typ="logout+jwt"),
    "typ missing": with_header(typ=LEFT_OUT),
    "expired": plain(exp=NOW - 31, iat=NOW - 600),
}
