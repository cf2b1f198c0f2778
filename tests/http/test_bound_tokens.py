"""Tokens bound to a key or a certificate (RFC 9449, RFC 8705), at every face of a gate."""

import asyncio
import base64
import datetime
import hashlib
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.doubles import (
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
    EC,
    ED,
    ISSUER,
    LEFT_OUT,
    NOW,
    RSA,
    Signer,
    b64,
    good_claims,
    proof,
    thumbprint,
)

from xuna_middleware import (
    APIKey,
    APIKeyVerifier,
    ConfigurationError,
    Credentials,
    DPoP,
    Identity,
    InvalidTokenError,
    MemoryStore,
    Verifier,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.errors import NotAuthenticatedError
from xuna_middleware.stores import StoreError

SOME_KEY: Final[dict[str, Any]] = {"hash": f"sha256:{0:064x}", "subject": "kiosk"}
PUBLIC: Final = "https://voice.acme.com/front/xuna"
DESCRIBED: Final = (
    'resource_metadata="https://voice.acme.com/.well-known/oauth-protected-resource/front/xuna"'
)
SIGNED_URL: Final = f"{PUBLIC}/get-signed-url"
BOUND: Final = RSA.token(good_claims(cnf={"jkt": thumbprint(EC.jwk)}))
FREE: Final = RSA.token()


def gate_of(platform: CountedPlatform | None = None, **options: Any) -> XunaGate:
    """Return a gate that takes bound tokens as its verifier's options say."""
    outer = {
        name: options.pop(name)
        for name in ("store", "trusted_proxies", "client_cert_header")
        if name in options
    }
    verifier = make_verifier(**{"dpop": "accepted", **options})
    return make_gate(platform, verifier=verifier, public_url=PUBLIC, **outer)


def dpop(token: str, *proofs: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"DPoP " + token.encode()), *((b"dpop", each) for each in proofs)]


def good_proof(**changes: Any) -> bytes:
    return proof(EC, BOUND, changes.pop("url", SIGNED_URL), **changes)


async def asked(gate: XunaGate, headers: Any, **scope: Any) -> Answer:
    return await ask(
        XunaMiddleware(echo_app, gate), "/xuna/get-signed-url", headers=headers, **scope
    )


def assert_refused(answer: Answer, platform: CountedPlatform | None = None) -> None:
    """Check the one 401, with both schemes in its challenge."""
    assert (answer.status, answer.json()["code"]) == (401, "invalid_token")
    challenge = answer.header("www-authenticate")
    assert challenge is not None
    assert 'DPoP error="invalid_token"' in challenge
    assert platform is None or platform.requests == []


async def test_bound_token_with_its_proof() -> None:
    """The whole way: token, proof, pass."""
    platform = CountedPlatform()
    answer = await asked(gate_of(platform), dpop(BOUND, good_proof()))
    assert answer.status == 200
    assert len(platform.requests) == 1


async def test_bound_token_as_bearer_is_refused() -> None:
    """Whoever stole it has no proof; a proof beside the wrong scheme changes nothing."""
    platform = CountedPlatform()
    gate = gate_of(platform)
    assert_refused(await asked(gate, bearer(BOUND)), platform)
    assert_refused(await asked(gate, [*bearer(BOUND), (b"dpop", good_proof())]), platform)


async def test_free_token_as_dpop_is_refused() -> None:
    """A proof for a token that names no key proves nothing."""
    made = proof(EC, FREE, SIGNED_URL)
    assert_refused(await asked(gate_of(), dpop(FREE, made)))


BAD_PROOFS: Final[Mapping[str, Any]] = {
    "none": (),
    "two": (good_proof(), good_proof(jti="proof-2")),
    "of another key": (proof(ED, BOUND, SIGNED_URL),),
    "another method": (good_proof(htm="POST"),),
    "another path": (good_proof(htu=f"{PUBLIC}/conversation-token"),),
    "another host": (good_proof(htu="https://evil.example.com/front/xuna/get-signed-url"),),
    "plain http": (good_proof(htu=SIGNED_URL.replace("https", "http")),),
    "the inner address": (good_proof(htu="https://testserver/xuna/get-signed-url"),),
    "of another token": (proof(EC, FREE, SIGNED_URL),),
    "too old": (good_proof(iat=NOW - 66),),
    "from the future": (good_proof(iat=NOW + 6),),
    "no iat": (good_proof(iat=LEFT_OUT),),
    "no jti": (good_proof(jti=LEFT_OUT),),
    "no ath": (good_proof(ath=LEFT_OUT),),
    "no htu": (good_proof(htu=LEFT_OUT),),
    "type of an access token": (good_proof(header={"typ": "at+jwt"}),),
    "private key in it": (good_proof(header={"jwk": {**EC.jwk, "d": "AAAA"}}),),
    "alg none": (good_proof(header={"alg": "none"}),),
    "alg HS256": (good_proof(header={"alg": "HS256"}),),
    "crit": (good_proof(header={"crit": ["x"]}),),
    "an access token instead": (BOUND.encode(),),
    "garbage": (b"x.y.z",),
    "not ASCII": (b"\xff",),
    "empty": (b"",),
    "long": (b"a" * 9000,),
}


