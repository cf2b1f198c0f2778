"""What a provider's documents may say, and what becomes of all else: 503, never a wrong key."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

import httpx
import pytest
from support.doubles import CountedPlatform, ask, bearer, in_fast_time, make_gate
from support.signing import AUDIENCE, EC, ISSUER, KEYS, NOW, RSA, good_claims, jwks, rsa_signer

from xuna_middleware import ConfigurationError, Credentials, JWTVerifier, OIDCVerifier
from xuna_middleware.errors import UnavailableError
from xuna_middleware.identity import JWKSRefresh

METADATA_PATH: Final = "/.well-known/openid-configuration"
METADATA: Final = {"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}

Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


class Provider:
    """Answer by address, and keep what was asked. An unlisted address fails the test."""

    def __init__(self, metadata: Any = METADATA, keys: Any = KEYS, **further: Any) -> None:
        self.answers = {
            f"{ISSUER}{METADATA_PATH}": metadata,
            f"{ISSUER}/keys": keys,
            **{url.replace("_", "."): value for url, value in further.items()},
        }
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers[str(request.url)]
        if callable(answer):
            answer = answer(request)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.requests]

    def verifier(self, issuer: str = ISSUER, **options: Any) -> OIDCVerifier:
        """Return a verifier that reaches this provider and nothing else."""
        transport = httpx.MockTransport(self)
        return OIDCVerifier(
            issuer, audience=AUDIENCE, http_transport=transport, clock=lambda: NOW, **options
        )


async def verified(verifier: OIDCVerifier | JWTVerifier, token: str) -> tuple[str, str]:
    """Verify one token and close; return the issuer and subject that it names."""
    try:
        who = await verifier.verify(Credentials(scheme="bearer", token=token))
        return who.issuer, who.subject
    finally:
        await verifier.aclose()


async def test_discovery_finds_the_keys() -> None:
    """The control: two requests, both at the issuer, neither with anything of the caller's."""
    provider = Provider()
    assert await verified(provider.verifier(), RSA.token()) == (ISSUER, "user-1")
    assert provider.urls == [f"{ISSUER}{METADATA_PATH}", f"{ISSUER}/keys"]
    for request in provider.requests:
        assert request.method == "GET"
        assert request.headers["accept-encoding"] == "identity"
        assert "authorization" not in request.headers
        assert "cookie" not in request.headers


@pytest.mark.parametrize(
    ("issuer", "well_known"),
    [
        ("https://id.example.com", "https://id.example.com/.well-known/openid-configuration"),
        ("https://id.example.com/", "https://id.example.com/.well-known/openid-configuration"),
        (
            "https://id.example.com/a/b",
            "https://id.example.com/a/b/.well-known/openid-configuration",
        ),
        ("https://id.example.com/a/", "https://id.example.com/a/.well-known/openid-configuration"),
        (
            "https://id.example.com:8443",
            "https://id.example.com:8443/.well-known/openid-configuration",
        ),
    ],
)
async def test_where_the_metadata_is(issuer: str, well_known: str) -> None:
    """OpenID Connect Discovery 1.0 section 4: beneath the issuer, with or without its slash."""
    provider = Provider()
    provider.answers[well_known] = {"issuer": issuer, "jwks_uri": f"{ISSUER}/keys"}
    identity = await verified(provider.verifier(issuer), RSA.token(good_claims(iss=issuer)))
    assert identity == (issuer, "user-1")
    assert provider.urls[0] == well_known


async def test_metadata_url_of_ones_own() -> None:
    """An operator may say where the document is; its issuer must still be the issuer."""
    provider = Provider()
    address = "https://meta.example.com/doc"
    provider.answers[address] = METADATA
    assert await verified(provider.verifier(metadata_url=address), RSA.token())
    assert provider.urls[0] == address


def status(code: int, **headers: str) -> httpx.Response:
    return httpx.Response(code, headers=headers, json=METADATA)


def hang_up(request: httpx.Request) -> httpx.Response:
    raise httpx.RemoteProtocolError("closed")


def no_connection(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def cut_short(request: httpx.Request) -> httpx.Response:
    async def drip() -> AsyncIterator[bytes]:
        yield json.dumps(METADATA).encode()[:20]
        raise httpx.ReadError("reset")

    return httpx.Response(200, content=drip())


def endless(request: httpx.Request) -> httpx.Response:
    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100_000):
            yield b" " * 1024
        raise AssertionError("100 MB were read")

    return httpx.Response(200, content=drip())


