"""Key sources at the face of a gate: whatever a provider answers, nobody gets in by it.

Without usable keys the answer is 503, which says when to come back: never a 401, never open.
"""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from support.doubles import (
    CHALLENGE,
    DENIAL,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    in_fast_time,
    knock,
    make_gate,
    one_response,
    seconds,
)
from support.signing import (
    AUDIENCE,
    ED,
    ISSUER,
    KEYS,
    NOW,
    RSA,
    b64,
    compact,
    good_claims,
    rsa_signer,
)

from xuna_middleware import OIDCVerifier, XunaGate, XunaMiddleware
from xuna_middleware.identity.keys.sources import RemoteKeys

METADATA_URL: Final = f"{ISSUER}/.well-known/openid-configuration"
KEYS_URL: Final = f"{ISSUER}/keys"
METADATA: Final = {"issuer": ISSUER, "jwks_uri": KEYS_URL}
GOOD: Final[Mapping[str, Any]] = {METADATA_URL: METADATA, KEYS_URL: KEYS}
MOVED: Final[Mapping[str, Any]] = {f"{url}/moved": answer for url, answer in GOOD.items()}
FOREIGN: Final = "https://keys.example.net/keys"
FORGED: Final = compact(RSA.header(), good_claims(), rsa_signer("stranger").sign)

#: Make an answer of what would have been a good one.
Spoil = Callable[[bytes], httpx.Response]
both_documents = pytest.mark.parametrize("url", GOOD, ids=["metadata", "keys"])


@dataclass
class Provider:
    """Publish good documents, unless spoilt, and keep what was asked."""

    documents: dict[str, Any] = field(default_factory=lambda: {**GOOD, **MOVED, FOREIGN: KEYS})
    spoilt: dict[str, Spoil] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        url = str(request.url)
        body = json.dumps(self.documents[url]).encode()
        return self.spoilt[url](body) if url in self.spoilt else httpx.Response(200, content=body)

    @property
    def urls(self) -> list[str]:
        return [str(request.url) for request in self.asked]

    def gate(self, platform: CountedPlatform, **options: Any) -> XunaGate:
        """Return a gate that takes this provider's tokens and lives in the loop's time."""
        begun = seconds()
        verifier = OIDCVerifier(
            ISSUER,
            audience=AUDIENCE,
            http_transport=httpx.MockTransport(self.handle),
            clock=lambda: NOW + seconds() - begun,
            **options,
        )
        assert isinstance(verifier._keys, RemoteKeys)
        verifier._keys._now = seconds
        return make_gate(platform, verifier=verifier)


def token() -> str:
    """Return a good token of this very moment, which nobody remembers."""
    now = NOW + seconds()
    return RSA.token(good_claims(iat=now - 1, exp=now + 600))


def assert_unavailable(answer: Answer) -> None:
    """Check that nobody is told more than when to come back."""
    assert answer.status == 503
    assert 1 <= int(answer.header("retry-after") or 0) <= 30
    assert answer.header("www-authenticate") is None
    assert answer.header("content-type") == "application/problem+json"
    assert answer.header("cache-control") == "no-store"
    assert answer.json()["code"] == "unavailable"


async def assert_shut(gate: XunaGate, platform: CountedPlatform, presented: str) -> None:
    """Check each face: both routes, a protected path, a WebSocket, and `/readyz`."""
    issued = len(platform.requests)
    wrapped = XunaMiddleware(echo_app, gate, protect=["/api"])
    for path in ("/xuna/get-signed-url", "/xuna/conversation-token", "/api/things"):
        assert_unavailable(await ask(wrapped, path, headers=bearer(presented)))
    sent = await knock(wrapped, "/api/talk", headers=bearer(presented), extensions=DENIAL)
    assert_unavailable(one_response(sent, "websocket.http.response"))
    ready = await ask(wrapped, "/xuna/readyz")
    assert (ready.status, ready.json()) == (503, {"ready": False, "missing": ["identity"]})
    assert len(platform.requests) == issued


async def assert_nobody_gets_in(provider: Provider) -> None:
    """Check that a gate with nothing but this provider is shut, to forgers no less."""
    platform = CountedPlatform()
    async with provider.gate(platform) as gate:
        for presented in (RSA.token(), FORGED):
            await assert_shut(gate, platform, presented)
    assert platform.requests == []


async def assert_opens(provider: Provider, **options: Any) -> None:
    """Check that a good token gets one pass, and a forged one the challenge."""
    platform = CountedPlatform()
    async with provider.gate(platform, **options) as gate:
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
        refused = await ask(gate, headers=bearer(FORGED))
        assert (refused.status, refused.header("www-authenticate")) == (401, CHALLENGE)
        assert (await ask(gate, "/readyz")).json()["ready"] is True
    assert len(platform.requests) == 1


async def test_good_provider() -> None:
    """The control of all below: two requests, nothing of the caller's in them."""
    provider = Provider()
    await assert_opens(provider)
    assert provider.urls == [METADATA_URL, KEYS_URL]
    for request in provider.asked:
        assert request.headers["accept-encoding"] == "identity"
        assert "authorization" not in request.headers


