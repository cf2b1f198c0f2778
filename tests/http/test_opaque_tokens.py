"""Opaque tokens (RFC 7662) through the whole gate, against a provider that enforces and counts."""

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, unquote_plus

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.doubles import (
    CHALLENGE,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    in_fast_time,
    make_gate,
    make_verifier,
    seconds,
)
from support.signing import CANARY, EC, ISSUER, NOW, RSA, proof, rsa_key, thumbprint

from xuna_middleware import (
    ConfigurationError,
    Credentials,
    IntrospectionVerifier,
    XunaGate,
    XunaMiddleware,
)

SECRET: Final = f"{CANARY}:s%c+r/t"
ENDPOINT: Final = f"{ISSUER}/introspect"
ANSWER: Final[Mapping[str, Any]] = {
    "active": True,
    "iss": ISSUER,
    "sub": "user-1",
    "aud": "voice",
    "exp": NOW + 600,
    "iat": NOW - 10,
    "client_id": "app",
    "scope": "voice:talk",
    "token_type": "Bearer",
}
GOOD: Final = f"opaque-{CANARY}-0001"


@dataclass
class Provider:
    """A provider that knows its clients and its tokens, and counts what it is asked."""

    tokens: dict[str, Any] = field(default_factory=lambda: {GOOD: dict(ANSWER)})
    asked: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    gate: asyncio.Event | None = None
    reply: Callable[[], httpx.Response] | None = None
    metadata: Mapping[str, Any] = field(
        default_factory=lambda: {"issuer": ISSUER, "introspection_endpoint": ENDPOINT}
    )

    async def handle(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            self.asked["metadata"] += 1
            return httpx.Response(200, json=self.metadata)
        assert str(request.url) == ENDPOINT
        form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
        self.asked[form["token"]] += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
            return self.answered(request, form)
        finally:
            self.at_once -= 1

    def answered(self, request: httpx.Request, form: Mapping[str, str]) -> httpx.Response:
        if self.reply is not None:
            return self.reply()
        if not is_our_client(request, form):
            return httpx.Response(401, json={"error": "invalid_client"})
        return httpx.Response(200, json=self.tokens.get(form["token"], {"active": False}))

    def verifier(self, **options: Any) -> IntrospectionVerifier:
        client = {"client_id": "gate", "client_secret": SECRET}
        if "private_key" in options:
            del client["client_secret"]
        defaults = {
            "audience": "voice",
            "http_transport": httpx.MockTransport(self.handle),
            "clock": lambda: NOW,
            **client,
        }
        return IntrospectionVerifier(ISSUER, **{**defaults, **options})

    def front(self, platform: CountedPlatform | None = None, **options: Any) -> XunaGate:
        return make_gate(platform, verifier=self.verifier(**options))


def is_our_client(request: httpx.Request, form: Mapping[str, str]) -> bool:
    """Check the client as RFC 6749 section 2.3.1 and RFC 7523 section 2.2 have it."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("Basic "):
        decoded = base64.b64decode(authorization[6:]).decode()
        name, _, secret = decoded.partition(":")
        return (unquote_plus(name), unquote_plus(secret)) == ("gate", SECRET)
    if "client_assertion" in form:
        said = jwt.decode(
            form["client_assertion"], options={"verify_signature": False}, algorithms=["ES256"]
        )
        key: Any = CLIENT_KEY.public_key() if _is_ec(form) else rsa_key().public_key()
        jwt.decode(form["client_assertion"], key, algorithms=["ES256", "RS256"], audience=ISSUER)
        return bool(said["iss"] == said["sub"] == "gate" and said["exp"] - said["iat"] == 60)
    return (form.get("client_id"), form.get("client_secret")) == ("gate", SECRET)


def _is_ec(form: Mapping[str, str]) -> bool:
    return bool(jwt.get_unverified_header(form["client_assertion"])["alg"] == "ES256")


CLIENT_KEY: Final = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text.decode()


async def sent(gate: XunaGate, token: str = GOOD) -> Answer:
    return await ask(gate, headers=bearer(token))


async def until(reached: Callable[[], bool]) -> None:
    """Let everybody run until something is so; give up after many turns."""
    for _ in range(20_000):
        if reached():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"auth_method": "client_secret_post"},
        {"private_key": pem(rsa_key())},
        {"private_key": pem(CLIENT_KEY), "private_key_algorithm": "ES256"},
        {"introspection_endpoint": ENDPOINT},
    ],
    ids=["basic", "post", "private_key_jwt", "with ES256", "given endpoint"],
)
async def test_good_token(options: Any) -> None:
    """Each way for the gate to say who asks; the endpoint from the metadata or given."""
    provider, platform = Provider(), CountedPlatform()
    answer = await sent(provider.front(platform, **options))
    assert (answer.status, len(platform.requests)) == (200, 1)
    assert provider.asked == {
        GOOD: 1,
        **({} if "introspection_endpoint" in options else {"metadata": 1}),
    }


async def test_what_the_identity_holds() -> None:
    """The answer's members are its claims, but for `active`."""
    provider = Provider()
    provider.tokens[GOOD]["roles"] = ["staff"]
    identity = await provider.verifier().verify(Credentials(scheme="bearer", token=GOOD))
    assert (identity.subject, identity.issuer, identity.client_id) == ("user-1", ISSUER, "app")
    assert (identity.scopes, identity.roles) == (frozenset({"voice:talk"}), frozenset({"staff"}))
    assert identity.expires_at == NOW + 600
    assert "active" not in identity.claims


CHANGES: Final[Mapping[str, Any]] = {
    "not active": {"active": False},
    "active as text": {"active": "true"},
    "active 1": {"active": 1},
    "active null": {"active": None},
    "another issuer": {"iss": ISSUER + "/"},
    "iss a list": {"iss": [ISSUER]},
    "another audience": {"aud": "other"},
    "no audience": {"aud": None},
    "aud of numbers": {"aud": ["voice", 1]},
    "aud part": {"aud": "voic"},
    "expired": {"exp": NOW},
    "exp text": {"exp": "9999999999"},
    "exp true": {"exp": True},
    "exp null": {"exp": None},
    "lives long": {"exp": NOW + 90000},
    "iat ahead": {"iat": NOW + 31},
    "nbf ahead": {"nbf": NOW + 31},
    "no subject": {"sub": None},
    "empty subject": {"sub": ""},
    "long subject": {"sub": "x" * 256},
    "odd subject": {"sub": "a\nb"},
    "subject number": {"sub": 7},
    "refresh token": {"token_type": "refresh_token"},
    "refresh use": {"token_use": "refresh"},
    "token type number": {"token_type": 1},
    "bound": {"cnf": {"jkt": "x"}},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_answers_that_are_a_no(change: Mapping[str, Any], caplog: Any) -> None:
    """The one 401, no call to the platform; asked once, then remembered for a while."""
    provider, platform = Provider(), CountedPlatform()
    provider.tokens[GOOD].update(change)
    gate = provider.front(platform)
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            answer = await sent(gate)
            assert (answer.status, answer.header("www-authenticate")) == (401, CHALLENGE)
    assert (provider.asked[GOOD], platform.requests) == (1, [])
    assert CANARY not in caplog.text


LEFT: Final = "left out"


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({"exp": NOW + 600.5, "iat": NOW - 0.5}, {}),
        ({"aud": ["other", "voice"]}, {}),
        ({"token_type": "bearer"}, {}),
        ({"token_type": "access_token"}, {}),
        ({"iss": LEFT}, {}),
        ({"exp": LEFT}, {}),
        ({"aud": LEFT}, {"audience": None, "client_ids": ["app"]}),
        ({"sub": LEFT}, {"subject_claims": ("sub", "client_id")}),
        ({"sub": LEFT, "username": "ada"}, {"subject_claims": ("sub", "username")}),
        ({"cnf": LEFT}, {"dpop": "accepted"}),
    ],
)
async def test_quirks_that_harm_nobody(change: Any, options: Any) -> None:
    """Float dates, other spellings, what RFC 7662 makes optional; more by the operator's word."""
    provider = Provider()
    answer = {**provider.tokens[GOOD], **change}
    provider.tokens[GOOD] = {n: v for n, v in answer.items() if v != LEFT}
    gate = make_gate(verifier=provider.verifier(**options), public_url="https://acme.com/xuna")
    assert (await sent(gate)).status == 200