@pytest.mark.parametrize("proofs", BAD_PROOFS.values(), ids=BAD_PROOFS.keys())
async def test_bad_proof_is_the_one_401(proofs: tuple[bytes, ...]) -> None:
    """Each way in which a proof is none: one answer, no call; a good one passes afterwards."""
    platform = CountedPlatform()
    gate = gate_of(platform)
    assert_refused(await asked(gate, dpop(BOUND, *proofs)), platform)
    assert (await asked(gate, dpop(BOUND, good_proof()))).status == 200


async def test_signature_of_the_proof_is_checked() -> None:
    """The right public key with somebody else's signature."""
    head, payload, _ = good_proof().split(b".")
    forged = b".".join([head, payload, b64(ED.sign(head + b"." + payload)).encode()])
    assert_refused(await asked(gate_of(), dpop(BOUND, forged)))


async def test_replayed_proof_is_refused_everywhere() -> None:
    """A proof is for one request, in whichever gate that shares the store it comes again."""
    store = MemoryStore()
    first, second = gate_of(store=store), gate_of(store=store)
    headers = dpop(BOUND, good_proof())
    assert (await asked(first, headers)).status == 200
    assert_refused(await asked(first, headers))
    assert_refused(await asked(second, headers))


async def test_one_of_many_at_once() -> None:
    """A proof sent twenty times in parallel opens once."""
    platform = CountedPlatform()
    gate, headers = gate_of(platform), dpop(BOUND, good_proof())
    answers = await asyncio.gather(*(asked(gate, headers) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 19
    assert len(platform.requests) == 1


class Away(MemoryStore):
    """A store that can't be reached."""

    async def put(self, *about: Any, **options: Any) -> bool:
        raise StoreError("away")


async def test_store_away_is_503_never_open() -> None:
    """Whether a proof was used can't be known; a bad one is still a bad one."""
    platform = CountedPlatform()
    gate = gate_of(platform, store=Away())
    answer = await asked(gate, dpop(BOUND, good_proof()))
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    assert_refused(await asked(gate, dpop(BOUND, b"x.y.z")), platform)


async def test_nonce_is_asked_for_and_taken() -> None:
    """A proof without ours is answered with one (RFC 9449 section 9); with it, it passes."""
    platform = CountedPlatform()
    gate = gate_of(platform, dpop=DPoP(mode="accepted", nonce=True))
    answer = await asked(gate, dpop(BOUND, good_proof()))
    assert (answer.status, answer.json()["code"]) == (401, "use_dpop_nonce")
    challenge = answer.header("www-authenticate") or ""
    assert challenge.startswith(f'DPoP error="use_dpop_nonce", {DESCRIBED}, algs="RS256 ')
    assert platform.requests == []
    nonce = answer.header("dpop-nonce")
    assert (await asked(gate, dpop(BOUND, good_proof(nonce=nonce)))).status == 200


async def test_nonce_of_the_time_before() -> None:
    """A nonce is good for its 150 seconds and the 150 after; then a new one is asked for."""
    later = [0.0]
    gate = gate_of(dpop=DPoP(mode="accepted", nonce=True), clock=lambda: NOW + later[0])
    nonce = (await asked(gate, dpop(BOUND, good_proof()))).header("dpop-nonce")
    for seconds, status in ((0, 200), (150, 200), (300, 401)):
        later[0] = seconds
        made = good_proof(nonce=nonce, iat=NOW + seconds, jti=f"after {seconds}")
        assert (await asked(gate, dpop(BOUND, made))).status == status


WITH_CERTIFICATE: Final = RSA.token(good_claims(cnf={"x5t#S256": b64(bytes(32))}))


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"dpop": "off", "mtls": "accepted"}, dpop(BOUND)),
        ({"dpop": "off", "mtls": "accepted"}, dpop(BOUND, good_proof())),
        ({"dpop": "off", "mtls": "accepted"}, bearer(BOUND)),
        ({"dpop": "accepted", "mtls": "off"}, bearer(WITH_CERTIFICATE)),
        ({"dpop": "accepted", "mtls": "off"}, dpop(WITH_CERTIFICATE, good_proof())),
    ],
)
async def test_one_kind_of_proof_does_not_stand_in_for_the_other(
    options: Any, headers: Any
) -> None:
    """Where one is looked for and the other is off, a token bound the other way is refused."""
    platform = CountedPlatform()
    answer = await asked(gate_of(platform, **options), headers)
    is_foreign_scheme = options["dpop"] == "off" and headers[0][1].startswith(b"DPoP")
    code = "not_authenticated" if is_foreign_scheme else "invalid_token"
    assert (answer.status, answer.json()["code"]) == (401, code)
    assert platform.requests == []


