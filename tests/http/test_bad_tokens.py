"""A bad token is a bad token: one answer to all of them, and nobody else hears of it."""

import logging
from collections.abc import Mapping
from typing import Any, Final

import httpx
import pytest
from starlette.types import ASGIApp
from support.bad_tokens import FOR_ANYBODY, FOR_PLAIN_JWT, HEADERS, JSON, SHAPES, Make
from support.doubles import (
    CHALLENGE,
    DENIAL,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    knock,
    make_gate,
    make_verifier,
    one_response,
)
from support.signing import (
    CANARY,
    EC,
    ED,
    ISSUER,
    KEYS,
    LEFT_OUT,
    NOW,
    RSA,
    b64,
    compact,
    ec_signer,
    ed_signer,
    exponent_signer,
    good_claims,
    hmac_signer,
    jwks,
    roca_signer,
    rsa_jwk,
    rsa_key,
    rsa_signer,
)

from xuna_middleware import Credentials, InvalidTokenError, JWTVerifier, XunaGate, XunaMiddleware

EXPONENT_33: Final = exponent_signer(2**32 + 1)
EXPONENT_255: Final = exponent_signer(2**254 + 1)
#: The one body: fixed words, nothing of the request.
BODY = (
    b'{"type":"about:blank","title":"Unauthorized","status":401,'
    b'"detail":"The access token is not accepted.","code":"invalid_token"}'
)


def assert_is_the_one_refusal(answer: Answer) -> None:
    """Check every byte that could differ, but for the random reference."""
    assert answer.status == 401
    assert answer.header("www-authenticate") == CHALLENGE
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("cache-control") == "no-store"
    assert answer.body == BODY
    reference = answer.header("xuna-gate-ref")
    assert reference is not None
    assert len(reference) == 12
    assert len(answer.headers) == 6, answer.headers


async def assert_refused(gate: XunaGate, platform: CountedPlatform, token: str) -> None:
    """Check the refusal at each face: both routes, a protected path, a WebSocket."""
    wrapped = XunaMiddleware(echo_app, gate, protect=["/api"])
    faces: list[tuple[ASGIApp, str]] = [
        (gate, "/get-signed-url"),
        (gate, "/conversation-token"),
        (wrapped, "/xuna/get-signed-url"),
        (wrapped, "/api/things"),
    ]
    for app, path in faces:
        assert_is_the_one_refusal(await ask(app, path, headers=bearer(token)))
    sent = await knock(wrapped, "/api/talk", headers=bearer(token), extensions=DENIAL)
    assert_is_the_one_refusal(one_response(sent, "websocket.http.response"))
    assert platform.requests == []


@pytest.mark.parametrize("make", FOR_ANYBODY.values(), ids=FOR_ANYBODY.keys())
async def test_bad_token_gets_the_one_401(caplog: pytest.LogCaptureFixture, make: Make) -> None:
    """Each row of "Tokens and keys": the same 401 everywhere, no call, nothing of it in the log."""
    platform, token = CountedPlatform(), make()
    with caplog.at_level(logging.DEBUG):
        await assert_refused(make_gate(platform), platform, token)
        # Choosing among several issuers by the unverified `iss` changes nothing.
        several = [make_verifier(), make_verifier(issuer="https://other.example")]
        gate = make_gate(platform, verifier=several)
        assert_is_the_one_refusal(await ask(gate, headers=bearer(token)))
    assert platform.requests == []
    assert not [part for part in token.split(".") if len(part) > 12 and part in caplog.text]


@pytest.mark.parametrize("make", FOR_PLAIN_JWT.values(), ids=FOR_PLAIN_JWT.keys())
async def test_bad_token_of_plain_type(make: Make) -> None:
    """A verifier that accepts `JWT` still tells ID tokens from access tokens."""
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=make_verifier(token_types=("at+jwt", "JWT")))
    await assert_refused(gate, platform, make())