async def test_clients_instead_of_an_audience() -> None:
    """A token of another client is for somebody else."""
    provider = Provider()
    assert (await sent(provider.front(audience=None, client_ids=("other",)))).status == 401
    assert (await sent(provider.front(client_ids=("app",)))).status == 200
    del provider.tokens[GOOD]["client_id"]
    assert (await sent(provider.front(client_ids=("app",)))).status == 401


@pytest.mark.parametrize(
    "token", ["short", "x" * 513, RSA.token(), "a" * 20 + "..", "b" * 20 + "=" * 3 + "c"]
)
async def test_looks_come_first(token: str) -> None:
    """What can't be one of the provider's tokens is refused without asking it."""
    provider = Provider()
    assert (await sent(provider.front(), token)).status in (400, 401)
    assert provider.asked == {}


async def test_pattern_of_the_providers_tokens() -> None:
    """Whoever knows their form keeps all others from the provider."""
    provider = Provider(tokens={"at_" + "a" * 40: dict(ANSWER)})
    gate = provider.front(token_pattern=r"at_[a-z]{40}")
    assert (await sent(gate, "at_" + "a" * 40)).status == 200
    assert (await sent(gate, GOOD)).status == 401
    assert provider.asked[GOOD] == 0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


async def test_revocation_is_seen_within_keep() -> None:
    """A good answer serves for `keep` seconds; then the provider is asked again."""
    provider, clock = Provider(), Clock()
    gate = provider.front(clock=clock, cache_seconds=10)
    assert (await sent(gate)).status == 200
    provider.tokens[GOOD] = {"active": False}
    clock.now += 9.9
    assert (await sent(gate)).status == 200
    clock.now += 0.1
    assert (await sent(gate)).status == 401
    assert provider.asked[GOOD] == 2