async def test_required_refuses_all_others() -> None:
    """A free token is no good there, and only one scheme is challenged with."""
    answer = await asked(gate_of(dpop="required"), bearer(FREE))
    assert_refused(answer)
    assert "Bearer" not in (answer.header("www-authenticate") or "")
    nobody = await asked(gate_of(dpop="required"), [])
    challenge = nobody.header("www-authenticate") or ""
    assert challenge.startswith(f'DPoP {DESCRIBED}, algs="RS256 ')


async def test_accepted_takes_free_tokens_too() -> None:
    """For the time in which clients change over."""
    assert (await asked(gate_of(), bearer(FREE))).status == 200


async def test_off_knows_no_dpop() -> None:
    """The scheme is a foreign one then; a bound token is refused in either."""
    gate = gate_of(dpop="off")
    foreign = await asked(gate, dpop(BOUND, good_proof()))
    assert (foreign.status, foreign.header("www-authenticate")) == (401, f"Bearer {DESCRIBED}")
    refused = await asked(gate, bearer(BOUND))
    assert refused.header("www-authenticate") == f'Bearer error="invalid_token", {DESCRIBED}'


async def test_a_verifier_of_ones_own_is_not_given_dpop_tokens() -> None:
    """It has never heard of proofs, and would take the token for a free one."""

    class Own:
        async def verify(self, credentials: Credentials) -> Identity:
            return Identity(subject="anna")

    answer = await asked(make_gate(verifier=Own()), dpop(BOUND, good_proof()))
    assert (answer.status, answer.json()["code"]) == (401, "not_authenticated")
    several = make_gate(
        verifier=[Own.__new__(_named(Own)), make_verifier(dpop="accepted")], public_url=PUBLIC
    )
    token = RSA.token(good_claims(iss="own", cnf={"jkt": thumbprint(EC.jwk)}))
    answer = await asked(several, dpop(token, proof(EC, token, SIGNED_URL)))
    assert (answer.status, answer.json()["code"]) == (401, "not_authenticated")


def _named(own: type) -> type:
    return type("Named", (own,), {"issuer": "own"})


@pytest.mark.parametrize(
    ("path", "root_path", "url"),
    [
        ("/api/x", "", "https://voice.acme.com/front/api/x"),
        ("/api/x y/é", "", "https://voice.acme.com/front/api/x%20y/%C3%A9"),
        ("/front/api/x", "/front", "https://voice.acme.com/front/api/x"),
        ("/api/x", "/front", "https://voice.acme.com/front/api/x"),
        ("/api/x", "", "HTTPS://Voice.Acme.com:443/front/api/x?query#fragment"),
    ],
)
async def test_address_of_a_protected_path(path: str, root_path: str, url: str) -> None:
    """Behind a proxy that cuts a prefix off, or a server that was told of it: the public one."""
    app = XunaMiddleware(echo_app, gate_of(), protect=["/api"])
    headers = [
        *dpop(BOUND, good_proof(url=url)),
        (b"host", b"evil.example.com"),
        (b"x-forwarded-host", b"evil.example.com"),
        (b"x-forwarded-proto", b"http"),
    ]
    answer = await ask(app, path, root_path=root_path, headers=headers)
    assert answer.body == b"the app"


