"""Fetch Metadata: markup of a same-origin page spends nothing for callers without a Bearer header.

The headers are those that Chromium 156 sends; `tests/e2e/test_browser_markup.py` asks a real one.
"""

import logging
from typing import Any, Final

import pytest
from starlette.requests import HTTPConnection
from support.doubles import (
    CountedPlatform,
    ask,
    bearer,
    knock,
    make_gate,
    make_verifier,
    one_response,
)
from support.signing import RSA

from xuna_middleware import Agent, AnonymousAccess, Identity, Limit, MemoryStore, XunaGate

Pairs = list[tuple[bytes, bytes]]

PAGE: Final = "https://acme.com"
#: Who may be without an Authorization header.
COOKIE: Final = (b"cookie", b"session=anna")
NOBODY: Final = (b"x-nothing", b"")


async def by_cookie(connection: HTTPConnection) -> Identity | None:
    user = connection.cookies.get("session")
    return Identity(subject=user) if user else None


def same_origin(mode: str | None, destination: str | None, **more: str) -> Pairs:
    told = {"sec-fetch-mode": mode, "sec-fetch-dest": destination, **more}
    pairs = [(b"sec-fetch-site", b"same-origin")]
    for name, value in told.items():
        if value is not None:
            pairs.append((name.replace("_", "-").encode(), value.encode()))
    return pairs


#: What a script sends that reads the answer.
FETCHES: Final = {
    "fetch": same_origin("cors", "empty"),
    "Chrome before 80, which tells no destination": same_origin("cors", None),
    "a browser that tells the site alone": same_origin(None, None),
    "a listed page": [
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"cors"),
        (b"sec-fetch-dest", b"empty"),
        (b"origin", b"https://app.example.com"),
    ],
    "an old browser on a listed page": [(b"origin", b"https://app.example.com")],
}

#: What markup sends, or a script that can't read the answer; most with the page's cookies.
MARKUP: Final = {
    "<img>": same_origin("no-cors", "image"),
    "<img crossorigin>": same_origin("cors", "image"),
    "document() in a stylesheet of XSLT": same_origin("same-origin", "empty"),
    "<svg><use>": same_origin("same-origin", "image"),
    "<script>": same_origin("no-cors", "script"),
    "<script type=module>": same_origin("cors", "script", origin=PAGE),
    "import of JSON": same_origin("cors", "json", origin=PAGE),
    "<link rel=stylesheet>": same_origin("no-cors", "style"),
    "<link rel=manifest>": same_origin("cors", "manifest"),
    "a font": same_origin("cors", "font", origin=PAGE),
    "<video>": same_origin("no-cors", "video"),
    "<audio>": same_origin("no-cors", "audio"),
    "<track>": same_origin("same-origin", "track"),
    "a worker": same_origin("same-origin", "worker"),
    "a shared worker": same_origin("same-origin", "sharedworker"),
    "a service worker": same_origin("same-origin", "serviceworker"),
    "a worklet": same_origin("cors", "paintworklet"),
    "a report": same_origin("no-cors", "report"),
    "a sign-in with FedCM": same_origin("cors", "webidentity"),
    "<iframe>": same_origin("navigate", "iframe"),
    "<object>": same_origin("navigate", "object"),
    "<embed>": same_origin("navigate", "embed"),
    "a link": same_origin("navigate", "document"),
    "<a download>": same_origin("navigate", "empty"),
    "<a ping>": same_origin("no-cors", "empty", content_type="text/ping"),
    "a beacon": same_origin("no-cors", "empty"),
    "<link rel=preload as=fetch>": same_origin("no-cors", "empty"),
    "<link rel=prefetch>": same_origin("no-cors", "empty", sec_purpose="prefetch"),
    "prefetch with a fetch's headers": same_origin("cors", "empty", sec_purpose="prefetch"),
    "Firefox's old prefetch": same_origin("cors", "empty", x_moz="prefetch"),
    "Safari's old preview": same_origin("cors", "empty", x_purpose="preview"),
    "speculation rules": same_origin("navigate", "document", sec_purpose="prefetch"),
    "Chrome before 80: no destination": same_origin("no-cors", None),
    "a destination without a mode": same_origin(None, "image"),
    "a destination without a site": [
        (b"origin", b"https://app.example.com"),
        (b"sec-fetch-dest", b"image"),
    ],
    "a listed page's <img crossorigin>": [
        (b"sec-fetch-site", b"cross-site"),
        (b"sec-fetch-mode", b"cors"),
        (b"sec-fetch-dest", b"image"),
        (b"origin", b"https://app.example.com"),
    ],
    "two destinations": [*same_origin("cors", "empty"), (b"sec-fetch-dest", b"empty")],
    "two modes": [*same_origin("cors", "empty"), (b"sec-fetch-mode", b"cors")],
    "an empty destination": same_origin("cors", ""),
    "an empty mode": same_origin("", "empty"),
    "another letter case": same_origin("cors", "EMPTY"),
    "a list": same_origin("cors", "empty, image"),
    "a word that is not in the specification": same_origin("cors", "hologram"),
    "the mode of a WebSocket": same_origin("websocket", "empty"),
}