async def test_a_no_is_forgotten_after_five_seconds() -> None:
    """A token that is activated late isn't locked out."""
    provider, clock = Provider(tokens={}), Clock()
    gate = provider.front(clock=clock)
    assert (await sent(gate)).status == 401
    provider.tokens[GOOD] = dict(ANSWER)
    clock.now += 4.9
    assert (await sent(gate)).status == 401
    clock.now += 0.2
    assert (await sent(gate)).status == 200


async def test_never_past_exp() -> None:
    """What is kept ends with the token."""
    provider, clock = Provider(), Clock()
    provider.tokens[GOOD]["exp"] = NOW + 3
    gate = provider.front(clock=clock)
    assert (await sent(gate)).status == 200
    clock.now += 3
    assert (await sent(gate)).status == 401


async def test_keep_nothing() -> None:
    """`cache_seconds=0` asks each time."""
    provider = Provider()
    gate = provider.front(cache_seconds=0)
    for _ in range(3):
        assert (await sent(gate)).status == 200
    assert provider.asked[GOOD] == 3


async def test_large_answer_is_not_remembered() -> None:
    """An answer of 8 KiB serves for `keep`; a larger one would take too much memory."""
    provider = Provider()
    gate = provider.front()
    for number, size in enumerate((7_500, 9_000), start=1):
        token = f"large-answer-number-{number}"
        provider.tokens[token] = {**ANSWER, "groups": "x" * size}
        assert [(await sent(gate, token)).status for _ in range(3)] == [200] * 3
    assert provider.asked["large-answer-number-1"] == 1
    assert provider.asked["large-answer-number-2"] == 3