HTML: Final = httpx.Response(200, html="<html><body>Sign in</body></html>")

BAD_ANSWERS: Final[Mapping[str, Any]] = {
    "301": status(301, location=f"{ISSUER}/elsewhere"),
    "302 to a foreign host": status(302, location="https://evil.example/doc"),
    "307": status(307, location=f"{ISSUER}/elsewhere"),
    "201": status(201),
    "204": httpx.Response(204),
    "206": status(206),
    "304": status(304),
    "400": status(400),
    "404": status(404),
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "HTML": HTML,
    "empty": httpx.Response(200, content=b""),
    "truncated": httpx.Response(200, content=json.dumps(METADATA).encode()[:-5]),
    "cut off": cut_short,
    "hung up": hang_up,
    "no connection": no_connection,
    "100 MB": endless,
    "512 KB and one": httpx.Response(200, content=b" " * (512 * 1024 + 1)),
    "gzip": httpx.Response(200, headers={"content-encoding": "gzip"}, content=b"\x1f\x8b\x08"),
    "br": httpx.Response(200, headers={"content-encoding": "br"}, stream=httpx.ByteStream(b"x")),
    "a list": [METADATA],
    "a text": httpx.Response(200, content=b'"keys"'),
    "null": httpx.Response(200, content=b"null"),
    "nested 5,000 deep": httpx.Response(200, content=b'{"a":' + b"[" * 5000),
    "UTF-16": httpx.Response(200, content=json.dumps(METADATA).encode("utf-16")),
    "BOM": httpx.Response(200, content=b"\xef\xbb\xbf" + json.dumps(METADATA).encode()),
    "duplicate member": httpx.Response(
        200,
        content=json.dumps(METADATA)[:-1].encode()
        + b', "issuer": "https://evil.example", "keys": []}',
    ),
    "NaN": httpx.Response(200, content=json.dumps(METADATA)[:-1].encode() + b', "x": NaN}'),
}


def unconsumed(answer: Any) -> Any:
    """Return an answer that a second request may have, too."""
    if not isinstance(answer, httpx.Response):
        return answer
    content, encoding = answer.stream, answer.headers
    assert isinstance(content, httpx.ByteStream)
    body = b"".join(content)
    return lambda _: httpx.Response(
        answer.status_code, headers=encoding, stream=httpx.ByteStream(body)
    )


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
@pytest.mark.parametrize("which", ["metadata", "keys"])
async def test_bad_answer_of_the_provider_is_a_503(which: str, answer: Any) -> None:
    """Each row of "Key sources": nobody is let in, nobody is told that a token is bad."""
    provider = Provider(**{which: unconsumed(answer)})
    platform = CountedPlatform()
    gate = make_gate(platform, verifier=provider.verifier())
    response = await ask(gate, headers=bearer(RSA.token()))
    await gate.aclose()
    assert response.status == 503
    assert int(response.header("retry-after") or 0) >= 1
    assert response.header("www-authenticate") is None
    assert response.json()["code"] == "unavailable"
    assert response.header("cache-control") == "no-store"
    assert platform.requests == []
    assert all(url.startswith(ISSUER) for url in provider.urls)


