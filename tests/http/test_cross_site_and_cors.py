"""Other sites: what a browser may be made to send, and which pages may read the answers."""

from typing import Any, Final

import pytest
from starlette.requests import HTTPConnection
from support.doubles import (
    API_KEY,
    DENIAL,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    knock,
    make_gate,
    make_verifier,
    one_response,
)
from support.signing import RSA

from xuna_middleware import ConfigurationError, Identity, XunaGate, XunaMiddleware

HOME: Final = "https://app.example.com"
PUBLIC: Final = "https://acme.com/xuna"
ISSUING: Final = ("/get-signed-url", "/conversation-token")

Pairs = list[tuple[bytes, bytes]]


async def by_cookie(connection: HTTPConnection) -> Identity | None:
    """Find the caller in a cookie, as an app of one's own would."""
    user = connection.cookies.get("session")
    return Identity(subject=user) if user else None


def ambient(platform: CountedPlatform, **options: Any) -> XunaGate:
    """Return a gate whose callers come with a cookie."""
    return make_gate(
        platform, authenticator=by_cookie, cors_origins=(HOME,), public_url=PUBLIC, **options
    )


def sent(**headers: str) -> Pairs:
    """Return a cookie, and headers of a browser: `sec_fetch_site="none"`."""
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return [(b"cookie", b"session=anna"), *pairs]


ADMITTED: Final = {
    "same-origin": sent(sec_fetch_site="same-origin", sec_fetch_mode="cors"),
    "same-origin, no mode": sent(sec_fetch_site="same-origin"),
    "a listed origin": sent(origin=HOME),
    "a listed origin, cross-site": sent(origin=HOME, sec_fetch_site="cross-site"),
    "a listed origin, same-site": sent(origin=HOME, sec_fetch_site="same-site"),
    "the gate's own origin": sent(origin="https://acme.com"),
}

REFUSED: Final = {
    "no sign of anything": sent(),
    "none": sent(sec_fetch_site="none"),
    "same-site": sent(sec_fetch_site="same-site"),
    "cross-site": sent(sec_fetch_site="cross-site"),
    "an unknown word": sent(sec_fetch_site="SAME-ORIGIN"),
    "a list": sent(sec_fetch_site="same-origin, same-origin"),
    "twice": [*sent(sec_fetch_site="same-origin"), (b"sec-fetch-site", b"cross-site")],
    "a navigation": sent(sec_fetch_site="same-origin", sec_fetch_mode="navigate"),
    "a navigation from a listed origin": sent(origin=HOME, sec_fetch_mode="navigate"),
    "a prefetch": sent(sec_fetch_site="same-origin", sec_purpose="prefetch"),
    "a prerender": sent(sec_fetch_site="same-origin", sec_purpose="prefetch;prerender"),
    "an old prefetch": sent(sec_fetch_site="same-origin", purpose="prefetch"),
    "origin null": sent(origin="null"),
    "origin empty": sent(origin=""),
    "another origin": sent(origin="https://evil.example"),
    "origin by prefix": sent(origin=HOME + ".evil.example"),
    "origin by suffix": sent(origin="https://evilapp.example.com"),
    "origin with a port": sent(origin=HOME + ":443"),
    "origin over http": sent(origin=HOME.replace("https", "http")),
    "origin in upper case": sent(origin=HOME.upper()),
    "origin with a path": sent(origin=HOME + "/"),
    "origin with userinfo": sent(origin="https://app.example.com@evil.example"),
    "origins in a list": sent(origin=f"{HOME}, {HOME}"),
    "two origins": [*sent(origin=HOME), (b"origin", b"https://evil.example")],
    "only a referrer": sent(referer=HOME + "/page"),
    "only a host": sent(host="acme.com"),
    "another origin that says forwarded": sent(
        origin="https://evil.example", x_forwarded_host="evil.example", host="evil.example"
    ),
}


@pytest.mark.parametrize("headers", ADMITTED.values(), ids=ADMITTED.keys())
@pytest.mark.parametrize("path", ISSUING)
async def test_cookie_from_where_it_may_come(path: str, headers: Pairs) -> None:
    """The gate's own page, and pages of exactly listed origins."""
    platform = CountedPlatform()
    assert (await ask(ambient(platform), path, headers=headers)).status == 200
    assert len(platform.requests) == 1


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_cookie_from_elsewhere_issues_nothing(method: str, headers: Pairs) -> None:
    """403 for whatever another site, a link or a prefetch could have caused; GET included."""
    platform = CountedPlatform()
    gate = ambient(platform)
    answers = [await ask(gate, path, method=method, headers=headers) for path in ISSUING]
    assert [answer.status for answer in answers] == [403, 403]
    assert answers[0].json()["code"] == "cross_site"
    assert platform.requests == []