@pytest.mark.parametrize(("length", "status"), [(2_000, 200), (2_049, 401), (60_000, 401)])
async def test_longest_address(length: int, status: int, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody asks for in earnest costs nothing, and fills no log."""
    path = "/api/" + "x" * (length - 5)
    proof = good_proof(url=f"https://voice.acme.com/front{path}"[:4_000])
    app = XunaMiddleware(echo_app, gate_of(), protect=["/api"])
    assert (await ask(app, path, headers=dpop(BOUND, proof))).status == status
    assert len(caplog.text) < 1_000


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/get-signed-url", ""),
        ("/mount/get-signed-url", "/mount"),
        ("/front/xuna/get-signed-url", "/front/xuna"),
    ],
)
async def test_address_of_a_mounted_gate(path: str, root_path: str) -> None:
    """Wherever it is mounted, its routes lie beneath public_url."""
    answer = await ask(gate_of(), path, root_path=root_path, headers=dpop(BOUND, good_proof()))
    assert answer.status == 200


async def test_address_where_the_gate_only_verifies() -> None:
    """`gate.identity()` in a route of one's own: the whole path behind public_url's origin."""
    from starlette.requests import HTTPConnection
    from support.doubles import http_scope

    for path, root_path in (("/front/mine", "/front"), ("/mine", "/front"), ("/front/mine", "")):
        made = good_proof(url="https://voice.acme.com/front/mine")
        scope = http_scope(path, root_path=root_path, headers=dpop(BOUND, made))
        assert (await gate_of().identity(HTTPConnection(scope))).subject == "user-1"


async def test_websocket_with_a_proof() -> None:
    """A WebSocket is opened with GET; its address may be written with wss."""
    app = XunaMiddleware(echo_app, gate_of(), protect=["/talk"])
    made = good_proof(url="wss://voice.acme.com/front/talk")
    sent = await knock(app, "/talk", headers=dpop(BOUND, made), extensions=DENIAL)
    assert sent[0]["type"] == "websocket.accept"
    again = await knock(app, "/talk", headers=dpop(BOUND, made), extensions=DENIAL)
    assert_refused(one_response(again, "websocket.http.response"))


def test_dpop_without_public_url() -> None:
    """Nobody could say which address a proof must name; Host headers are strangers' words."""
    with pytest.raises(ConfigurationError, match="public_url"):
        make_gate(verifier=make_verifier(dpop="accepted"))


@pytest.mark.parametrize(
    "options", [{"dpop": "on"}, {"dpop": True}, {"mtls": "on"}, {"mtls": None}]
)
def test_options_that_make_no_sense(options: Any) -> None:
    """They are refused when the verifier is built."""
    with pytest.raises(ConfigurationError, match="must be"):
        make_verifier(**options)


async def test_verifier_without_a_request() -> None:
    """Asked directly there is nowhere to look for a proof."""
    verifier = make_verifier(dpop="accepted", mtls="accepted")
    for scheme, token in (("dpop", BOUND), ("bearer", CERTIFIED)):
        with pytest.raises(InvalidTokenError):
            await verifier.verify(Credentials(scheme=scheme, token=token))  # type: ignore[arg-type]
    assert (await verifier.verify(Credentials(scheme="bearer", token=FREE))).issuer == ISSUER


@pytest.mark.parametrize("own", [make_verifier(), APIKeyVerifier([APIKey(**SOME_KEY)])])
async def test_verifier_that_takes_bearer_only(own: Verifier) -> None:
    """Asked directly it says so, too."""
    with pytest.raises(NotAuthenticatedError):
        await own.verify(Credentials(scheme="dpop", token=FREE))


@cache
def certificate(name: str = "client") -> x509.Certificate:
    """Return a certificate that somebody signed for themselves."""
    key, named = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
    )
    begin = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(
        named, named, key.public_key(), 1, begin, begin + datetime.timedelta(days=365)
    )
    return builder.sign(key, hashes.SHA256())


def der(name: str = "client") -> bytes:
    return certificate(name).public_bytes(serialization.Encoding.DER)


def pem(name: str = "client") -> str:
    return certificate(name).public_bytes(serialization.Encoding.PEM).decode()


CERTIFIED: Final = RSA.token(good_claims(cnf={"x5t#S256": b64(hashlib.sha256(der()).digest())}))
PROXY: Final = {
    "mtls": "accepted",
    "trusted_proxies": ["10.0.0.0/8"],
    "client_cert_header": "Client-Cert",
}
RFC9440: Final = b":" + base64.b64encode(der()) + b":"


def tls(name: str) -> dict[str, Any]:
    return {"extensions": {"tls": {"client_cert_chain": [pem(name)], "client_cert_error": None}}}