async def test_one_question_for_many() -> None:
    """A hundred requests with one token ask once; one that hangs up takes nobody along."""
    provider = Provider(gate=asyncio.Event())
    gate = provider.front()
    callers = [asyncio.create_task(sent(gate)) for _ in range(100)]
    await until(lambda: provider.asked[GOOD] == 1)
    callers[0].cancel()
    assert provider.gate is not None
    provider.gate.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert [answer.status for answer in answers[1:]] == [200] * 99  # type: ignore[union-attr]
    assert provider.asked[GOOD] == 1


async def test_a_flood_of_made_up_tokens() -> None:
    """So many questions at once, so many waiting, 503 beyond; a remembered caller goes on."""
    provider = Provider()
    gate = provider.front(max_concurrent=4, max_queued=10)
    assert (await sent(gate)).status == 200
    provider.gate = asyncio.Event()
    flood = [asyncio.create_task(sent(gate, f"made-up-token-{n:05}")) for n in range(2000)]
    await until(lambda: provider.at_once == 4)
    await until(lambda: sum(each.done() for each in flood) == 1986)
    assert (await sent(gate)).status == 200
    provider.gate.set()
    answers = await asyncio.gather(*flood)
    assert Counter(answer.status for answer in answers) == {401: 14, 503: 1986}
    assert {answer.header("retry-after") for answer in answers if answer.status == 503} == {"1"}
    assert provider.most_at_once == 4
    assert (await sent(gate, "made-up-token-99999")).status == 401


FAULTS: Final[Mapping[str, Callable[[], httpx.Response]]] = {
    "500": lambda: httpx.Response(500),
    "redirect": lambda: httpx.Response(307, headers={"location": "https://evil.example.com"}),
    "HTML": lambda: httpx.Response(200, html="<p>"),
    "a JWT": lambda: httpx.Response(200, text=RSA.token()),
    "a list": lambda: httpx.Response(200, json=[dict(ANSWER)]),
    "empty": lambda: httpx.Response(200, json={}),
    "duplicate members": lambda: httpx.Response(
        200, content=json.dumps(ANSWER)[:-1].encode() + b',"active":true}'
    ),
    "too much": lambda: httpx.Response(200, json={**ANSWER, "x": "y" * 70_000}),
    "our client refused": lambda: httpx.Response(401),
    "forbidden": lambda: httpx.Response(403),
    "blamed by 400": lambda: httpx.Response(400, json={"error": "invalid_client"}),
}


def broken() -> httpx.Response:
    raise httpx.ConnectError("no")


@pytest.mark.parametrize("reply", [*FAULTS.values(), broken], ids=[*FAULTS, "no connection"])
async def test_provider_that_fails(reply: Any, caplog: pytest.LogCaptureFixture) -> None:
    """503 with Retry-After, never 401 and never open; left alone for a while."""
    provider, platform = Provider(), CountedPlatform()
    gate = provider.front(platform)
    assert (await sent(gate)).status == 200
    provider.reply = reply
    first, second = await sent(gate, "token-number-two"), await sent(gate, "token-number-three")
    assert (first.status, second.status) == (503, 503)
    assert (first.header("retry-after"), second.header("retry-after")) == ("1", "1")
    assert sum(provider.asked.values()) - provider.asked["metadata"] == 2
    assert (await sent(gate)).status == 200
    assert len(platform.requests) == 2
    assert CANARY not in caplog.text


def strange(request: httpx.Request) -> bool:
    return b"made-up" in request.content


def fails_at(provider: Provider, fails: Callable[[httpx.Request], bool]) -> XunaGate:
    """Build a gate whose provider answers 500 to some questions; its clocks are the loop's."""

    async def handle(request: httpx.Request) -> httpx.Response:
        answer = await provider.handle(request)
        return httpx.Response(500) if fails(request) else answer

    transport = httpx.MockTransport(handle)
    verifier = provider.verifier(http_transport=transport, clock=lambda: NOW + seconds())
    verifier._endpoint._now = verifier._known_endpoint._now = seconds
    return make_gate(verifier=verifier)