#: The same by GET alone: a POST of a script's has an Origin.
BY_GET: Final = {
    "<link rel=preload as=fetch crossorigin>": same_origin("cors", "empty", origin=PAGE),
}


def new_gate(platform: CountedPlatform, **options: Any) -> XunaGate:
    """Return a gate that knows cookies and operators, with an agent for visitors, too."""
    limits = [Limit("1/hour", per="all")]
    return make_gate(
        platform,
        authenticator=by_cookie,
        agents=[Agent("faq", id="agent_1", anonymous=True, max_duration=60, limits=limits)],
        anonymous=AnonymousAccess(secret="s" * 43),
        operators=lambda who: who.subject == "anna",
        cors_origins=("https://app.example.com",),
        public_url=f"{PAGE}/xuna",
        store=MemoryStore(),
        **options,
    )


@pytest.mark.parametrize("who", [COOKIE, NOBODY], ids=["a cookie's caller", "a visitor"])
@pytest.mark.parametrize("headers", FETCHES.values(), ids=FETCHES.keys())
@pytest.mark.parametrize("path", ["/get-signed-url", "/conversation-token"])
async def test_a_script_gets_a_credential(
    path: str, headers: Pairs, who: tuple[bytes, bytes]
) -> None:
    """What reads the answer, in today's browsers and older ones."""
    platform = CountedPlatform()
    assert (await ask(new_gate(platform), path, headers=[who, *headers])).status == 200
    assert len(platform.requests) == 1


@pytest.mark.parametrize("who", [COOKIE, NOBODY], ids=["a cookie's caller", "a visitor"])
@pytest.mark.parametrize(
    "headers", [*MARKUP.values(), *BY_GET.values()], ids=[*MARKUP.keys(), *BY_GET.keys()]
)
async def test_markup_gets_and_spends_nothing(headers: Pairs, who: tuple[bytes, bytes]) -> None:
    """403 on each route that gives something, and the budget of one is still whole after that."""
    platform = CountedPlatform()
    gate = new_gate(platform)
    for path in ("/get-signed-url", "/conversation-token"):
        answer = await ask(gate, path, headers=[who, *headers])
        assert (answer.status, answer.json()["code"]) == (403, "cross_site")
    assert not platform.requests
    assert (await ask(gate, headers=[who, *FETCHES["fetch"]])).status == 200


@pytest.mark.parametrize("who", [COOKIE, NOBODY], ids=["a cookie's caller", "a visitor"])
@pytest.mark.parametrize("headers", MARKUP.values(), ids=MARKUP.keys())
async def test_markup_posts_nothing(headers: Pairs, who: tuple[bytes, bytes]) -> None:
    """Neither a ticket nor a credential by POST: forms, pings and beacons."""
    platform = CountedPlatform()
    gate = new_gate(platform)
    for path in ("/get-signed-url", "/conversation-token", "/ticket"):
        answer = await ask(gate, path, method="POST", headers=[who, *headers])
        assert (answer.status, answer.json()["code"]) == (403, "cross_site")
    assert not platform.requests


