"""Proxies that sign in: their one signed header, and nothing else that they add."""

import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
from starlette.requests import HTTPConnection
from support.doubles import (
    CHALLENGE,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    make_gate,
    make_verifier,
)
from support.proxies import (
    ALB,
    ALB_SIGNER,
    AUD,
    CLIENT,
    IAP_AUDIENCE,
    IDP,
    KID,
    REGION,
    TEAM,
    Published,
    alb_token,
    cloudflare_claims,
    cloudflare_token,
    iap_claims,
    iap_token,
    now,
    published,
)
from support.signing import CANARY, EC, LEFT_OUT, RSA, ec_signer, rsa_signer

from xuna_middleware import (
    Agent,
    Event,
    InvalidTokenError,
    XunaGate,
    require_roles,
    require_scopes,
)
from xuna_middleware.identity.proxies.authenticators import (
    ProxyAuthenticator,
    aws_alb,
    cloudflare_access,
    google_iap,
)

CLOUDFLARE: Final = b"cf-access-jwt-assertion"
IAP: Final = b"x-goog-iap-jwt-assertion"
AMAZON: Final = b"x-amzn-oidc-data"
SAME_ORIGIN: Final = (b"sec-fetch-site", b"same-origin")


def cloudflare(keys: Published, **options: Any) -> ProxyAuthenticator:
    return cloudflare_access("acme", audience=AUD, http_transport=keys.transport, **options)


def google(keys: Published, **options: Any) -> ProxyAuthenticator:
    return google_iap(audience=IAP_AUDIENCE, http_transport=keys.transport, **options)


def amazon(keys: Published, **options: Any) -> ProxyAuthenticator:
    good = {"signer": ALB, "issuer": IDP, "client_id": CLIENT, "http_transport": keys.transport}
    return aws_alb(REGION, **{**good, **options})


PROXIES: Final = {
    "cloudflare": (cloudflare, CLOUDFLARE, cloudflare_token),
    "google": (google, IAP, iap_token),
    "amazon": (amazon, AMAZON, alb_token),
}
Make = Callable[..., ProxyAuthenticator]
Token = Callable[..., str]
each_proxy = pytest.mark.parametrize(("make", "header", "token"), PROXIES.values(), ids=PROXIES)


async def through(gate: XunaGate, *headers: tuple[bytes, bytes | str]) -> Answer:
    """Ask as a page of the app's own does, with what the proxy added."""
    raw = [(n, v.encode("latin-1") if isinstance(v, str) else v) for n, v in headers]
    return await ask(gate, headers=[*raw, SAME_ORIGIN])


@pytest.mark.parametrize(
    ("name", "issuer", "subject"),
    [
        ("cloudflare", TEAM, "7335d417-61da-459d-899c-0a01c76a2f94"),
        (
            "google",
            "https://cloud.google.com/iap",
            "accounts.google.com:118133858486581853996",
        ),
        ("amazon", IDP, "23d498b2-3031-70d25"),
    ],
)
async def test_caller_is_whom_the_proxy_signed_in(name: str, issuer: str, subject: str) -> None:
    """A token of the documented shape opens; keys are fetched once for all."""
    make, header, token = PROXIES[name]
    keys, heard = published(), list[Event]()
    gate = make_gate(authenticator=make(keys), on_event=[heard.append])
    for _ in range(3):
        assert (await through(gate, (header, token()))).status == 200
    assert (heard[0].issuer, heard[0].subject) == (issuer, subject)
    assert len(keys.asked) == 1
    await gate.aclose()


@each_proxy
async def test_header_is_ambient(make: Make, header: bytes, token: Token) -> None:
    """The proxy adds it for a cookie, so another site's page must not profit from it."""
    platform = CountedPlatform()
    gate = make_gate(platform, authenticator=make(published()))
    answer = await ask(gate, headers=[(header, token().encode()), (b"sec-fetch-site", b"none")])
    assert answer.status == 403
    assert platform.requests == []
    await gate.aclose()