GOOD: Mapping[str, tuple[dict[str, Any], Make]] = {
    "RS256": ({}, RSA.token),
    "ES256": ({}, EC.token),
    "EdDSA": ({}, ED.token),
    **{
        f"{name}": (
            {"jwks": jwks(signer)},
            signer.token,
        )
        for name, signer in {
            "RS384": rsa_signer("rsa", "RS384"),
            "RS512": rsa_signer("rsa", "RS512"),
            "PS256": rsa_signer("rsa", "PS256"),
            "PS384": rsa_signer("rsa", "PS384"),
            "PS512": rsa_signer("rsa", "PS512"),
            "ES384": ec_signer("e384", "ES384"),
            "ES512": ec_signer("e512", "ES512"),
            "Ed25519": ed_signer("ed2", "Ed25519"),
        }.items()
    },
    "application/at+jwt": ({}, lambda: RSA.token(header=RSA.header(typ="application/at+jwt"))),
    "AT+JWT": ({}, lambda: RSA.token(header=RSA.header(typ="AT+JWT"))),
    "no kid, and one key fits": ({}, lambda: EC.token(header=EC.header(kid=LEFT_OUT))),
    "an unknown header parameter": ({}, lambda: RSA.token(header=RSA.header(x5t="abc", foo=1))),
    "aud a list": ({}, lambda: RSA.token(good_claims(aud=["account", "voice"]))),
    "times as integers": ({}, lambda: RSA.token(good_claims(exp=int(NOW) + 9, iat=int(NOW)))),
    "expired within the leeway": ({}, lambda: RSA.token(good_claims(exp=NOW - 29.5))),
    "iat at the leeway": ({}, lambda: RSA.token(good_claims(iat=NOW + 30))),
    "nbf at the leeway": ({}, lambda: RSA.token(good_claims(nbf=NOW + 30))),
    "24 h to the second": ({}, lambda: RSA.token(good_claims(iat=NOW, exp=NOW + 86_400))),
    "sub of one": ({}, lambda: RSA.token(good_claims(sub="x"))),
    "sub of 255": ({}, lambda: RSA.token(good_claims(sub="x" * 255))),
    "sub not ASCII": ({}, lambda: RSA.token(good_claims(sub="Zoë 🎻"))),
    "31 levels deep": (
        {},
        lambda: RSA.token(good_claims(a=eval("[" * 31 + "]" * 31))),
    ),
    "azp": ({}, lambda: RSA.token(good_claims(azp="somebody else"))),
    "over 8 KB": ({}, lambda: RSA.token(good_claims(pad="x" * 8000))),
    "plain, by scope": (
        {"token_types": ("JWT",)},
        lambda: RSA.token(good_claims(client_id=LEFT_OUT), RSA.header(typ="JWT")),
    ),
    "plain, by token_use": (
        {"token_types": ("JWT",)},
        lambda: RSA.token(
            good_claims(client_id=LEFT_OUT, scope=LEFT_OUT, token_use="access"),
            RSA.header(typ="jwt"),
        ),
    ),
    "plain, by payload typ": (
        {"token_types": ("JWT",)},
        lambda: RSA.token(
            good_claims(client_id=LEFT_OUT, scope=LEFT_OUT, typ="Bearer"), RSA.header(typ="JWT")
        ),
    ),
    "no typ at all": (
        {"token_types": ("",)},
        lambda: RSA.token(header=RSA.header(typ=LEFT_OUT)),
    ),
    "another audience claim": (
        {"audience_claim": "client_id", "audience": "app"},
        lambda: RSA.token(good_claims(aud=LEFT_OUT)),
    ),
    "HS256 with a secret": (
        {
            "jwks": {"keys": [{"kty": "oct", "kid": "s", "k": b64(b"k" * 32)}]},
            "algorithms": ("HS256",),
        },
        lambda: compact(
            {"alg": "HS256", "kid": "s", "typ": "at+jwt"}, good_claims(), hmac_signer(b"k" * 32)
        ),
    ),
}


@pytest.mark.parametrize(("options", "make"), GOOD.values(), ids=GOOD.keys())
async def test_good_token_gets_a_pass(options: dict[str, Any], make: Make) -> None:
    """The controls of the tables above: with nothing wrong, it is let in, and once only."""
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=make_verifier(**options))
    answer = await ask(gate, headers=bearer(make()))
    assert answer.status == 200
    assert len(platform.requests) == 1