@pytest.mark.parametrize(
    "headers", [*MARKUP.values(), *BY_GET.values()], ids=[*MARKUP.keys(), *BY_GET.keys()]
)
async def test_markup_reads_and_ends_nothing(headers: Pairs) -> None:
    """The live conversations of an operator, and what a caller has left: a script's alone."""
    gate = new_gate(CountedPlatform())
    for path, method in (("/sessions", "GET"), ("/sessions/x", "DELETE"), ("/agents", "GET")):
        if method == "DELETE" and headers in BY_GET.values():
            continue
        answer = await ask(gate, path, method=method, headers=[COOKIE, *headers])
        assert (answer.status, answer.json()["code"]) == (403, "cross_site"), path
    assert (await ask(gate, "/agents", headers=[COOKIE])).status == 200
    for path in ("/sessions", "/agents"):
        answer = await ask(gate, path, headers=[COOKIE, *FETCHES["fetch"]])
        assert answer.status == 200


@pytest.mark.parametrize("kind", ["x-www-form-urlencoded", "form-data; boundary=x", "plain"])
async def test_empty_form_of_an_old_browser(kind: str) -> None:
    """It tells no Fetch Metadata, but an Origin: a form without a field has no body to look at."""
    prefix = {"form-data; boundary=x": "multipart", "plain": "text"}.get(kind, "application")
    headers = [COOKIE, (b"origin", PAGE.encode())]
    platform = CountedPlatform()
    gate = new_gate(platform)
    form = (b"content-type", f"{prefix}/{kind}".encode())
    answer = await ask(gate, method="POST", headers=[*headers, form])
    assert (answer.status, answer.json()["code"]) == (403, "cross_site")
    assert not platform.requests
    assert (await ask(gate, method="POST", headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers", [*MARKUP.values(), *BY_GET.values()], ids=[*MARKUP.keys(), *BY_GET.keys()]
)
async def test_bearer_header_needs_none_of_this(headers: Pairs) -> None:
    """No markup sends one."""
    gate = new_gate(CountedPlatform(), verifier=make_verifier())
    answer = await ask(gate, headers=[*headers, *bearer(RSA.token())])
    assert answer.status == 200


@pytest.mark.parametrize("destination", ["empty", "websocket", None])
@pytest.mark.parametrize("mode", ["websocket", None])
async def test_websocket_is_no_fetch(mode: str | None, destination: str | None) -> None:
    """No markup opens one; browsers differ in what they say of it, and all tell its Origin."""
    gate = new_gate(CountedPlatform())
    told = [pair for pair in same_origin(mode, destination) if pair[1] != b"same-origin"]
    extensions: Any = {"websocket.http.response": {}}
    for origin, kind in ((PAGE, "websocket.accept"), ("https://evil.example", "refused")):
        headers = [COOKIE, *told, (b"origin", origin.encode())]
        sent = await knock(gate, "/conversation", headers=headers, extensions=extensions)
        if kind == "refused":
            answer = one_response(sent, "websocket.http.response")
            assert (answer.status, answer.json()["code"]) == (403, "cross_site")
        else:
            assert sent[0]["type"] == kind


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (MARKUP["<img>"], "Sec-Fetch-Dest is not exactly empty"),
        (MARKUP["<link rel=preload as=fetch>"], "Sec-Fetch-Mode is not exactly cors"),
        (MARKUP["a link"], "Sec-Fetch-Mode is navigate"),
        (MARKUP["<link rel=prefetch>"], "a prefetch"),
        (BY_GET["<link rel=preload as=fetch crossorigin>"], "<link rel=preload crossorigin>"),
        ([(b"sec-fetch-site", b"cross-site")], "cors_origins="),
    ],
)
async def test_log_line_names_the_cause(
    caplog: pytest.LogCaptureFixture, headers: Pairs, why: str
) -> None:
    """So that an operator who wonders sees which header decided."""
    with caplog.at_level(logging.WARNING, "xuna_middleware"):
        await ask(new_gate(CountedPlatform()), headers=[COOKIE, *headers])
    (line,) = [record.message for record in caplog.records if "refused" in record.message]
    assert why in line