METADATA_REFUSED: Final[Mapping[str, Any]] = {
    "issuer of another": {**METADATA, "issuer": "https://evil.example"},
    "issuer with a slash": {**METADATA, "issuer": ISSUER + "/"},
    "issuer in upper case": {**METADATA, "issuer": ISSUER.upper()},
    "issuer missing": {"jwks_uri": f"{ISSUER}/keys"},
    "issuer null": {**METADATA, "issuer": None},
    "issuer a list": {**METADATA, "issuer": [ISSUER]},
    "jwks_uri missing": {"issuer": ISSUER},
    "jwks_uri null": {**METADATA, "jwks_uri": None},
    "jwks_uri empty": {**METADATA, "jwks_uri": ""},
    "jwks_uri a list": {**METADATA, "jwks_uri": [f"{ISSUER}/keys"]},
    "jwks_uri a number": {**METADATA, "jwks_uri": 7},
    "jwks_uri relative": {**METADATA, "jwks_uri": "/keys"},
    "jwks_uri over http": {**METADATA, "jwks_uri": f"{ISSUER}/keys".replace("https", "http")},
    "jwks_uri without end": {**METADATA, "jwks_uri": f"{ISSUER}/{'k' * 2_048}"},
    "jwks_uri that takes minutes to normalize": {
        **METADATA,
        "jwks_uri": ISSUER + "\u0315\u0300" * 40_000,
    },
    "jwks_uri over ftp": {**METADATA, "jwks_uri": "ftp://id.example.com/keys"},
    "jwks_uri a file": {**METADATA, "jwks_uri": "file:///etc/passwd"},
    "jwks_uri data": {**METADATA, "jwks_uri": 'data:application/json,{"keys":[]}'},
    "jwks_uri on a foreign host": {**METADATA, "jwks_uri": "https://evil.example/keys"},
    "jwks_uri on a sub-domain": {**METADATA, "jwks_uri": "https://x.id.example.com/keys"},
    "jwks_uri on a parent domain": {**METADATA, "jwks_uri": "https://example.com/keys"},
    "jwks_uri by suffix": {**METADATA, "jwks_uri": "https://id.example.com.evil.example/keys"},
    "jwks_uri with userinfo": {**METADATA, "jwks_uri": "https://id.example.com@evil.example/k"},
    "jwks_uri with own userinfo": {**METADATA, "jwks_uri": "https://a:b@id.example.com/keys"},
    "jwks_uri with a backslash": {**METADATA, "jwks_uri": "https://evil.example\\@id.example.com/"},
    "jwks_uri with a space": {**METADATA, "jwks_uri": f"{ISSUER}/keys x"},
    "jwks_uri with a newline": {**METADATA, "jwks_uri": f"{ISSUER}/keys\n"},
    "jwks_uri with a tab in its host": {**METADATA, "jwks_uri": "https://id.exa\tmple.com/keys"},
    "jwks_uri with a fragment": {**METADATA, "jwks_uri": f"{ISSUER}/keys#x"},
    "jwks_uri not ASCII": {**METADATA, "jwks_uri": "https://ıd.example.com/keys"},
    "jwks_uri with a bad port": {**METADATA, "jwks_uri": "https://id.example.com:99999/keys"},
    "jwks_uri with a broken host": {**METADATA, "jwks_uri": "https://[::1/keys"},
    "jwks_uri on loopback": {**METADATA, "jwks_uri": "http://127.0.0.1/keys"},
    "jwks_uri on the metadata service": {**METADATA, "jwks_uri": "http://169.254.169.254/latest"},
    "jwks_uri without a host": {**METADATA, "jwks_uri": "https:///keys"},
    "jwks_uri with a dot after its host": {**METADATA, "jwks_uri": "https://id.example.com./keys"},
}


@pytest.mark.parametrize("metadata", METADATA_REFUSED.values(), ids=METADATA_REFUSED.keys())
async def test_metadata_that_is_not_followed(metadata: Any) -> None:
    """A document that isn't the issuer's, or that leads elsewhere: 503, and nothing is fetched."""
    provider = Provider(metadata=metadata)
    with pytest.raises(UnavailableError):
        await verified(provider.verifier(), RSA.token())
    assert provider.urls == [f"{ISSUER}{METADATA_PATH}"]


async def test_endpoint_host_that_is_vouched_for() -> None:
    """`endpoint_hosts` opens exactly the named host, and not plain http with it."""
    elsewhere = "https://keys.example.net/keys"
    provider = Provider(metadata={**METADATA, "jwks_uri": elsewhere})
    provider.answers[elsewhere] = KEYS
    assert await verified(provider.verifier(endpoint_hosts=("keys.example.net",)), RSA.token())
    provider = Provider(metadata={**METADATA, "jwks_uri": elsewhere.replace("https", "http")})
    with pytest.raises(UnavailableError):
        await verified(provider.verifier(endpoint_hosts=("keys.example.net",)), RSA.token())


async def test_jwks_uri_on_another_port_of_the_issuer() -> None:
    """Host names are compared, ports are not."""
    elsewhere = "https://id.example.com:9443/keys"
    provider = Provider(metadata={**METADATA, "jwks_uri": elsewhere})
    provider.answers[elsewhere] = KEYS
    assert await verified(provider.verifier(), RSA.token())