def test_strangers_tokens_that_fail() -> None:
    """The provider fails at tokens that it never made: known callers go on, and `/readyz` says so;
    who is new is asked about after the pause.
    """

    async def story() -> None:
        provider = Provider()
        gate = fails_at(provider, strange)
        app = XunaMiddleware(echo_app, gate)
        assert (await sent(gate)).status == 200
        for number in range(60):
            assert (await sent(gate, f"made-up-token-{number:05}")).status == 503
            assert (await sent(gate)).status == 200
            assert (await ask(app, "/xuna/readyz")).json()["ready"] is True
            await asyncio.sleep(1)
        assert provider.asked[GOOD] >= 5
        provider.tokens["new-token-0123456789"] = dict(ANSWER)
        assert (await sent(gate, "new-token-0123456789")).status == 503
        await asyncio.sleep(30)
        assert (await sent(gate, "new-token-0123456789")).status == 200
        await gate.aclose()

    in_fast_time(story())


def test_known_token_that_fails() -> None:
    """Where the provider fails at a token that was good, the gate is not ready, until the pause is
    over: it would never be asked again if nobody was let in.
    """

    async def story() -> None:
        provider, down = Provider(), list[bool]()
        gate = fails_at(provider, lambda _: bool(down))
        app = XunaMiddleware(echo_app, gate)
        assert (await sent(gate)).status == 200
        await asyncio.sleep(10)
        down.append(True)
        assert (await sent(gate)).status == 503
        not_ready = {"ready": False, "missing": ["identity"]}
        assert (await ask(app, "/xuna/readyz")).json() == not_ready
        await asyncio.sleep(1)
        assert (await ask(app, "/xuna/readyz")).json()["ready"] is True
        down.clear()
        assert (await sent(gate)).status == 200
        await gate.aclose()

    in_fast_time(story())


def test_revoked_token_is_a_strangers() -> None:
    """What the provider took back is known no more: what fails at it makes nothing unready."""

    async def story() -> None:
        provider, down = Provider(), list[bool]()
        gate = fails_at(provider, lambda _: bool(down))
        app = XunaMiddleware(echo_app, gate)
        assert (await sent(gate)).status == 200
        del provider.tokens[GOOD]
        await asyncio.sleep(10)
        assert (await sent(gate)).status == 401
        down.append(True)
        await asyncio.sleep(5)
        assert (await sent(gate)).status == 503
        assert (await ask(app, "/xuna/readyz")).json()["ready"] is True
        await gate.aclose()

    in_fast_time(story())


def test_one_hiccup_is_one_pause() -> None:
    """Eight questions are under way when the provider fails: one second later it is asked again."""

    async def story() -> None:
        provider = Provider(reply=lambda: httpx.Response(502), gate=asyncio.Event())
        gate = fails_at(provider, lambda _: False)
        callers = [asyncio.create_task(sent(gate, f"token-number-{n:05}")) for n in range(8)]
        await until(lambda: provider.at_once == 8)
        assert provider.gate is not None
        provider.gate.set()
        answers = await asyncio.gather(*callers)
        assert {(each.status, each.header("retry-after")) for each in answers} == {(503, "1")}
        provider.reply = None
        await asyncio.sleep(1)
        assert (await sent(gate)).status == 200
        await gate.aclose()

    in_fast_time(story())


def test_known_caller_in_a_flood() -> None:
    """Made-up tokens hold the places of strangers: known tokens are asked about all the same."""

    async def story() -> None:
        provider, hanging = Provider(), asyncio.Event()

        async def handle(request: httpx.Request) -> httpx.Response:
            if strange(request):
                await hanging.wait()
            return await provider.handle(request)

        verifier = provider.verifier(
            http_transport=httpx.MockTransport(handle), clock=lambda: NOW + seconds(), max_queued=1
        )
        gate = make_gate(verifier=verifier)
        assert (await sent(gate)).status == 200
        await asyncio.sleep(10)
        flood = [asyncio.create_task(sent(gate, f"made-up-token-{n:05}")) for n in range(20)]
        await asyncio.sleep(0.1)
        assert sum(each.done() for each in flood) == 11
        assert (await sent(gate)).status == 200
        assert provider.asked[GOOD] == 2
        hanging.set()
        await asyncio.gather(*flood)
        await gate.aclose()

    in_fast_time(story())


