"""One Authorization header, one scheme, one space, one token: every other spelling is refused."""

from typing import Any, Final

import pytest
from support.doubles import (
    DENIAL,
    SIGNED_URL,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    http_scope,
    knock,
    make_gate,
    one_response,
    websocket_scope,
)
from support.signing import RSA

from xuna_middleware import GateError, Identity, XunaMiddleware, get_identity
from xuna_middleware.identity.authorization_header import extract

TOKEN: Final = RSA.token().encode()
GOOD: Final = b"Bearer " + TOKEN
NAME: Final = b"authorization"
FORM: Final = (b"content-type", b"application/x-www-form-urlencoded")

MALFORMED: Final = {
    "two headers": [(NAME, GOOD), (NAME, GOOD)],
    "two headers, the first good": [(NAME, GOOD), (NAME, b"Bearer x")],
    "two headers, the second good": [(NAME, b"Basic dTpw"), (NAME, GOOD)],
    "two headers, one empty": [(NAME, GOOD), (NAME, b"")],
    "a comma list": [(NAME, GOOD + b", " + GOOD)],
    "a comma list without spaces": [(NAME, GOOD + b"," + GOOD)],
    "a list of schemes": [(NAME, GOOD + b", Basic dTpw")],
    "a comma after": [(NAME, GOOD + b",")],
    "Bearer alone": [(NAME, b"Bearer")],
    "Bearer and a space": [(NAME, b"Bearer ")],
    "a TAB": [(NAME, b"Bearer\t" + TOKEN)],
    "a double space": [(NAME, b"Bearer  " + TOKEN)],
    "a space before": [(NAME, b" " + GOOD)],
    "a space after": [(NAME, GOOD + b" ")],
    "a TAB after": [(NAME, GOOD + b"\t")],
    "a newline after": [(NAME, GOOD + b"\n")],
    "a folded line": [(NAME, b"Bearer\r\n " + TOKEN)],
    "a no-break space": [(NAME, b"Bearer\xa0" + TOKEN)],
    "a space inside": [(NAME, GOOD[:40] + b" " + GOOD[40:])],
    "NUL": [(NAME, GOOD + b"\0")],
    "NUL before": [(NAME, b"\0" + GOOD)],
    "not ASCII": [(NAME, GOOD + "é".encode())],
    "Latin-1": [(NAME, GOOD + b"\xe9")],
    "full-width letters": [(NAME, "Ｂｅａｒｅｒ ".encode() + TOKEN)],
    "quoted": [(NAME, b'Bearer "' + TOKEN + b'"')],
    "as a parameter": [(NAME, b"Bearer token=" + TOKEN + b'"')],
    "a colon": [(NAME, b"Bearer: " + TOKEN)],
    "an equals sign first": [(NAME, b"Bearer =" + TOKEN)],
    "JSON serialization": [(NAME, b'Bearer {"payload":"e30"}')],
    "an unencoded payload": [(NAME, b'Bearer eyJhbGciOiJSUzI1NiJ9.{"iss":1}.AAAA')],
    "17 KB": [(NAME, b"Bearer " + b"x" * 17_000)],
    "60 KB": [(NAME, b"Bearer " + b"x" * 60_000)],
    "empty": [(NAME, b"")],
    "a space": [(NAME, b" ")],
    "the bare token": [(NAME, TOKEN)],
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_header_is_a_400(headers: Any) -> None:
    """Nothing is guessed: 400, no challenge, no call to the platform, at each face."""
    platform = CountedPlatform()
    gate = make_gate(platform)
    wrapped = XunaMiddleware(echo_app, gate, protect=["/api"])
    answers = [
        await ask(gate, headers=headers),
        await ask(gate, "/conversation-token", headers=headers),
        await ask(wrapped, "/api", headers=headers),
        one_response(
            await knock(wrapped, "/api", headers=headers, extensions=DENIAL),
            "websocket.http.response",
        ),
    ]
    for answer in answers:
        assert answer.status == 400
        assert answer.json()["code"] == "invalid_request"
        assert answer.header("www-authenticate") is None
        assert answer.header("cache-control") == "no-store"
        assert b"Bearer" not in answer.body
    assert len({answer.body for answer in answers}) == 1
    assert platform.requests == []


@pytest.mark.parametrize(
    "scheme", [b"bearer", b"BEARER", b"bEaReR", b"Bearer"], ids=lambda each: each.decode()
)
async def test_scheme_in_any_case(scheme: bytes) -> None:
    """RFC 9110 section 11.1: a scheme is compared without regard to case."""
    answer = await ask(make_gate(), headers=[(NAME, scheme + b" " + TOKEN)])
    assert answer.status == 200
    assert answer.json()["signed_url"] == SIGNED_URL


@pytest.mark.parametrize(
    "headers",
    [
        *([], [(b"x-authorization", GOOD)], [(b"proxy-authorization", GOOD)]),
        *([(b"cookie", b"access_token=" + TOKEN)], [(b"x-forwarded-authorization", GOOD)]),
        [(b"sec-websocket-protocol", b"bearer." + TOKEN)],
    ],
    ids=["none", "x-", "proxy-", "cookie", "x-forwarded-", "sub-protocol"],
)
async def test_nothing_presented_is_a_bare_challenge(headers: Any) -> None:
    """RFC 6750 section 3.1: without credentials the challenge names no error."""
    platform = CountedPlatform()
    answer = await ask(make_gate(platform), headers=headers)
    assert answer.status == 401
    assert answer.header("www-authenticate") == "Bearer"
    assert answer.json()["code"] == "not_authenticated"
    assert platform.requests == []


@pytest.mark.parametrize(
    "value",
    [b"Basic dXNlcjpwYXNz", b"DPoP " + TOKEN, b"Digest x=1", b"Token " + TOKEN, b"Bearers x"],
    ids=["Basic", "DPoP", "Digest", "Token", "Bearers"],
)
async def test_another_scheme_is_a_bare_challenge(value: bytes) -> None:
    """A scheme that isn't spoken here is as good as none, and never falls through to a cookie."""

    async def cookie(connection: object) -> Identity:
        return Identity(subject="from the cookie")

    platform = CountedPlatform()
    headers = [(NAME, value), (b"sec-fetch-site", b"same-origin")]
    for gate in (
        make_gate(platform),
        make_gate(platform, verifier=_verifier(), authenticator=cookie),
    ):
        answer = await ask(gate, headers=headers)
        assert answer.status == 401
        assert answer.header("www-authenticate") == "Bearer"
    assert platform.requests == []


def _verifier() -> Any:
    from support.doubles import make_verifier

    return make_verifier()


@pytest.mark.parametrize(
    "query",
    [
        b"access_token=x",
        b"agent=support&access_token=x",
        b"access_token=",
        b"access_token",
        b"access%5Ftoken=x",
        b"%61ccess_token=x",
        b"a=1&a=2&access_token=x&b=3",
    ],
    ids=lambda each: each.decode(),
)
async def test_token_in_the_query_beside_a_header_is_a_400(query: bytes) -> None:
    """RFC 6750 section 2: one way of sending a token per request."""
    platform = CountedPlatform()
    answer = await ask(make_gate(platform), headers=[(NAME, GOOD)], query=query)
    assert answer.status == 400
    assert platform.requests == []


@pytest.mark.parametrize("query", [b"access_token=" + TOKEN, b"token=" + TOKEN, b"jwt=" + TOKEN])
async def test_token_in_the_query_alone_is_ignored(query: bytes) -> None:
    """Queries are logged by everything on the way: a token there proves nobody."""
    platform = CountedPlatform()
    answer = await ask(make_gate(platform), query=query)
    assert answer.status == 401
    assert answer.json()["code"] == "not_authenticated"
    assert platform.requests == []


async def test_token_in_a_form_is_ignored() -> None:
    """Without a header nobody is authenticated; beside one, a form is no JSON body."""
    platform = CountedPlatform()
    gate = make_gate(platform)
    body = b"access_token=" + TOKEN
    alone = await ask(gate, method="POST", headers=[FORM], body=body)
    assert alone.status == 401
    beside = await ask(gate, method="POST", headers=[FORM, (NAME, GOOD)], body=body)
    assert beside.status == 415
    assert platform.requests == []


async def test_failed_header_never_falls_through_to_a_cookie() -> None:
    """A presented header is decided by the verifier alone."""
    asked = []

    async def cookie(connection: object) -> Identity:
        asked.append(connection)
        return Identity(subject="from the cookie")

    gate = make_gate(verifier=_verifier(), authenticator=cookie)
    same_origin = (b"sec-fetch-site", b"same-origin")
    for value in (b"Bearer x.y.z", b"Bearer", b"", b"Bearer " + TOKEN[:-9]):
        answer = await ask(gate, headers=[(NAME, value), same_origin])
        assert answer.status in (400, 401), value
    assert asked == []
    assert (await ask(gate, headers=[same_origin])).status == 200


async def test_header_names_are_those_of_the_scope() -> None:
    """The verified identity is what the wrapped app sees, and nothing a header could say."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope.get("user"), get_identity(scope), scope["auth"].scopes))
        await echo_app(scope, receive, send)

    wrapped = XunaMiddleware(app, make_gate(), protect=["/api"])
    headers = [*bearer(RSA.token()), (b"x-user", b"boss"), (b"x-xuna-identity", b"boss")]
    assert (await ask(wrapped, "/api", headers=headers)).status == 200
    user, identity, scopes = seen[0]
    assert user is identity
    assert identity.subject == "user-1"
    assert set(scopes) == {"authenticated", "voice:talk", "openid"}


def test_websocket_scope_without_a_query() -> None:
    """The ASGI specification lets a WebSocket scope leave `query_string` out."""
    scope = websocket_scope("/api", headers=bearer(RSA.token()))
    del scope["query_string"]
    credentials = extract(scope)
    assert credentials is not None
    assert credentials.token == RSA.token()


def test_headers_may_be_any_iterable() -> None:
    """The ASGI specification calls them an iterable of pairs, lists or tuples."""
    scope = http_scope(headers=[])
    scope["headers"] = ([name, value] for name, value in bearer(RSA.token()))
    credentials = extract(scope)
    assert credentials is not None
    assert credentials.scheme == "bearer"


def test_extraction_shows_no_token() -> None:
    """Neither what is extracted nor what is raised has the token in its rendering."""
    credentials = extract(http_scope(headers=bearer(RSA.token())))
    assert RSA.token() not in repr(credentials)
    with pytest.raises(GateError) as caught:
        extract(http_scope(headers=[(NAME, GOOD + b"!")]))
    assert RSA.token() not in f"{caught.value!r} {caught.value} {caught.value.cause}"
