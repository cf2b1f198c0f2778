"""The OpenID provider in process: discovery, sign-in, tokens, keys; and every refusal."""

import base64
import hashlib
import html
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from xuna_middleware import Credentials, InvalidTokenError, OIDCVerifier
from xuna_middleware.sandbox import PEOPLE, Person, SandboxProvider, SignInError, sign_in
from xuna_middleware.sandbox.authorization import Waiting

from .stage import Clock

ISSUER = "https://provider.test"
BACK = "http://127.0.0.1:5123/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
ASKED = {
    "response_type": "code",
    "client_id": "sandbox",
    "redirect_uri": BACK,
    "scope": "openid profile email voice:talk",
    "state": "s t&te",
    "code_challenge": CHALLENGE.decode(),
    "code_challenge_method": "S256",
    "nonce": "n-1",
}


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def provider(clock: Clock) -> SandboxProvider:
    return SandboxProvider(issuer=ISSUER, clock=clock, audience=("voice", "other"))


@pytest.fixture
async def browser(provider: SandboxProvider) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(provider)
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as client:
        yield client


async def transaction(browser: httpx.AsyncClient, **changed: str) -> str:
    page = await browser.get("/authorize", params={**ASKED, **changed})
    assert page.status_code == 200, page.text
    found = re.search(r'name="transaction" value="([^"]+)"', page.text)
    assert found is not None
    return html.unescape(found.group(1))


async def code_for(browser: httpx.AsyncClient, person: str = "ada", **changed: str) -> str:
    form = {"transaction": await transaction(browser, **changed), "person": person}
    back = sent_back(await browser.post("/authorize", data=form))
    return back["code"]


def sent_back(answer: httpx.Response, to: str = BACK) -> dict[str, str]:
    """Return what the redirect carries, once it goes where it should."""
    assert answer.status_code == 303, answer.text
    address = answer.headers["location"]
    assert address.startswith(f"{to}?")
    values = parse_qs(urlsplit(address).query, strict_parsing=True)
    assert values["iss"] == [ISSUER]
    return {name: only for name, (only,) in values.items()}


def redeeming(code: str, /, **changed: str) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code",
        "client_id": "sandbox",
        "code": code,
        "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    }
    return {**form, **changed}


async def verified(browser: httpx.AsyncClient, token: str) -> jwt.Token:
    keys = KeySet.import_key_set((await browser.get("/jwks")).json())
    return jwt.decode(token, keys, algorithms=["RS256"])


async def test_discovery(browser: httpx.AsyncClient) -> None:
    """The document names this issuer and what it really does."""
    document = (await browser.get("/.well-known/openid-configuration")).json()
    assert document["issuer"] == ISSUER
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        assert document[name].startswith(f"{ISSUER}/")
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert "voice:talk" in document["scopes_supported"]
    assert document["sandbox"] is True


async def test_the_whole_flow(browser: httpx.AsyncClient, clock: Clock) -> None:
    """From the page to an RFC 9068 access token and an ID token, each for its audience."""
    form = {"transaction": await transaction(browser), "person": "ada"}
    back = sent_back(await browser.post("/authorize", data=form))
    assert back["state"] == ASKED["state"]
    answer = await browser.post("/token", data=redeeming(back["code"]))
    given = answer.json()
    assert (answer.status_code, given["token_type"]) == (200, "Bearer")
    assert answer.headers["cache-control"] == "no-store"
    access = await verified(browser, given["access_token"])
    identity = await verified(browser, given["id_token"])
    assert access.header["typ"] == "at+jwt"
    assert access.claims["aud"] == "voice"
    assert access.claims["sub"] == "ada"
    assert access.claims["client_id"] == "sandbox"
    assert access.claims["scope"] == given["scope"] == ASKED["scope"]
    assert access.claims["plan"] == "pro"
    assert access.claims["exp"] - access.claims["iat"] == given["expires_in"]
    assert access.claims["iat"] == clock.now
    assert (identity.claims["aud"], identity.claims["nonce"]) == ("sandbox", "n-1")
    assert identity.claims["email"] == "ada@example.com"