async def test_certificate_of_the_connection() -> None:
    """The server's own word on TLS: the client's certificate opens, another or none doesn't."""
    platform = CountedPlatform()
    gate = gate_of(platform, mtls="accepted")
    without: list[dict[str, Any]] = [{}, {"extensions": {"tls": {"client_cert_chain": []}}}]
    for scope in (*without, tls("another")):
        assert_refused(await asked(gate, bearer(CERTIFIED), **scope), platform)
    assert (await asked(gate, bearer(CERTIFIED), **tls("client"))).status == 200


@pytest.mark.parametrize("value", [RFC9440, quote(pem(), safe="").encode()], ids=["9440", "PEM"])
async def test_certificate_from_a_trusted_proxy(value: bytes) -> None:
    """In the words of RFC 9440, or as nginx writes it; from anybody else it is no word at all."""
    platform = CountedPlatform()
    gate = gate_of(platform, **PROXY)
    headers = [*bearer(CERTIFIED), (b"client-cert", value)]
    for client in (("203.0.113.9", 4000), None):
        assert_refused(await asked(gate, headers, client=client), platform)
    assert (await asked(gate, headers, client=("10.1.2.3", 4000))).status == 200


@pytest.mark.parametrize("values", [[b"garbage"], [RFC9440, RFC9440], [b""]])
async def test_certificate_header_that_can_t_be_read(values: list[bytes]) -> None:
    """A proxy that is set up wrongly is heard of in the log, and opens nothing."""
    platform = CountedPlatform()
    headers = [*bearer(CERTIFIED), *((b"client-cert", value) for value in values)]
    answer = await asked(gate_of(platform, **PROXY), headers, client=("10.1.2.3", 4000))
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")
    assert platform.requests == []


async def test_certificates_required_or_off() -> None:
    """As for DPoP: required refuses all others, off refuses what is bound."""
    required = gate_of(mtls="required")
    assert_refused(await asked(required, bearer(FREE), **tls("client")))
    assert (await asked(required, bearer(CERTIFIED), **tls("client"))).status == 200
    assert_refused(await asked(gate_of(), bearer(CERTIFIED), **tls("client")))


async def test_bound_to_both() -> None:
    """A token that names a key and a certificate wants both."""
    cnf = {"jkt": thumbprint(EC.jwk), "x5t#S256": b64(hashlib.sha256(der()).digest())}
    token = RSA.token(good_claims(cnf=cnf))
    gate = gate_of(mtls="accepted")
    headers = dpop(token, proof(EC, token, SIGNED_URL))
    assert_refused(await asked(gate, headers))
    assert_refused(await asked(gate, bearer(token), **tls("client")))
    assert (await asked(gate, headers, **tls("client"))).status == 200


@pytest.mark.parametrize(
    "cnf",
    [
        {},
        None,
        "x",
        [],
        {"jkt": 1},
        {"jkt": ""},
        {"jkt": None},
        {"jwk": {}},
        {"kid": "x"},
        {"jkt": thumbprint(EC.jwk), "kid": "x"},
        {"jkt": [thumbprint(EC.jwk)]},
    ],
)
async def test_confirmation_that_nobody_can_check(cnf: Any) -> None:
    """A token bound in another way, or to nothing, is nobody's."""
    token = RSA.token(good_claims(cnf=cnf))
    gate = gate_of(mtls="accepted")
    assert_refused(await asked(gate, bearer(token), **tls("client")))
    assert_refused(await asked(gate, dpop(token, proof(EC, token, SIGNED_URL)), **tls("client")))


@pytest.mark.parametrize(
    "options",
    [
        {"client_cert_header": "Client-Cert"},
        {"client_cert_header": "Client Cert", "trusted_proxies": ["10.0.0.1"]},
        {"client_cert_header": b"x", "trusted_proxies": ["10.0.0.1"]},
        {"trusted_proxies": ["proxy.internal"]},
        {"trusted_proxies": "10.0.0.1"},
        {"store": object()},
    ],
)
def test_gate_options_that_make_no_sense(options: Any) -> None:
    """They are refused when the gate is built, with the fix."""
    with pytest.raises(ConfigurationError):
        make_gate(**options)


@pytest.mark.parametrize("signer", [EC, ED, RSA], ids=lambda signer: signer.kid)
async def test_keys_of_every_kind(signer: Signer) -> None:
    """Elliptic curves, Edwards curves and RSA; the remembered token asks for a new proof."""
    token = EC.token(good_claims(cnf={"jkt": thumbprint(signer.jwk)}))
    gate = gate_of()
    for number in range(3):
        made = proof(signer, token, SIGNED_URL, jti=f"proof-{number}")
        assert (await asked(gate, dpop(token, made))).status == 200