@pytest.mark.parametrize(
    ("issuer", "options"),
    [
        ("http://127.0.0.1:9000", {}),
        ("http://localhost:9000", {}),
        ("http://[::1]:9000", {}),
        ("http://keycloak:8080/realms/x", {"insecure_hosts": ("keycloak",)}),
    ],
)
async def test_plain_http_where_it_is_allowed(issuer: str, options: dict[str, Any]) -> None:
    """On loopback, and inside one's own network where the operator names the host."""
    provider = Provider()
    provider.answers[f"{issuer}{METADATA_PATH}"] = {"issuer": issuer, "jwks_uri": f"{issuer}/keys"}
    provider.answers[f"{issuer}/keys"] = KEYS
    assert await verified(provider.verifier(issuer, **options), RSA.token(good_claims(iss=issuer)))


@pytest.mark.parametrize(
    "issuer",
    [
        *(
            "http://id.example.com",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
        ),
        *("ftp://id.example.com", "id.example.com", "https://", "", "https://a@b.example"),
        *("https://id.example.com/?x=1", "https://id.example.com/#x", "https://id.example.com/ x"),
        *("https://id.example.com\\x", "javascript:alert(1)", "http://10.0.0.1", "http://0.0.0.0"),
    ],
)
def test_issuer_that_is_no_https_url(issuer: str) -> None:
    """A configured issuer is checked when the verifier is built."""
    with pytest.raises(ConfigurationError):
        OIDCVerifier(issuer, audience=AUDIENCE)


async def test_insecure_host_does_not_make_others_insecure() -> None:
    """With one insecure host configured, the document's other hosts must still be https."""
    provider = Provider(metadata={**METADATA, "jwks_uri": "http://other.example/keys"})
    verifier = provider.verifier(insecure_hosts=("keycloak",), endpoint_hosts=("other.example",))
    with pytest.raises(UnavailableError):
        await verified(verifier, RSA.token())
    assert len(provider.requests) == 1


KEY_SETS_REFUSED: Final[Mapping[str, Any]] = {
    "100,000 keys": {"keys": [{}] * 100_000},
    "101 keys": {"keys": [dict(RSA.jwk)] * 101},
    "no keys": {"keys": []},
    "keys missing": {},
    "keys an object": {"keys": {"rsa": dict(RSA.jwk)}},
    "keys null": {"keys": None},
    "only broken keys": {"keys": [None, 7, "x", [], {}, {"kty": "RSA"}]},
    "with a secret": {"keys": [dict(RSA.jwk), {"kty": "oct", "kid": "s", "k": "A" * 64}]},
    "only secrets": {"keys": [{"kty": "oct", "kid": "rsa", "k": "A" * 64}]},
    "with a private RSA key": {"keys": [dict(RSA.jwk), {**RSA.jwk, "kid": "x", "d": "AQAB"}]},
    "with a private EC key": {"keys": [dict(RSA.jwk), {**EC.jwk, "d": "AQAB"}]},
    "with a CRT member": {"keys": [{**RSA.jwk, "qi": "AQAB"}]},
}


@pytest.mark.parametrize("keys", KEY_SETS_REFUSED.values(), ids=KEY_SETS_REFUSED.keys())
async def test_key_set_that_is_refused_whole(keys: Any) -> None:
    """Too many, none, secrets or private keys among them: whoever made it is not believed."""
    with pytest.raises(UnavailableError):
        await verified(Provider(keys=keys).verifier(), RSA.token())


@pytest.mark.parametrize(
    "broken",
    [
        *(None, 7, "text", [], {}, {"kty": "RSA"}, {"kty": ["RSA"]}, {"kty": "XYZ", "kid": "x"}),
        {**RSA.jwk, "kid": ["x"]},
        {**RSA.jwk, "kid": "x", "n": "=="},
        {**RSA.jwk, "kid": "x", "n": ""},
        {**EC.jwk, "kid": "x", "crv": ["P-256"]},
        {**EC.jwk, "kid": "x", "x": "AA"},
        {**RSA.jwk, "kid": "x", "use": "enc"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "x", "x": "é"},
        {"kty": "RSA", "kid": "x", "n": "A" * 100_000, "e": "AQAB"},
        {**RSA.jwk, "kid": "x", "x5c": ["nonsense"], "x5t": 7},
    ],
    ids=lambda value: str(value)[:24],
)
async def test_broken_member_costs_itself_only(broken: Any) -> None:
    """The keys beside it still verify."""
    provider = Provider(keys={"keys": [broken, dict(RSA.jwk)]})
    assert await verified(provider.verifier(), RSA.token())