@pytest.mark.parametrize(
    "issuer",
    ["https://evil.example", ISSUER + "/", ISSUER.upper(), ISSUER[:-1], [ISSUER], None],
    ids=["another", "slash", "upper case", "prefix", "list", "null"],
)
async def test_issuer_of_the_document_differs(issuer: Any) -> None:
    """It is another's document: no address in it is asked."""
    provider = Provider()
    provider.documents[METADATA_URL] = {**METADATA, "issuer": issuer}
    await assert_nobody_gets_in(provider)
    assert set(provider.urls) == {METADATA_URL}


@pytest.mark.parametrize(
    "url",
    [
        FOREIGN,
        "https://x.id.example.com/keys",
        "https://example.com/keys",
        "https://id.example.com.evil.example/keys",
        "https://id.example.com@evil.example/keys",
        "https://169.254.169.254/keys",
        "http://127.0.0.1/keys",
        KEYS_URL.replace("https", "http"),
        "file:///keys",
    ],
)
async def test_endpoint_on_a_foreign_host(url: str) -> None:
    """Good keys lie there, and aren't asked for: the operator vouched for no such host."""
    provider = Provider()
    provider.documents |= {METADATA_URL: {**METADATA, "jwks_uri": url}, url: KEYS}
    await assert_nobody_gets_in(provider)
    assert set(provider.urls) == {METADATA_URL}


async def test_foreign_host_that_the_operator_wrote() -> None:
    """`endpoint_hosts` opens the named host."""
    provider = Provider()
    provider.documents[METADATA_URL] = {**METADATA, "jwks_uri": FOREIGN}
    await assert_opens(provider, endpoint_hosts=("keys.example.net",))
    assert provider.urls == [METADATA_URL, FOREIGN]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@both_documents
async def test_redirect_is_not_followed(url: str, status: int) -> None:
    """Not even to the same host, where the good document lies."""
    provider = Provider()
    location = {"location": f"{url}/moved"}
    provider.spoilt[url] = lambda body: httpx.Response(status, headers=location, content=body)
    await assert_nobody_gets_in(provider)
    assert set(provider.urls) <= set(GOOD)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@both_documents
async def test_provider_in_error(url: str, status: int) -> None:
    """A body that would be good says nothing beside a 5xx."""
    provider = Provider()
    provider.spoilt[url] = lambda body: httpx.Response(status, content=body)
    await assert_nobody_gets_in(provider)


def endless(pause: float) -> Spoil:
    """Send a space each `pause` seconds, for ever, and the good document never."""

    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(pause)
            yield b" "

    return lambda body: httpx.Response(200, content=drip())


@pytest.mark.parametrize("pause", [1_000_000, 1], ids=["hangs", "drips"])
@both_documents
def test_provider_that_hangs(url: str, pause: float) -> None:
    """Who waits is answered after five seconds; those behind, at once."""

    async def story() -> None:
        provider = Provider()
        provider.spoilt[url] = endless(pause)
        await assert_nobody_gets_in(provider)
        assert seconds() == pytest.approx(5, abs=0.5)

    in_fast_time(story())


@pytest.mark.parametrize("reset", [False, True], ids=["ended", "reset"])
@both_documents
async def test_truncated_document(url: str, reset: bool) -> None:
    """Half a document is none, whether the connection ended or broke."""

    def half(body: bytes) -> httpx.Response:
        async def sent() -> AsyncIterator[bytes]:
            yield body[: len(body) // 2] if not reset else body
            if reset:
                raise httpx.ReadError("reset")

        return httpx.Response(200, content=sent())

    provider = Provider()
    provider.spoilt[url] = half
    await assert_nobody_gets_in(provider)


@both_documents
async def test_oversize_body(url: str) -> None:
    """The good document lies behind 100 MB of white space; little over 512 KB of it is read."""
    read = [0]

    def padded(body: bytes) -> httpx.Response:
        async def sent() -> AsyncIterator[bytes]:
            read.append(0)
            for _ in range(100 * 1024):
                read[-1] += 1024
                yield b" " * 1024
            yield body

        return httpx.Response(200, content=sent())

    provider = Provider()
    provider.spoilt[url] = padded
    await assert_nobody_gets_in(provider)
    assert 512 * 1024 <= max(read) <= 600 * 1024


@pytest.mark.parametrize("padding", [0, 50_000_000], ids=["small", "bomb"])
@both_documents
async def test_compressed_body(url: str, padding: int) -> None:
    """Compression wasn't asked for, so nothing is unpacked, be it ever so small."""

    def packed(body: bytes) -> httpx.Response:
        stream = httpx.ByteStream(gzip.compress(b" " * padding + body, compresslevel=1))
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=stream)

    provider = Provider()
    provider.spoilt[url] = packed
    await assert_nobody_gets_in(provider)


@pytest.mark.parametrize("number", [101, 1_000])
async def test_too_many_keys(number: int) -> None:
    """A hundred are a set; one more, and the good key among them opens nothing."""
    others = [{**RSA.jwk, "kid": f"key-{n}"} for n in range(number - 1)]
    provider = Provider()
    provider.documents[KEYS_URL] = {"keys": [dict(RSA.jwk), *others[:99]]}
    await assert_opens(provider)
    provider.documents[KEYS_URL] = {"keys": [dict(RSA.jwk), *others]}
    await assert_nobody_gets_in(provider)


