"""The whole app under odd requests: documented answers only, one each, nothing secret in them."""

import asyncio
import json
import logging
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message
from support.bad_tokens import FOR_ANYBODY
from support.doubles import (
    API_KEY,
    DENIAL,
    CountedPlatform,
    bearer,
    echo_app,
    exchange,
    http_scope,
    make_gate,
    make_verifier,
    one_response,
    websocket_scope,
)
from support.signing import CANARY, RSA

from xuna_middleware import Agent, Identity, XunaMiddleware, claim, require_scopes

GOOD: Final = RSA.token()
DOCUMENTED: Final = {200, 400, 401, 403, 404, 405, 413, 415, 431, 503}
CODES: Final = {
    *("not_authenticated", "invalid_token", "invalid_request", "agent_missing", "unknown_agent"),
    *("not_found", "method_not_allowed", "content_too_large", "unsupported_media_type"),
    *("insufficient_scope", "access_denied", "cross_site", "transport_not_allowed", "unavailable"),
}

names = st.sampled_from(
    [
        *(b"authorization", b"cookie", b"origin", b"content-type", b"content-length", b"host"),
        *(b"sec-fetch-site", b"sec-fetch-mode", b"content-encoding", b"x-forwarded-for"),
        *(b"access-control-request-method", b"transfer-encoding", b"upgrade", b"expect", b"x"),
    ]
)
values = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            *(b"Bearer " + GOOD.encode(), b"bearer x", b"Bearer", b"Basic x", b"session=anna"),
            *(b"application/json", b"text/plain", b"https://app.example.com", b"null", b"*"),
            *(
                b"same-origin",
                b"cross-site",
                b"navigate",
                b"gzip",
                b"0",
                b"-1",
                b"99999999",
                b"POST",
            ),
        ]
    ),
    st.sampled_from(sorted(FOR_ANYBODY)).map(
        lambda name: b"Bearer " + FOR_ANYBODY[name]().encode()
    ),
)
headers = st.lists(st.tuples(names, values), max_size=5)
signed_in = st.one_of(headers, headers.map(lambda pairs: [*bearer(GOOD), *pairs]))
paths = st.one_of(
    st.sampled_from(
        [
            *("/xuna/get-signed-url", "/xuna/conversation-token", "/xuna/agents", "/xuna/readyz"),
            *("/xuna", "/xuna/", "/xuna/x", "/api", "/api/x", "/", "", "/xuna/get-signed-url/"),
        ]
    ),
    st.text(max_size=30).map(lambda text: "/xuna/" + text),
    st.text(max_size=30),
)
methods = st.one_of(
    st.sampled_from(["GET", "POST", "GET", "POST", "OPTIONS", "HEAD", "DELETE"]),
    st.text(max_size=8),
)
queries = st.one_of(
    st.sampled_from([b"", b"agent=support", b"agent=sales", b"agent=x", b"access_token=x"]),
    st.binary(max_size=40),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=20)
)
members = st.dictionaries(
    st.one_of(st.sampled_from(["mood", "plan", "agent", "language", "prompt", "tts"]), st.text()),
    st.recursive(scalars, lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_size=3,
)
bodies = st.one_of(
    st.just(b""),
    st.binary(max_size=80),
    st.fixed_dictionaries(
        {},
        optional={
            "agent": st.one_of(st.sampled_from(["support", "sales", "x"]), scalars),
            "dynamic_variables": st.one_of(members, scalars),
            "overrides": st.one_of(members, scalars),
        },
    ).map(lambda value: json.dumps(value).encode()),
)
messages: st.SearchStrategy[list[Message]] = st.lists(
    st.one_of(
        bodies.map(lambda body: {"type": "http.request", "body": body, "more_body": False}),
        bodies.map(lambda body: {"type": "http.request", "body": body, "more_body": True}),
        st.just({"type": "http.request"}),
        st.just({"type": "http.disconnect"}),
    ),
    min_size=1,
    max_size=3,
)


async def by_cookie(connection: Any) -> Identity | None:
    """Find anybody in a cookie."""
    return Identity(subject="anna") if "session" in connection.cookies else None


def whole_app(platform: CountedPlatform) -> ASGIApp:
    """Return a gate with all that is there, in front of an app."""
    agents: list[Agent] = [
        Agent(
            "support",
            id="agent_1",
            allow=require_scopes("voice:talk"),
            client_variables=("mood",),
            client_overrides=("agent.language",),
            dynamic_variables={"plan": CANARY, "name": claim("sub")},
            transports=("webrtc",),
        ),
        Agent("sales", id="agent_2", client_variables=("mood",)),
    ]
    gate = make_gate(
        platform,
        agents=agents,
        verifier=make_verifier(),
        authenticator=by_cookie,
        cors_origins=("https://app.example.com",),
    )
    return XunaMiddleware(echo_app, gate, protect=["/api"])


def check(sent: list[Message], platform: CountedPlatform, kind: str) -> None:
    """Check that an answer is documented, and that nothing of it is secret."""
    answer = one_response(sent, kind)
    if answer.body == b"the app":
        return
    assert answer.status in DOCUMENTED, answer
    text = repr(answer)
    assert API_KEY not in text
    assert GOOD not in text
    if (answer.header("content-type") or "").startswith("text/plain"):
        assert answer.header("access-control-allow-methods"), "only a preflight is text"
        assert platform.requests == []
        return
    assert answer.header("cache-control") == "no-store"
    if answer.status >= 400 and answer.header("content-type") == "application/problem+json":
        assert answer.json()["code"] in CODES, answer
        assert answer.header("xuna-gate-ref")
        assert CANARY not in text
        assert platform.requests == []
    if answer.status == 401:
        assert (answer.header("www-authenticate") or "").startswith("Bearer")


@given(
    path=paths,
    method=methods,
    pairs=signed_in,
    query=queries,
    incoming=messages,
    root=st.sampled_from(["", "/sub", "/xuna"]),
)
async def test_any_request_gets_one_documented_answer(
    caplog: pytest.LogCaptureFixture,
    path: str,
    method: str,
    pairs: list[tuple[bytes, bytes]],
    query: bytes,
    incoming: list[Message],
    root: str,
) -> None:
    """Headers, path, query, method, body and the order of events, all odd."""
    caplog.clear()
    platform = CountedPlatform()
    with caplog.at_level(logging.DEBUG):
        app = whole_app(platform)
        scope = http_scope(
            path.replace("\ud800", ""), method=method, headers=pairs, query=query, root_path=root
        )
        sent = await asyncio.wait_for(exchange(app, scope, incoming), 5)
    left = method == "POST" and any(message["type"] == "http.disconnect" for message in incoming)
    cut = method == "POST" and all(message.get("more_body") for message in incoming)
    if sent or not (left or cut):
        check(sent, platform, "http.response")
    assert API_KEY not in caplog.text
    assert GOOD not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@given(path=paths, pairs=signed_in, query=queries)
async def test_any_websocket_gets_one_documented_answer(
    path: str, pairs: list[tuple[bytes, bytes]], query: bytes
) -> None:
    """The same for WebSockets; on the app's own paths the app decides."""
    platform = CountedPlatform()
    scope = websocket_scope(path, headers=pairs, query=query, extensions=DENIAL)
    sent = await exchange(whole_app(platform), scope, [{"type": "websocket.connect"}])
    assert platform.requests == []
    if sent[0]["type"] == "websocket.accept":
        assert not path.startswith("/xuna/")
        return
    check(sent, platform, "websocket.http.response")


@given(body=st.one_of(bodies, st.binary(max_size=200)))
async def test_any_body_of_a_good_caller(body: bytes) -> None:
    """A known caller's body is as strange as a stranger's."""
    platform = CountedPlatform()
    pairs = [*bearer(GOOD), (b"content-type", b"application/json")]
    for path in ("/xuna/get-signed-url", "/xuna/conversation-token"):
        scope = http_scope(path, method="POST", headers=pairs, query=b"")
        sent = await exchange(whole_app(platform), scope, [{"type": "http.request", "body": body}])
        assert one_response(sent).status in (200, 400, 403, 404)


@given(
    token=st.one_of(
        st.binary(max_size=300), st.text("ey.AZaz09-_=+/~", max_size=300).map(str.encode)
    )
)
async def test_any_token_is_refused_alike(token: bytes) -> None:
    """Whatever stands after `Bearer `: 400 if it is no token, else the one 401."""
    platform = CountedPlatform()
    pairs = [(b"authorization", b"Bearer " + token)]
    sent = await exchange(whole_app(platform), http_scope("/xuna/agents", headers=pairs), [])
    answer = one_response(sent)
    assert answer.status in (400, 401)
    assert answer.json()["code"] in ("invalid_request", "invalid_token")
    assert platform.requests == []