async def test_known_tokens_of_one_account(caplog: pytest.LogCaptureFixture) -> None:
    """However many it has, other known callers have places."""
    provider = Provider()
    many = [f"one-of-many-tokens-{number:05}" for number in range(100)]
    provider.tokens |= {token: {**ANSWER, "sub": "gr\u00fcdig"} for token in many}
    gate = provider.front(cache_seconds=0)
    assert {(await sent(gate, token)).status for token in [*many, GOOD]} == {200}
    provider.gate = asyncio.Event()
    flood = [asyncio.create_task(sent(gate, token)) for token in many]
    await until(lambda: sum(each.done() for each in flood) == 82)
    assert "more than 18 at once from one account" in caplog.text
    caller = asyncio.create_task(sent(gate))
    await until(lambda: provider.at_once == 8)
    provider.gate.set()
    assert (await caller).status == 200
    assert Counter([(await each).status for each in flood]) == {200: 18, 503: 82}
    assert {(await sent(gate, token)).status for token in many} == {200}, "all places are free"


@pytest.mark.parametrize(
    ("said", "pause"), [("20", "20"), ("86400", "30"), ("", "1"), ("soon", "1"), ("-5", "1")]
)
def test_provider_that_limits_how_often_it_is_asked(said: str, pause: str) -> None:
    """It is left alone for as long as it says, within the bound: 10 seconds with known tokens."""

    async def story() -> None:
        headers = {"Retry-After": said} if said else {}
        provider = Provider()
        gate = fails_at(provider, lambda _: False)
        assert (await sent(gate)).status == 200
        await asyncio.sleep(11)
        provider.reply = lambda: httpx.Response(429, headers=headers)
        refused = await sent(gate, "made-up-token-0001")
        assert (refused.status, refused.header("Retry-After")) == (503, pause)
        known = await sent(gate)
        assert (known.status, known.header("Retry-After")) == (503, str(min(10, int(pause))))
        provider.reply = None
        await asyncio.sleep(min(10, int(pause)))
        assert (await sent(gate)).status == 200
        await gate.aclose()

    in_fast_time(story())


def test_a_provider_that_goes_on_failing() -> None:
    """Asked again after 1, 2, 4 … and at most 30 seconds; one good answer starts over."""

    async def story() -> None:
        provider = Provider(reply=lambda: httpx.Response(500))
        verifier = provider.verifier()
        verifier._endpoint._now = seconds
        gate = make_gate(verifier=verifier)
        waited = []
        for number in range(7):
            answer = await sent(gate, f"failing-token-number-{number}")
            waited.append(int(answer.header("retry-after") or 0))
            await asyncio.sleep(waited[-1])
        assert waited == [1, 2, 4, 8, 16, 30, 30]
        provider.reply = None
        assert (await sent(gate)).status == 200
        provider.reply = lambda: httpx.Response(500)
        assert (await sent(gate, "failing-token-number-7")).header("retry-after") == "1"
        await gate.aclose()

    in_fast_time(story())