@pytest.mark.parametrize(
    ("person", "asked", "scope"),
    [
        ("ada", "openid voice:talk", "openid voice:talk"),
        ("ben", "voice:talk voice:admin", "voice:talk"),
        ("cleo", "openid voice:talk", "openid"),
        ("cleo", "voice:talk", ""),
        ("ada", "voice:talk voice:talk invented", "voice:talk"),
    ],
)
async def test_scopes_are_what_was_asked_and_may_be_had(
    browser: httpx.AsyncClient, person: str, asked: str, scope: str
) -> None:
    """Nobody gets more than they have, and no ID token comes unasked."""
    code = await code_for(browser, person, scope=asked)
    given = (await browser.post("/token", data=redeeming(code))).json()
    assert given["scope"] == scope
    assert ("id_token" in given) is ("openid" in asked)
    assert (await verified(browser, given["access_token"])).claims["scope"] == scope


@pytest.mark.parametrize(
    ("resource", "audience"), [(None, "voice"), ("voice", "voice"), ("other", "other")]
)
async def test_resource_picks_the_audience(
    browser: httpx.AsyncClient, resource: str | None, audience: str
) -> None:
    """Among those configured; the first is the default."""
    code = await code_for(browser, **({} if resource is None else {"resource": resource}))
    given = (await browser.post("/token", data=redeeming(code))).json()
    assert (await verified(browser, given["access_token"])).claims["aud"] == audience


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "other"},
        {"client_id": ""},
        {"redirect_uri": "http://127.0.0.1:5123/elsewhere"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": ""},
    ],
)
async def test_no_redirect_to_where_nobody_registered(
    browser: httpx.AsyncClient, changed: dict[str, str]
) -> None:
    """An unknown client or address gets a page, never a redirect, and no echo of it."""
    answer = await browser.get("/authorize", params={**ASKED, **changed})
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert "evil" not in answer.text
    assert "sandbox" in answer.text


@pytest.mark.parametrize("repeated", ["client_id", "redirect_uri", "state", "scope"])
async def test_nothing_twice(browser: httpx.AsyncClient, repeated: str) -> None:
    """A repeated parameter is refused without a redirect (RFC 6749 section 3.1)."""
    query = {**ASKED, repeated: [ASKED[repeated]] * 2}
    assert (await browser.get("/authorize", params=query)).status_code == 400


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": ""}, "unsupported_response_type"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"state": ""}, "invalid_request"),
        ({"scope": " "}, "invalid_scope"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
        ({"prompt": "none"}, "login_required"),
        ({"request": "e30."}, "request_not_supported"),
        ({"request_uri": "https://x.example"}, "request_uri_not_supported"),
    ],
)
async def test_what_the_client_is_told(
    browser: httpx.AsyncClient, changed: dict[str, str], error: str
) -> None:
    """Where the way back is certain, the client learns what was wrong, with its state."""
    back = sent_back(await browser.get("/authorize", params={**ASKED, **changed}))
    assert back["error"] == error
    assert back.get("state", "") == {**ASKED, **changed}["state"]
    assert "code" not in back


@pytest.mark.parametrize("form", [{"cancel": "yes"}, {"person": "nobody"}, {}])
async def test_without_a_choice(browser: httpx.AsyncClient, form: dict[str, str]) -> None:
    """Cancel, and a person who doesn't exist, are access_denied."""
    chosen = {"transaction": await transaction(browser), **form}
    back = sent_back(await browser.post("/authorize", data=chosen))
    assert (back["error"], back["state"]) == ("access_denied", ASKED["state"])


async def test_a_sign_in_works_once_and_for_a_while(
    browser: httpx.AsyncClient, clock: Clock
) -> None:
    """Neither a used page, nor an old or invented one, signs anyone in."""
    used, old = await transaction(browser), await transaction(browser)
    assert (
        await browser.post("/authorize", data={"transaction": used, "person": "ada"})
    ).has_redirect_location
    clock.now += 600
    for name in (used, old, "invented", ""):
        answer = await browser.post("/authorize", data={"transaction": name, "person": "ada"})
        assert answer.status_code == 400