def test_last_good_set_survives_a_rotten_renewal() -> None:
    """A set that is refused whole doesn't replace the one that is held."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        provider = Provider()
        verifier = provider.verifier(freshness=JWKSRefresh(refresh_after=10))
        await verifier.verify(Credentials(scheme="bearer", token=RSA.token()))
        provider.answers[f"{ISSUER}/keys"] = KEY_SETS_REFUSED["with a private RSA key"]
        begun, fetched = loop.time(), len(provider.requests)
        while loop.time() - begun < 100:
            await asyncio.sleep(5)
            token = RSA.token(good_claims(jti=str(loop.time())))
            await verifier.verify(Credentials(scheme="bearer", token=token))
        assert len(provider.requests) > fetched
        await verifier.aclose()

    in_fast_time(story())


def test_document_that_drips_is_given_up_in_time() -> None:
    """A byte a second, for ever: each document has five seconds in all."""

    def drip(request: httpx.Request) -> httpx.Response:
        async def body() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(1)
                yield b" "

        return httpx.Response(200, content=body())

    async def story() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(UnavailableError):
            await verified(Provider(metadata=drip).verifier(), RSA.token())
        assert loop.time() <= 6

    in_fast_time(story())


def test_moved_keys_are_found_again() -> None:
    """Where the old address fails, the metadata is read again before the next attempt."""

    async def story() -> None:
        provider = Provider()
        verifier = provider.verifier(freshness=JWKSRefresh(refresh_after=60))
        await verifier.verify(Credentials(scheme="bearer", token=RSA.token()))
        moved = rsa_signer("moved")
        provider.answers[f"{ISSUER}/keys"] = httpx.Response(404)
        provider.answers[f"{ISSUER}{METADATA_PATH}"] = {
            **METADATA,
            "jwks_uri": f"{ISSUER}/new-keys",
        }
        provider.answers[f"{ISSUER}/new-keys"] = jwks(moved)
        await asyncio.sleep(70)
        await verifier.verify(Credentials(scheme="bearer", token=moved.token()))
        await verifier.aclose()

    in_fast_time(story())


async def test_log_names_the_issuer_that_the_document_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The fix of the commonest mistake: Auth0's issuer ends in a slash."""
    provider = Provider(metadata={**METADATA, "issuer": ISSUER + "/"})
    with caplog.at_level(logging.WARNING), pytest.raises(UnavailableError):
        await verified(provider.verifier(), RSA.token())
    assert f'issuer: the document says "{ISSUER}/"' in caplog.text
    assert "slash" in caplog.text


async def test_log_bounds_and_escapes_what_a_document_says(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A document's words are one line, however long and odd."""
    provider = Provider(metadata={**METADATA, "issuer": "x\n\x1b[2JFORGED LINE" * 100})
    with caplog.at_level(logging.WARNING), pytest.raises(UnavailableError):
        await verified(provider.verifier(), RSA.token())
    for record in caplog.records:
        assert "\n" not in record.getMessage()
        assert "\x1b" not in record.getMessage()
        assert len(record.getMessage()) < 600


async def test_given_address_of_keys() -> None:
    """`JWTVerifier(jwks_uri=…)` fetches exactly that address."""
    provider = Provider()
    verifier = JWTVerifier(
        issuer="any text",
        audience=AUDIENCE,
        jwks_uri=f"{ISSUER}/keys",
        http_transport=httpx.MockTransport(provider),
        clock=lambda: NOW,
    )
    verifier.start()
    assert not verifier.ready
    await asyncio.sleep(0)
    assert await verified(verifier, RSA.token(good_claims(iss="any text")))
    assert provider.urls == [f"{ISSUER}/keys"]
    assert verifier.ready


@pytest.mark.parametrize(
    "uri", ["http://id.example.com/keys", "/keys", "https://u:p@id.example.com/keys", 7, ""]
)
def test_given_address_is_checked(uri: Any) -> None:
    """Plain http, a relative address or userinfo is a ConfigurationError."""
    with pytest.raises(ConfigurationError):
        JWTVerifier(issuer=ISSUER, audience=AUDIENCE, jwks_uri=uri)