@pytest.mark.parametrize("headers", REFUSED.values(), ids=REFUSED.keys())
async def test_bearer_header_needs_none_of_this(headers: Pairs) -> None:
    """No browser adds an Authorization header by itself."""
    platform = CountedPlatform()
    gate = ambient(platform, verifier=make_verifier())
    answer = await ask(gate, headers=[*headers, *bearer(RSA.token())])
    assert answer.status == 200


async def test_without_a_listed_origin_only_the_page_itself() -> None:
    """No public_url, no cors_origins: same-origin alone remains, and Host decides nothing."""
    platform = CountedPlatform()
    gate = make_gate(platform, authenticator=by_cookie)
    assert (await ask(gate, headers=sent(origin="https://testserver"))).status == 403
    assert (await ask(gate, headers=sent(sec_fetch_site="same-origin"))).status == 200


async def test_protected_paths_are_the_apps_own_affair() -> None:
    """There the app has its own protection; the cookie counts as it stands."""
    wrapped = XunaMiddleware(echo_app, ambient(CountedPlatform()), protect=["/api"])
    assert (await ask(wrapped, "/api", headers=sent(sec_fetch_site="cross-site"))).status == 200
    assert (await ask(wrapped, "/api")).status == 401


async def _opens(gate: XunaGate, headers: Pairs) -> bool:
    """Tell whether a WebSocket reaches the app behind a protected path."""
    wrapped = XunaMiddleware(echo_app, gate, protect=["/api"])
    sent = await knock(wrapped, "/api", headers=headers, extensions=DENIAL)
    if sent[0]["type"] == "websocket.accept":
        return True
    refusal = one_response(sent, "websocket.http.response")
    assert (refusal.status, refusal.json()["code"]) == (403, "cross_site")
    return False


@pytest.mark.parametrize("headers", ADMITTED.values(), ids=ADMITTED.keys())
async def test_websocket_with_a_cookie_from_where_it_may_come(headers: Pairs) -> None:
    """The page itself, or one that is listed, opens the app's own WebSocket."""
    assert await _opens(ambient(CountedPlatform()), headers)


@pytest.mark.parametrize(
    "why", [why for why, headers in REFUSED.items() if b"origin" in dict(headers)]
)
async def test_websocket_with_a_cookie_that_another_page_opened(why: str) -> None:
    """No browser asks before it opens one, so the gate looks where it comes from."""
    assert not await _opens(ambient(CountedPlatform()), REFUSED[why])


async def test_websocket_with_a_cookie_of_no_browser() -> None:
    """Without an Origin no page made it come; without a cookie nobody is known."""
    assert await _opens(ambient(CountedPlatform()), sent())
    gate = make_gate(authenticator=by_cookie)
    assert await _opens(gate, sent())
    assert not await _opens(gate, sent(origin="https://testserver", host="testserver"))


async def test_websocket_with_a_bearer_token_from_anywhere() -> None:
    """A token that the page itself held needs none of this."""
    gate = ambient(CountedPlatform(), verifier=make_verifier())
    headers = [*bearer(RSA.token()), (b"origin", b"https://evil.example")]
    assert await _opens(gate, headers)


@pytest.mark.parametrize(
    "origins",
    [
        *(("*",), ("null",), ("https://app.example.com/",), ("app.example.com",), ("",)),
        *(("https://*.example.com",), ("https://app.example.com:443",), ("HTTPS://a.example",)),
        *(("https://App.example.com",), ("https://a.example/x",), ("ftp://a.example",)),
        *(("https://a@b.example",), ("https://a.example?x",), ("https://a.example#x",), (7,)),
        *(("https://",), ("https://a.example:99999",), "https://app.example.com", ("https://a b",)),
    ],
    ids=str,
)
def test_configured_origin_is_exactly_one(origins: Any) -> None:
    """What could never match, or matches too much, is refused when the gate is built."""
    with pytest.raises(ConfigurationError):
        make_gate(cors_origins=origins)


@pytest.mark.parametrize("url", ["acme.com", "ftp://acme.com", "https://", "", 7, "https://a@b.c"])
def test_public_url_is_checked(url: Any) -> None:
    """It names an origin that is trusted, so it must be one."""
    with pytest.raises(ConfigurationError):
        make_gate(public_url=url)


PREFLIGHT: Final = [
    (b"origin", HOME.encode()),
    (b"access-control-request-method", b"POST"),
    (b"access-control-request-headers", b"authorization, content-type"),
]