@each_proxy
async def test_no_header_is_nobody(make: Make, header: bytes, token: Token) -> None:
    """Past the proxy, or before anybody signed in; the unsigned headers say nothing."""
    keys = published()
    gate = make_gate(authenticator=make(keys))
    unsigned = [
        (b"cf-access-authenticated-user-email", "ada@acme.com"),
        (b"x-goog-authenticated-user-id", "accounts.google.com:1"),
        (b"x-amzn-oidc-identity", "23d498b2-3031-70d25"),
        (b"x-amzn-oidc-accesstoken", "eyJ"),
        (b"cookie", f"CF_Authorization={cloudflare_token()}"),
    ]
    answer = await through(gate, *unsigned)
    assert (answer.status, answer.json()["code"]) == (401, "not_authenticated")
    await gate.aclose()


@each_proxy
async def test_two_headers_are_malformed(make: Make, header: bytes, token: Token) -> None:
    """Whose is it, if one was there before the proxy added its own? Nobody is guessed."""
    gate = make_gate(authenticator=make(published()))
    good = (header, token())
    assert (await through(gate, good, good)).status == 400
    await gate.aclose()


@each_proxy
async def test_authorization_header_goes_first(make: Make, header: bytes, token: Token) -> None:
    """A presented token is the verifier's alone: its failure never falls through."""
    gate = make_gate(authenticator=make(published()), verifier=make_verifier())
    good = (header, token())
    assert (await through(gate, good)).status == 200
    assert (await through(gate, good, *bearer("bad"))).status == 401
    await gate.aclose()


@each_proxy
async def test_keys_out_of_reach_are_a_503(make: Make, header: bytes, token: Token) -> None:
    """It can't be known now; never open, and never a 401 for everyone."""
    keys = Published(absent=502)
    gate = make_gate(authenticator=make(keys))
    answer = await through(gate, (header, token()))
    assert answer.status == 503
    assert answer.header("retry-after")
    await gate.aclose()


def bad_cloudflare() -> dict[str, str]:
    return {
        "another application": cloudflare_token(aud=["b" * 64]),
        "another team": cloudflare_token(iss="https://evil.cloudflareaccess.com"),
        "issuer with a slash": cloudflare_token(iss=TEAM + "/"),
        "the team's session": cloudflare_token(type="org"),
        "no type": cloudflare_token(type=LEFT_OUT),
        "a service token": cloudflare_token(sub="", common_name="e367826f93b8d71185e03fe5.access"),
        "ended": cloudflare_token(exp=now() - 60),
        "too long": cloudflare_token(exp=now() + 7 * 86400),
        "at+jwt": cloudflare_token({"typ": "at+jwt"}),
        "made-up kid": cloudflare_token({"kid": "made-up"}),
        "another key": rsa_signer("rsa-2").token(
            cloudflare_claims(), {"alg": "RS256", "kid": "rsa", "typ": "JWT"}
        ),
        "another algorithm": EC.token(cloudflare_claims(), EC.header(typ="JWT")),
    }


def bad_google() -> dict[str, str]:
    return {
        "another project": iap_token(aud="/projects/1/global/backendServices/1"),
        "no audience": iap_token(aud=LEFT_OUT),
        "another issuer": iap_token(iss="https://accounts.google.com"),
        "ended": iap_token(exp=now() - 60),
        "eleven minutes and more": iap_token(exp=now() + 640),
        "in the future": iap_token(iat=now() + 300),
        "another key": ec_signer("ec-2").token(iap_claims(), EC.header(typ="JWT")),
        "RS256": RSA.token(iap_claims(), RSA.header(typ="JWT")),
        "dpop+jwt": iap_token({"typ": "dpop+jwt"}),
    }