BAD_KEYS: Mapping[str, tuple[dict[str, Any], Make]] = {
    "RSA of 1024 bits": (
        jwks(rsa_signer("small", "RS256", 1024)),
        rsa_signer("small", "RS256", 1024).token,
    ),
    "RSA with the ROCA flaw": (jwks(roca_signer()), roca_signer().token),
    "use enc": ({"keys": [{**RSA.jwk, "use": "enc"}]}, RSA.token),
    "use a list": ({"keys": [{**RSA.jwk, "use": ["sig"]}]}, RSA.token),
    "key_ops without verify": ({"keys": [{**RSA.jwk, "key_ops": ["sign"]}]}, RSA.token),
    "key_ops a text": ({"keys": [{**RSA.jwk, "key_ops": "verify"}]}, RSA.token),
    "alg of another type": ({"keys": [{**RSA.jwk, "alg": "ES256"}]}, RSA.token),
    "alg of another hash": ({"keys": [{**RSA.jwk, "alg": "RS512"}]}, RSA.token),
    "alg of encryption": ({"keys": [{**RSA.jwk, "alg": "RSA-OAEP"}]}, RSA.token),
    "alg null": ({"keys": [{**RSA.jwk, "alg": None}]}, RSA.token),
    "alg HS256 on an RSA key": ({"keys": [{**RSA.jwk, "alg": "HS256"}]}, RSA.token),
    "crv of another curve": ({"keys": [{**EC.jwk, "crv": "P-384"}]}, EC.token),
    "kty of another type": ({"keys": [{**EC.jwk, "kty": "RSA"}]}, EC.token),
    "kty in lower case": ({"keys": [{**RSA.jwk, "kty": "rsa"}]}, RSA.token),
    "X25519": ({"keys": [{**ED.jwk, "crv": "X25519"}]}, ED.token),
    "point not on the curve": ({"keys": [{**EC.jwk, "y": EC.jwk["x"]}]}, EC.token),
    "exponent 1": ({"keys": [{**RSA.jwk, "e": "AQ"}]}, RSA.token),
    "exponent 3": ({"keys": [{**RSA.jwk, "e": "Aw"}]}, RSA.token),
    "exponent of 33 bits": ({"keys": [EXPONENT_33.jwk]}, EXPONENT_33.token),
    "exponent of 255 bits": ({"keys": [EXPONENT_255.jwk]}, EXPONENT_255.token),
    "exponent even": ({"keys": [{**RSA.jwk, "e": b64(b"\x01\x00\x02")}]}, RSA.token),
    "modulus even": (
        {"keys": [{**RSA.jwk, "n": b64(b"\xff" * 255 + b"\xfe")}]},
        RSA.token,
    ),
    "modulus of 8200 bits": ({"keys": [{**RSA.jwk, "n": b64(b"\xff" * 1025)}]}, RSA.token),
    "n padded": ({"keys": [{**RSA.jwk, "n": RSA.jwk["n"] + "=="}]}, RSA.token),
    "n missing": (
        {"keys": [{name: value for name, value in RSA.jwk.items() if name != "n"}]},
        RSA.token,
    ),
    "n a number": ({"keys": [{**RSA.jwk, "n": 65537}]}, RSA.token),
    "kid a number": ({"keys": [{**RSA.jwk, "kid": 7}]}, RSA.token),
    "two keys of one kid": (
        {"keys": [dict(RSA.jwk), {"kid": "rsa", **rsa_jwk(rsa_key(2048, 9).public_key())}]},
        RSA.token,
    ),
}