@pytest.mark.parametrize(
    ("changed", "error", "status"),
    [
        ({"grant_type": "client_credentials"}, "unsupported_grant_type", 400),
        ({"grant_type": ""}, "unsupported_grant_type", 400),
        ({"client_id": "other"}, "invalid_client", 401),
        ({"code": "invented"}, "invalid_grant", 400),
        ({"code": ""}, "invalid_grant", 400),
        ({"redirect_uri": "http://127.0.0.1:5124/callback"}, "invalid_grant", 400),
        ({"redirect_uri": ""}, "invalid_grant", 400),
        ({"code_verifier": "w" * 64}, "invalid_grant", 400),
        ({"code_verifier": ""}, "invalid_grant", 400),
        ({"code_verifier": CHALLENGE.decode()}, "invalid_grant", 400),
        ({"code_verifier": "ä" * 64}, "invalid_grant", 400),
    ],
)
async def test_a_code_with_anything_wrong(
    browser: httpx.AsyncClient, changed: dict[str, str], error: str, status: int
) -> None:
    """Each part is checked; no token comes out."""
    form = redeeming(await code_for(browser), **changed)
    answer = await browser.post("/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert "access_token" not in answer.json()


async def test_a_code_works_once(browser: httpx.AsyncClient) -> None:
    """Not a second time, and not after a try with the wrong verifier."""
    first, second = await code_for(browser), await code_for(browser)
    await browser.post("/token", data=redeeming(second, code_verifier="w" * 64))
    answers = [await browser.post("/token", data=redeeming(c)) for c in (first, first, second)]
    assert [answer.status_code for answer in answers] == [200, 400, 400]


@pytest.mark.parametrize(("age", "status"), [(59, 200), (60, 400)])
async def test_a_code_lives_a_minute(
    browser: httpx.AsyncClient, clock: Clock, age: int, status: int
) -> None:
    """Sixty seconds, not more."""
    code = await code_for(browser)
    clock.now += age
    assert (await browser.post("/token", data=redeeming(code))).status_code == status


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=1&a=2"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=%FF"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"\xff"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=" + b"x" * 20_000),
        ({"content-type": "application/x-www-form-urlencoded"}, b"&".join([b"a"] * 50)),
    ],
)
@pytest.mark.parametrize("path", ["/token", "/authorize"])
async def test_forms_that_are_none(
    browser: httpx.AsyncClient, path: str, headers: dict[str, str], content: bytes
) -> None:
    """Wrong type, repeated, too large, badly encoded: a 400, whatever it is."""
    answer = await browser.post(path, headers=headers, content=content)
    assert answer.status_code == 400


async def test_no_secret_is_taken(browser: httpx.AsyncClient) -> None:
    """The client is public: one that authenticates is mistaken."""
    answer = await browser.post(
        "/token", data=redeeming(await code_for(browser)), auth=("sandbox", "secret")
    )
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:3000", True),
        ("http://localhost:8080", True),
        ("http://[::1]:1", True),
        ("https://evil.example", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://localhost.evil.example:80", False),
        ("null", False),
    ],
)
@pytest.mark.parametrize("path", ["/token", "/jwks", "/.well-known/openid-configuration"])
async def test_cors(browser: httpx.AsyncClient, path: str, origin: str, allowed: bool) -> None:
    """A page on loopback may read what machines read, errors and preflights included."""
    method = "POST" if path == "/token" else "GET"
    asked = {"origin": origin, "access-control-request-method": method}
    preflight = await browser.options(path, headers=asked)
    answer = await browser.request(method, path, headers={"origin": origin})
    assert preflight.status_code == 204
    for one in (preflight, answer):
        told = one.headers.get("access-control-allow-origin")
        assert told == (origin if allowed else None)
        assert one.headers["vary"] == "Origin"


async def test_no_page_elsewhere_reads_the_sign_in(browser: httpx.AsyncClient) -> None:
    """No CORS there; no frame, no script, nothing from elsewhere; and it says sandbox."""
    page = await browser.get("/authorize", params=ASKED, headers={"origin": "http://127.0.0.1:1"})
    assert "access-control-allow-origin" not in page.headers
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["xuna-sandbox"] == "true"
    assert "<script" not in page.text
    assert not re.search(r'(?:src|href)="', page.text)
    assert "sandbox" in page.text
    assert all(person.name in page.text for person in PEOPLE)


async def test_names_are_escaped() -> None:
    """A person's name is text, whatever it looks like."""
    people = [Person(subject='x"><script>', name="<script>alert(1)</script>")]
    provider = SandboxProvider(issuer=ISSUER, people=people)
    transport = httpx.ASGITransport(provider)
    async with httpx.AsyncClient(transport=transport, base_url=ISSUER) as client:
        page = await client.get("/authorize", params=ASKED)
    assert "<script" not in page.text


async def test_rotation() -> None:
    """The new key signs, the old one verifies until it is retired."""
    provider = SandboxProvider(issuer=ISSUER)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(provider), base_url=ISSUER
    ) as browser:
        await rotating(provider, browser)