def bad_amazon() -> dict[str, str]:
    token = alb_token()
    first, second, third = token.split(".")
    return {
        "another load balancer": alb_token({"signer": ALB[:-1] + "d"}),
        "no signer": alb_token({"signer": LEFT_OUT}),
        "a list of signers": alb_token({"signer": [ALB]}),
        "signer in the payload alone": alb_token({"signer": LEFT_OUT}, client=CLIENT),
        "another client": alb_token({"client": "another"}),
        "another provider": alb_token({"iss": "https://evil.example.com"}),
        "userinfo of another": alb_token(iss="https://evil.example.com"),
        "ended": alb_token({"exp": now() - 60}),
        "no end": alb_token({"exp": LEFT_OUT}),
        "an end that is none": alb_token({"exp": True}),
        "payload ended": alb_token(exp=now() - 60),
        "a week": alb_token({"exp": now() + 7 * 86400}),
        "no subject": alb_token(sub=LEFT_OUT),
        "empty subject": alb_token(sub=""),
        "long subject": alb_token(sub="x" * 256),
        "number as subject": alb_token(sub=7),
        "control characters": alb_token(sub="a\nb"),
        "another key": alb_token(by=ec_signer("another")),
        "none": alb_token({"alg": "none"}),
        "ES384": alb_token({"alg": "ES384"}),
        "at+jwt": alb_token({"typ": "at+jwt"}),
        "crit": alb_token({"crit": ["exp"]}),
        "jwk": alb_token({"jwk": dict(ALB_SIGNER.jwk)}),
        "no kid": alb_token({"kid": LEFT_OUT}),
        "kid as a path": alb_token({"kid": "../" + KID}),
        "kid and more": alb_token({"kid": KID + "?x=1"}),
        "kid and a newline": alb_token({"kid": KID + "\n"}),
        "kid in capitals": alb_token({"kid": KID.upper()}),
        "kid of another host": alb_token({"kid": "@evil.example.com/" + KID}),
        "kid as a number": alb_token({"kid": 7}),
        "padding cut from the payload": f"{first}.{second.rstrip('=')}.{third}",
        "half the padding": f"{first}.{second}.{third[:-1]}",
        "padding too much": f"{first}.{second}.{third}=",
        "padding in the middle": f"{first[:4]}={first[4:]}.{second}.{third}",
        "unsigned": f"{first}.{second}.",
        "two segments": f"{first}.{second}",
        "four segments": f"{token}.x",
        "list": f"{token}, {token}",
        "empty": "",
        "long": alb_token(name="x" * 16_384),
        "not ASCII": token[:-4] + "éééé",
    }


BAD: Final = {"cloudflare": bad_cloudflare, "google": bad_google, "amazon": bad_amazon}