@pytest.mark.parametrize("path", ["/xuna/get-signed-url", "/xuna/conversation-token"])
async def test_preflight_on_the_gates_routes(path: str) -> None:
    """Answered without credentials; never a 401, never a pass."""
    platform = CountedPlatform()
    wrapped = XunaMiddleware(echo_app, ambient(platform, verifier=make_verifier()))
    answer = await ask(wrapped, path, method="OPTIONS", headers=PREFLIGHT)
    assert answer.status in (200, 204)
    assert answer.header("access-control-allow-origin") == HOME
    assert "POST" in (answer.header("access-control-allow-methods") or "")
    allowed = (answer.header("access-control-allow-headers") or "").lower()
    assert "authorization" in allowed
    assert "content-type" in allowed
    assert "origin" in (answer.header("vary") or "").lower()
    assert answer.header("cache-control") == "no-store"
    assert platform.requests == []


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", HOME.upper().encode(), b""])
async def test_preflight_from_elsewhere_allows_nothing(origin: bytes) -> None:
    """No header allows what wasn't listed; and it is no 401 either."""
    headers = [(b"origin", origin), *PREFLIGHT[1:]]
    gate = make_gate(cors_origins=(HOME,))
    answer = await ask(gate, method="OPTIONS", headers=headers)
    assert answer.header("access-control-allow-origin") is None
    assert answer.status != 401


@pytest.mark.parametrize("left_out", [b"origin", b"access-control-request-method"])
async def test_half_a_preflight_is_guarded(left_out: bytes) -> None:
    """OPTIONS alone is an ordinary request: some apps serve data on it."""
    headers = [(name, value) for name, value in PREFLIGHT if name != left_out]
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    assert (await ask(wrapped, "/api", method="OPTIONS", headers=headers)).status == 401


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "options", "OPTIONSX"])
async def test_preflight_headers_on_another_method_are_guarded(method: str) -> None:
    """Only OPTIONS is a preflight, whatever headers stand beside it."""
    wrapped = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    assert (await ask(wrapped, "/api", method=method, headers=PREFLIGHT)).status == 401


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/xuna/get-signed-url", [], 401),
        ("/xuna/get-signed-url", bearer("x.y.z"), 401),
        ("/xuna/get-signed-url", [(b"authorization", b"Bearer")], 400),
        ("/xuna/nothing", [], 404),
        ("/xuna/get-signed-url", [(b"cookie", b"session=anna")], 403),
        ("/api/things", [], 401),
        ("/api/things", bearer("x.y.z"), 401),
        ("/xuna/get-signed-url", bearer(RSA.token()), 200),
    ],
)
async def test_answers_may_be_read_by_listed_pages(path: str, headers: Pairs, status: int) -> None:
    """Denials too, or a browser shows "Failed to fetch" and nobody knows why."""
    gate = make_gate(
        verifier=make_verifier(), authenticator=by_cookie, cors_origins=("https://b.example", HOME)
    )
    wrapped = XunaMiddleware(echo_app, gate, protect=["/api"])
    foreign = (b"sec-fetch-mode", b"navigate") if status == 403 else (b"x-x", b"x")
    answer = await ask(wrapped, path, headers=[(b"origin", HOME.encode()), foreign, *headers])
    assert answer.status == status
    assert answer.header("access-control-allow-origin") == HOME
    assert answer.header("access-control-allow-credentials") == "true"
    assert "origin" in (answer.header("vary") or "").lower()
    exposed = (answer.header("access-control-expose-headers") or "").lower()
    for name in ("xuna-gate-ref", "retry-after", "www-authenticate"):
        assert name in exposed


@pytest.mark.parametrize("path", ["/xuna/get-signed-url", "/api/things", "/xuna/nothing"])
async def test_answers_may_not_be_read_by_others(path: str) -> None:
    """An origin that isn't listed is never named, neither is a wildcard."""
    wrapped = XunaMiddleware(echo_app, make_gate(cors_origins=(HOME,)), protect=["/api"])
    for origin in (b"https://evil.example", b"null", HOME.encode() + b".evil.example"):
        answer = await ask(wrapped, path, headers=[(b"origin", origin)])
        assert answer.header("access-control-allow-origin") is None


async def test_without_an_authenticator_no_cookies_are_asked_for() -> None:
    """Credentials of a browser are allowed only where they could count."""
    answer = await ask(make_gate(cors_origins=(HOME,)), headers=[(b"origin", HOME.encode())])
    assert answer.header("access-control-allow-origin") == HOME
    assert answer.header("access-control-allow-credentials") is None


async def test_without_cors_nothing_is_said_about_it() -> None:
    """The default is that no other page may read anything."""
    answer = await ask(make_gate(), headers=[(b"origin", HOME.encode()), *bearer(RSA.token())])
    assert answer.status == 200
    assert not [name for name, _ in answer.headers if name.startswith(b"access-control")]
    answer = await ask(make_gate(), method="OPTIONS", headers=PREFLIGHT)
    assert answer.status == 405
    assert API_KEY not in str(answer)