@pytest.mark.parametrize(("keys", "make"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
async def test_token_of_a_bad_key_gets_the_one_401(keys: dict[str, Any], make: Make) -> None:
    """A key that must not verify doesn't; a good key beside it still does."""
    platform = CountedPlatform()
    beside = ec_signer("beside")
    published = {"keys": [*keys["keys"], dict(beside.jwk)]}
    handler = httpx.MockTransport(lambda _: httpx.Response(200, json=published))
    verifier = make_verifier(jwks_uri=f"{ISSUER}/keys", http_transport=handler)
    async with make_gate(platform, verifier=verifier) as gate:
        await assert_refused(gate, platform, make())
        assert (await ask(gate, headers=bearer(beside.token()))).status == 200


async def test_no_kid_where_several_keys_fit() -> None:
    """Without a kid nothing is tried out: with two fitting keys the token is refused."""
    platform = CountedPlatform()
    verifier = make_verifier(jwks=jwks(RSA, rsa_signer("second")))
    token = RSA.token(header=RSA.header(kid=LEFT_OUT))
    await assert_refused(make_gate(platform, verifier=verifier), platform, token)


async def test_keys_are_looked_up_by_issuer_and_kid() -> None:
    """Two issuers may use one kid; the key of one never verifies a token of the other."""
    platform = CountedPlatform()
    other = rsa_signer("other-issuer")
    gate = make_gate(
        platform,
        verifier=[
            make_verifier(),
            make_verifier(
                issuer="https://other.example", jwks={"keys": [{**other.jwk, "kid": "rsa"}]}
            ),
        ],
    )
    forged = compact(RSA.header(), good_claims(iss="https://other.example"), RSA.sign)
    await assert_refused(gate, platform, forged)
    proper = compact(RSA.header(), good_claims(iss="https://other.example"), other.sign)
    assert (await ask(gate, headers=bearer(proper))).status == 200
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 200


_NEED_A_KEY: Final = {
    name for name in SHAPES if name.startswith(("signature ", "no signature", "nearly"))
}
_AT_ONCE: Mapping[str, Make] = {
    **{
        name: make
        for name, make in HEADERS.items()
        if name.startswith(("jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "cty", "enc"))
    },
    **{name: make for name, make in SHAPES.items() if name not in _NEED_A_KEY},
    **JSON,
    "iss of another": lambda: RSA.token(good_claims(iss="https://evil.example")),
    "alg not accepted": lambda: RSA.token(header=RSA.header(alg="HS256")),
}


class _CountedKeys:
    """Serve a key set, and count how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        return httpx.Response(200, json=KEYS)

    def verifier(self) -> JWTVerifier:
        transport = httpx.MockTransport(self)
        return make_verifier(jwks_uri=f"{ISSUER}/keys", http_transport=transport)


@pytest.mark.parametrize("make", _AT_ONCE.values(), ids=_AT_ONCE.keys())
async def test_nothing_is_fetched_for_what_can_be_refused_at_once(make: Make) -> None:
    """No header makes the gate fetch anything; neither does odd text, or a foreign issuer."""
    keys = _CountedKeys()
    verifier = keys.verifier()
    with pytest.raises(InvalidTokenError):
        await verifier.verify(Credentials(scheme="bearer", token=make()))
    await verifier.aclose()
    assert keys.count == 0


@pytest.mark.parametrize(
    "token",
    [
        "x" * 16_385,
        RSA.token(good_claims(pad="x" * 16_000)),
        RSA.token() + " ",
        RSA.token() + "\n",
        " " + RSA.token(),
        RSA.token().replace(".", " .", 1),
        RSA.token() + "=",
        RSA.token() + "é",
        RSA.token() + "\ud800",
        "\0",
        "",
    ],
    ids=[
        *("too long", "good but over 16 KB", "space after", "newline after", "space before"),
        *("space inside", "padding", "not ASCII", "surrogate", "NUL", "empty"),
    ],
)
async def test_verifier_refuses_what_no_header_could_carry(token: str) -> None:
    """Credentials may come from elsewhere than a header: the verifier is as strict by itself."""
    with pytest.raises(InvalidTokenError) as caught:
        await make_verifier().verify(Credentials(scheme="bearer", token=token))
    assert "xxxx" not in caught.value.cause


async def test_remembered_token_expires_all_the_same() -> None:
    """A token that was good a moment ago is refused at exp plus leeway, remembered or not."""
    now = [NOW]
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=make_verifier(clock=lambda: now[0]))
    token = RSA.token(good_claims(exp=NOW + 5))
    assert (await ask(gate, headers=bearer(token))).status == 200
    now[0] = NOW + 34.9
    assert (await ask(gate, headers=bearer(token))).status == 200
    now[0] = NOW + 35
    assert_is_the_one_refusal(await ask(gate, headers=bearer(token)))


async def test_remembered_token_is_refused_before_its_time() -> None:
    """A clock that is set back makes a remembered token one of the future again."""
    now = [NOW]
    gate = make_gate(verifier=make_verifier(clock=lambda: now[0]))
    token = RSA.token(good_claims(iat=NOW, nbf=NOW))
    assert (await ask(gate, headers=bearer(token))).status == 200
    now[0] = NOW - 31
    assert_is_the_one_refusal(await ask(gate, headers=bearer(token)))


async def test_a_good_token_lends_nothing_to_its_neighbours() -> None:
    """After a good token, one that shares its first or last part is as bad as ever."""
    platform = CountedPlatform()
    gate = make_gate(platform)
    token = RSA.token()
    assert (await ask(gate, headers=bearer(token))).status == 200
    header, payload, signature = token.split(".")
    other = b64(CANARY.encode() * 20)
    for forged in (
        f"{header}.{payload}.{other}",
        f"{header}.{other}.{signature}",
        f"{header}.{payload}.{signature[:-2]}{'AA' if signature[-2:] != 'AA' else 'QQ'}",
    ):
        assert_is_the_one_refusal(await ask(gate, headers=bearer(forged)))
    assert len(platform.requests) == 1