async def test_a_hundred_thousand_members() -> None:
    """However little each of them says."""
    provider = Provider()
    provider.spoilt[KEYS_URL] = lambda body: httpx.Response(
        200, content=body.replace(b"]", b"," + b",".join([b"{}"] * 100_000) + b"]")
    )
    await assert_nobody_gets_in(provider)


@pytest.mark.parametrize("media_type", ["text/html", "application/json"])
@both_documents
async def test_html(url: str, media_type: str) -> None:
    """A sign-in page of some proxy, whatever it calls itself."""
    provider = Provider()
    page, headers = b"<html><body>Sign in</body></html>", {"content-type": media_type}
    provider.spoilt[url] = lambda _: httpx.Response(200, headers=headers, content=page)
    await assert_nobody_gets_in(provider)


@pytest.mark.parametrize(
    "broken",
    [
        *(None, 7, "text", [], {}, {"kty": "RSA", "kid": "ed"}, {**ED.jwk, "x": "AAAA"}),
        *({**ED.jwk, "crv": "X25519"}, {**ED.jwk, "use": "enc"}, {**ED.jwk, "kid": ["ed"]}),
    ],
    ids=["null", "number", "text", "list", "empty", "RSA", "x", "crv", "use", "kid"],
)
async def test_one_broken_member_costs_itself_only(broken: Any) -> None:
    """The key beside it opens; its own tokens are refused, and the platform hears of one call."""
    platform, provider = CountedPlatform(), Provider()
    provider.documents[KEYS_URL] = {"keys": [broken, dict(RSA.jwk)]}
    async with provider.gate(platform) as gate:
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
        refused = await ask(gate, headers=bearer(ED.token()))
        assert (refused.status, refused.header("www-authenticate")) == (401, CHALLENGE)
    assert len(platform.requests) == 1


@pytest.mark.parametrize(
    "secret",
    [
        {"kty": "oct", "kid": "secret", "k": b64(b"k" * 64)},
        {**RSA.jwk, "kid": "private", "d": "AQAB"},
    ],
    ids=["oct", "private"],
)
async def test_set_with_a_secret_is_refused_whole(secret: Any) -> None:
    """Who publishes secrets beside public keys is believed in nothing."""
    provider = Provider()
    provider.documents[KEYS_URL] = {"keys": [*KEYS["keys"], secret]}
    await assert_nobody_gets_in(provider)


ROTTEN: Final[Mapping[str, Spoil]] = {
    "error": lambda body: httpx.Response(503, content=body),
    "hangs": endless(1_000_000),
    "truncated": lambda body: httpx.Response(200, content=body[:-9]),
    "HTML": lambda body: httpx.Response(200, html="<html>"),
    "no keys": lambda body: httpx.Response(200, json={"keys": []}),
    "a secret": lambda body: httpx.Response(
        200, json={"keys": [*KEYS["keys"], {"kty": "oct", "kid": "s", "k": b64(b"k" * 64)}]}
    ),
    "too many": lambda body: httpx.Response(200, json={"keys": [dict(ED.jwk)] * 101}),
}


@pytest.mark.parametrize("spoil", ROTTEN.values(), ids=ROTTEN.keys())
def test_last_good_set_keeps_serving(spoil: Spoil) -> None:
    """For an hour nobody notices, then all is shut; and it opens again by itself."""

    async def story() -> None:
        platform, provider = CountedPlatform(), Provider()
        async with provider.gate(platform) as gate:
            assert (await ask(gate, headers=bearer(token()))).status == 200
            provider.spoilt[KEYS_URL] = spoil
            for _ in range(59):
                await asyncio.sleep(60)
                begun = seconds()
                assert (await ask(gate, headers=bearer(token()))).status == 200
                assert (await ask(gate, "/readyz")).status == 200
                assert seconds() == begun, "nobody waits for the provider"
            await asyncio.sleep(61)
            await assert_shut(gate, platform, token())
            await assert_shut(gate, platform, FORGED)
            del provider.spoilt[KEYS_URL]
            await asyncio.sleep(31)
            assert (await ask(gate, "/readyz")).status == 200
            assert (await ask(gate, headers=bearer(token()))).status == 200
        assert len(platform.requests) == 61

    in_fast_time(story())


def test_failed_first_load_backs_off() -> None:
    """From 1 to 30 seconds between attempts, however many ask; and they are answered at once."""

    async def story() -> None:
        platform, provider, attempts = CountedPlatform(), Provider(), list[float]()

        def fails(body: bytes) -> httpx.Response:
            attempts.append(seconds())
            return httpx.Response(500)

        provider.spoilt[METADATA_URL] = fails
        async with provider.gate(platform) as gate:
            for _ in range(400):
                assert_unavailable(await ask(gate, headers=bearer(RSA.token())))
                await asyncio.sleep(0.25)
        assert attempts == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91], abs=0.3)
        assert platform.requests == []

    in_fast_time(story())