@pytest.mark.parametrize("status", [401, 403])
async def test_provider_that_refuses_this_service(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake of the operator's is said as one, with what to look at."""
    provider = Provider(reply=lambda: httpx.Response(status))
    assert (await sent(provider.front())).status == 503
    assert f"refuses this service as an introspection client ({status})" in caplog.text


async def test_inside_the_cluster() -> None:
    """Metadata or endpoint over plain http, on hosts that the operator named."""
    inside = "http://provider:8080"

    async def at_home(request: httpx.Request) -> httpx.Response:
        assert str(request.url).startswith(inside)
        request.url = request.url.copy_with(scheme="https", host="id.example.com", port=None)
        return await provider.handle(request)

    places: list[dict[str, Any]] = [
        {"metadata_url": f"{inside}/.well-known/openid-configuration"},
        {"introspection_endpoint": f"{inside}/introspect"},
    ]
    for options in places:
        metadata = {"issuer": ISSUER, "introspection_endpoint": f"{inside}/introspect"}
        provider = Provider(metadata=metadata)
        options |= {"insecure_hosts": ["provider"], "http_transport": httpx.MockTransport(at_home)}
        assert (await sent(provider.front(**options))).status == 200
        assert provider.asked[GOOD] == 1


async def test_client_that_is_no_text() -> None:
    """It names nobody, and is in no list of clients."""
    provider = Provider()
    provider.tokens[GOOD]["client_id"] = ["app"]
    identity = await provider.verifier().verify(Credentials(scheme="bearer", token=GOOD))
    assert identity.client_id is None


async def test_a_token_that_the_provider_finds_malformed() -> None:
    """Its 400 is about that token alone: nobody else is kept waiting for it."""
    provider = Provider()
    gate = provider.front()
    provider.reply = lambda: httpx.Response(400, json={"error": "invalid_request"})
    assert (await sent(gate, "odd-token-of-a-stranger")).status == 401
    provider.reply = None
    assert (await sent(gate)).status == 200


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": ISSUER},
        {"issuer": ISSUER + "/", "introspection_endpoint": ENDPOINT},
        {"issuer": ISSUER, "introspection_endpoint": "https://evil.example.com/introspect"},
        {"issuer": ISSUER, "introspection_endpoint": "http://id.example.com/introspect"},
        {"issuer": ISSUER, "introspection_endpoint": 7},
    ],
)
async def test_metadata_that_is_not_believed(metadata: Any) -> None:
    """Tokens and secrets go to the issuer's own host only."""
    provider = Provider(metadata=metadata)
    assert (await sent(provider.front())).status == 503
    assert provider.asked == {"metadata": 1}


async def test_metadata_that_is_no_json() -> None:
    """A page instead of the metadata: 503, as for any provider that doesn't answer."""
    page = httpx.MockTransport(lambda request: httpx.Response(200, html="<p>"))
    assert (await sent(Provider().front(http_transport=page))).status == 503


async def test_beside_jwts_of_the_same_issuer() -> None:
    """One provider, both forms: each goes to its verifier."""
    provider = Provider()
    gate = make_gate(verifier=[make_verifier(), provider.verifier()])
    assert (await sent(gate)).status == 200
    assert (await sent(gate, RSA.token())).status == 200
    assert provider.asked[GOOD] == 1


async def test_bound_opaque_token() -> None:
    """The answer's `cnf` asks for a proof, on each request."""
    provider = Provider()
    provider.tokens[GOOD]["cnf"] = {"jkt": thumbprint(EC.jwk)}
    url = "https://acme.com/xuna/get-signed-url"
    gate = make_gate(
        verifier=provider.verifier(dpop="required"), public_url="https://acme.com/xuna"
    )
    assert (await sent(gate)).status == 401
    for number in range(2):
        headers = [
            (b"authorization", b"DPoP " + GOOD.encode()),
            (b"dpop", proof(EC, GOOD, url, jti=f"proof-{number}")),
        ]
        assert (await ask(gate, headers=headers)).status == 200
        assert (await ask(gate, headers=headers)).status == 401
    off = make_gate(verifier=provider.verifier(), public_url="https://acme.com/xuna")
    assert (await ask(off, headers=headers)).json()["code"] == "not_authenticated"