@pytest.mark.parametrize(("name", "why"), [(name, why) for name in BAD for why in BAD[name]()])
async def test_bad_tokens_are_the_one_401(
    name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is wrong: one answer, no pass, and nothing of the token in any log."""
    (make, header, _), bad = PROXIES[name], BAD[name]()[why]
    platform, keys = CountedPlatform(), published()
    gate = make_gate(platform, authenticator=make(keys))
    with caplog.at_level(logging.DEBUG):
        answer = await through(gate, (header, bad))
    assert (answer.status, answer.header("www-authenticate")) == (401, CHALLENGE)
    assert platform.requests == []
    assert not bad[20:] or bad[20:] not in caplog.text
    assert set(keys.asked) <= set(keys.answers)
    await gate.aclose()


@pytest.mark.parametrize("padded", [True, False])
async def test_both_spellings_of_amazon(padded: bool) -> None:
    """As it is, and as it was announced to become; a payload's own end and issuer may be there."""
    gate = make_gate(authenticator=amazon(published()))
    token = alb_token(padded=padded, exp=now() + 60, iss=IDP)
    assert ("=" in token) is padded
    assert (await through(gate, (AMAZON, token))).status == 200
    await gate.aclose()


async def test_padding_of_amazon_is_all_or_none() -> None:
    """Three signs where one belongs are refused, in each segment."""
    gate = make_gate(authenticator=amazon(published()))
    odd = 0
    for name in ("a", "ab", "abc"):
        token = alb_token(name=name)
        assert (await through(gate, (AMAZON, token))).status == 200
        segments = token.split(".")
        for number, segment in enumerate(segments):
            bare = segment.rstrip("=")
            if len(segment) - len(bare) == 1:
                wrong = [*segments[:number], bare + "===", *segments[number + 1 :]]
                assert (await through(gate, (AMAZON, ".".join(wrong)))).status == 401
                odd += 1
    assert odd
    await gate.aclose()


@pytest.mark.parametrize(
    ("header", "leeway", "status"),
    [
        ({"exp": -10}, 30, 200),
        ({"exp": -10}, 0, 401),
        ({"exp": 86410}, 30, 200),
        ({"exp": 86410}, 0, 401),
    ],
)
async def test_leeway_of_amazon(header: dict[str, int], leeway: float, status: int) -> None:
    """Clocks may differ by so much, at both ends of the day that a token may live."""
    caller = amazon(published(), leeway=leeway)
    token = alb_token({"exp": now() + header["exp"]})
    connection = HTTPConnection({"type": "http", "headers": [(AMAZON, token.encode())]})
    try:
        identity = await caller(connection)
    except InvalidTokenError:
        assert status == 401
    else:
        assert identity is not None
        assert status == 200
        assert identity.client_id == CLIENT
        assert identity.claims["email"] == "ada@acme.com"
    await caller.aclose()


@pytest.mark.parametrize("name", ["cloudflare", "google"])
async def test_proxies_grant_no_scopes(name: str) -> None:
    """Whatever a custom claim of that name says."""
    make, header, signed = PROXIES[name]
    agents = [Agent("support", id="agent_1", allow=require_scopes("voice:talk"))]
    gate = make_gate(authenticator=make(published()), agents=agents)
    token = signed(scope="voice:talk", scp=["voice:talk"])
    assert (await through(gate, (header, token))).status == 403
    await gate.aclose()


async def test_amazon_without_a_type() -> None:
    """Its documentation shows a header without `typ`."""
    gate = make_gate(authenticator=amazon(published()))
    assert (await through(gate, (AMAZON, alb_token({"typ": LEFT_OUT})))).status == 200
    await gate.aclose()


@pytest.mark.parametrize(
    ("name", "claims", "path", "role"),
    [
        ("cloudflare", {"custom": {"groups": ["staff"]}}, ("custom", "groups"), "staff"),
        ("google", {}, ("google", "access_levels"), "accessPolicies/1/accessLevels/office"),
        ("amazon", {"groups": ["staff"]}, "groups", "staff"),
    ],
)
async def test_roles(name: str, claims: dict[str, Any], path: Any, role: str) -> None:
    """Groups and access levels are roles where the option says so."""
    make, header, signed = PROXIES[name]
    token = signed(**claims)
    agents = [Agent("support", id="agent_1", allow=require_roles(role))]
    with_roles = make_gate(authenticator=make(published(), role_claims=(path,)), agents=agents)
    without = make_gate(authenticator=make(published()), agents=agents)
    assert (await through(with_roles, (header, token))).status == 200
    assert (await through(without, (header, token))).status == 403
    for gate in (with_roles, without):
        await gate.aclose()


@pytest.mark.parametrize(
    "why", ["another load balancer", "another client", "none", "ES384", "at+jwt", "kid as a path"]
)
async def test_amazon_is_not_asked_for_what_is_none_of_ours(why: str) -> None:
    """Before a key is looked up, the header says that it is the configured load balancer's."""
    keys = published()
    gate = make_gate(authenticator=amazon(keys))
    assert (await through(gate, (AMAZON, bad_amazon()[why]))).status == 401
    assert keys.asked == []
    await gate.aclose()


async def test_a_made_up_kid_takes_no_key_from_amazon() -> None:
    """A key that verified a caller stays, whatever else is looked up."""
    gate = make_gate(authenticator=amazon(published()))
    made_up = alb_token({"kid": "00000000-0000-4000-8000-000000000000"})
    tokens = (alb_token(), made_up, alb_token())
    answers = [await through(gate, (AMAZON, token)) for token in tokens]
    assert [answer.status for answer in answers] == [200, 401, 200]
    await gate.aclose()


@each_proxy
async def test_readiness(make: Make, header: bytes, token: Token) -> None:
    """The gate starts it and asks whether it is ready, as it does a verifier."""
    gate = make_gate(authenticator=make(published()))
    async with gate:
        assert (await through(gate, (header, token()))).status == 200
        assert (await ask(gate, "/readyz")).status == 200


def test_no_rendering_has_a_secret() -> None:
    """What is configured is shown, in the words of whoever configured it."""
    shown = "".join(repr(make(published())) for make, _, _ in PROXIES.values())
    assert ALB in shown
    assert CANARY not in shown