async def rotating(provider: SandboxProvider, browser: httpx.AsyncClient) -> None:
    old = provider.token("ada")
    kid = provider.rotate()
    new = provider.token("ada")
    assert (await verified(browser, new)).header["kid"] == kid
    assert (await verified(browser, old)).claims["sub"] == "ada"
    provider.retire()
    assert (await verified(browser, new)).claims["sub"] == "ada"
    with pytest.raises((JoseError, ValueError)):
        await verified(browser, old)
    published = (await browser.get("/jwks")).json()["keys"]
    assert [key["kid"] for key in published] == [kid]
    assert not {"d", "p", "q"} & published[0].keys()


@pytest.mark.parametrize(
    ("subject", "options", "expected"),
    [
        ("ada", {}, {"scope": "voice:admin voice:talk", "plan": "pro", "aud": "voice"}),
        ("ada", {"scopes": [], "claims": {"plan": "x"}}, {"scope": "", "plan": "x"}),
        ("user-1", {}, {"scope": "", "sub": "user-1"}),
        ("user-1", {"audience": "api", "client_id": "app"}, {"aud": "api", "client_id": "app"}),
    ],
)
async def test_tokens_minted_in_process(
    provider: SandboxProvider,
    browser: httpx.AsyncClient,
    subject: str,
    options: dict[str, Any],
    expected: dict[str, str],
) -> None:
    """For tests: anyone, with anything that the provider doesn't write itself."""
    claims = (await verified(browser, provider.token(subject, **options))).claims
    assert {name: claims[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "scope", "cnf"])
def test_claims_that_the_provider_alone_writes(provider: SandboxProvider, name: str) -> None:
    """They can't be slipped in among the personal ones."""
    with pytest.raises(ValueError, match=name):
        provider.token("ada", claims={name: "x"})


async def test_the_gate_s_own_verifier_accepts_it() -> None:
    """OIDCVerifier, strict as it is by default, reads discovery and keys, and knows the person."""
    provider = SandboxProvider(issuer=ISSUER)
    verifier = OIDCVerifier(ISSUER, audience="voice", http_transport=httpx.ASGITransport(provider))
    good = Credentials(scheme="bearer", token=provider.token("ada"))
    identity = await verifier.verify(good)
    assert (identity.issuer, identity.subject) == (ISSUER, "ada")
    assert identity.scopes == {"voice:talk", "voice:admin"}
    assert identity.claims["plan"] == "pro"
    wrongs: list[dict[str, Any]] = [{"expires_in": -60}, {"audience": "other"}]
    for wrong in wrongs:
        token = provider.token("ada", **wrong)
        with pytest.raises(InvalidTokenError):
            await verifier.verify(Credentials(scheme="bearer", token=token))
    await verifier.aclose()


async def test_signing_in_without_a_browser(provider: SandboxProvider) -> None:
    """`sign_in` walks the same way; a stranger gets nothing."""
    transport = httpx.ASGITransport(provider)
    token = await sign_in("ben", issuer=ISSUER, transport=transport)
    assert token.count(".") == 2
    with pytest.raises(SignInError, match="nobody"):
        await sign_in("nobody", issuer=ISSUER, transport=transport)


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "provider.test"},
        {"issuer": "http://provider.test"},
        {"issuer": "https://provider.test/?a=1"},
        {"issuer": ISSUER, "audience": ()},
        {"issuer": ISSUER, "audience": ""},
        {"issuer": ISSUER, "redirect_uris": ["http://app.example/cb"]},
    ],
)
def test_wrong_options_are_told(wrong: dict[str, Any]) -> None:
    """What would be loose or can't work is said when it is built."""
    with pytest.raises(ValueError, match=r"issuer|audience|redirect"):
        SandboxProvider(**wrong)


def test_people_need_a_name() -> None:
    """And scopes are names, not letters."""
    with pytest.raises(ValueError, match="subject"):
        Person(subject="", name="X")
    with pytest.raises(TypeError, match="scopes"):
        Person(subject="x", name="X", scopes="voice:talk")  # type: ignore[arg-type]


def test_what_waits_has_a_number(clock: Clock) -> None:
    """Sign-ins and codes: beyond a thousand the oldest is forgotten, not the newest."""
    waiting: Waiting[int] = Waiting(life=60, clock=clock)
    names = [waiting.put(number) for number in range(1_001)]
    assert [waiting.take(name) for name in (names[0], names[1], names[-1])] == [None, 1, 1_000]