async def test_questions_wait_for_no_connection() -> None:
    """As many as may be asked at once are on their way at once, over a real network: strangers',
    known callers' and those of running conversations.
    """
    under_way: set[asyncio.StreamWriter] = set()
    all_are_here, answers = asyncio.Event(), asyncio.Event()
    answers.set()

    async def provider(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split()[0]))
                under_way.add(writer)
                if len(under_way) == 3 * 12:
                    all_are_here.set()
                await answers.wait()
                under_way.discard(writer)
                body = b'{"active":true,"sub":"user-1","client_id":"app"}'
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(provider, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    verifier = IntrospectionVerifier(
        address,
        client_id="gate",
        client_secret=SECRET,
        client_ids=["app"],
        introspection_endpoint=f"{address}/introspect",
        insecure_hosts=["127.0.0.1"],
        cache_seconds=0,
        max_concurrent=12,
    )

    def verified(kind: str) -> list[Any]:
        tokens = [f"token-of-a-{kind}-{number:05}" for number in range(12)]
        return [verifier.verify(Credentials(scheme="bearer", token=token)) for token in tokens]

    await asyncio.gather(*verified("caller"))
    answers.clear()
    rechecks = [verifier.recheck(f"token-of-a-talk-{number:05}") for number in range(12)]
    told = asyncio.gather(*verified("caller"), *verified("stranger"), *rechecks)
    async with asyncio.timeout(3):
        await all_are_here.wait()
        answers.set()
        assert len(await told) == 36
    await verifier.aclose()
    server.close()


async def test_closing_ends_what_is_asked() -> None:
    """A gate that closes leaves no question behind; who waited gets a 503."""
    provider = Provider(gate=asyncio.Event())
    gate = provider.front()
    waiting = asyncio.create_task(sent(gate))
    await until(lambda: provider.at_once == 1)
    await gate.aclose()
    assert (await waiting).status == 503
    assert provider.at_once == 0


def test_no_secret_in_any_rendering() -> None:
    """Nor in the texts of mistakes."""
    verifier = Provider().verifier()
    assert CANARY not in f"{verifier!r} {verifier._endpoint._client!r} {vars(verifier)}"


@pytest.mark.parametrize(
    "options",
    [
        {"audience": None},
        {"audience": ""},
        {"audience": None, "client_ids": "app"},
        {"client_ids": [""]},
        {"client_secret": None},
        {"client_secret": ""},
        {"client_id": ""},
        {"client_id": 7},
        {"auth_method": "none"},
        {"auth_method": "private_key_jwt"},
        {"private_key": "no key"},
        {"private_key": pem(rsa_key()), "private_key_algorithm": "ES256"},
        {"private_key": pem(rsa_key()), "private_key_algorithm": "HS256"},
        {"private_key": dict(EC.jwk), "private_key_algorithm": "ES256"},
        {"private_key": pem(rsa_key()), "client_secret": SECRET},
        {"token_pattern": "("},
        {"token_pattern": None},
        {"cache_seconds": 61},
        {"cache_seconds": -1},
        {"max_concurrent": 0},
        {"max_queued": -1},
        {"max_queued": True},
        {"leeway": 301},
        {"subject_claims": "sub"},
        {"subject_claims": ()},
        {"introspection_endpoint": "http://id.example.com/introspect"},
        {"dpop": "on"},
        {"http_transport": object()},
    ],
)
def test_options_that_make_no_sense(options: Any) -> None:
    """Refused when it is built, with the fix and without a secret."""
    with pytest.raises(ConfigurationError) as caught:
        Provider().verifier(**options)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(("age", "status"), [(86_430, 200), (86_431, 401)])
@pytest.mark.parametrize("exp", [None, NOW + 60])
async def test_token_older_than_max_lifetime(age: int, status: int, exp: int | None) -> None:
    """With an `iat` a token has an age, and it is bounded, whatever its `exp`: a revocation lasts
    no longer than this lets a token live.
    """
    answer = {**ANSWER, "iat": NOW - age, "exp": exp}
    provider = Provider({GOOD: {name: value for name, value in answer.items() if value}})
    assert (await ask(provider.front(), headers=bearer(GOOD))).status == status
