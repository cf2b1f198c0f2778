"""XunaPlatform against a platform that answers what a test says."""

import asyncio
import json
import logging
import pickle
import traceback
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from xuna_middleware.access.grants import Grant, Personalization, Transport
from xuna_middleware.errors import (
    ConfigurationError,
    GateError,
    PlatformError,
    UnavailableError,
)
from xuna_middleware.identity.credentials import Identity
from xuna_middleware.platform.issued import SignedUrl
from xuna_middleware.platform.rest.client import XunaPlatform
from xuna_middleware.sandbox import SandboxPlatform, serve

KEY = "xk-canary-5f0c9e"
SIGNED_URL = "wss://api.xuna.ai/v1/convai/conversation?agent_id=a&conversation_signature=c4n4ry"
NOW = 1_800_000_000.0


@dataclass
class Remote:
    """Give one answer after another, the last one for ever; an exception is raised instead."""

    answers: list[httpx.Response | Exception]
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def last(self) -> httpx.Request:
        return self.requests[-1]

    def json(self) -> Any:
        """Return the body of the last request."""
        return json.loads(self.last.content)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without the platform's variables."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    monkeypatch.delenv("XUNA_AI_BASE_URL", raising=False)


def platform_of(remote: Remote, **options: Any) -> XunaPlatform:
    """Return a platform with a key, a fixed clock, and `remote` at the other end."""
    options = {"api_key": KEY, "clock": lambda: NOW, **options}
    return XunaPlatform(http_transport=httpx.MockTransport(remote), **options)


def ok(**members: Any) -> httpx.Response:
    """Return a 200 with these JSON members; without any, with both credentials."""
    return httpx.Response(200, json=members or {"signed_url": SIGNED_URL, "token": "eyJ.t.k"})


def grant(
    transport: Transport = "websocket",
    *,
    variables: dict[str, Any] | None = None,
    overrides: dict[str, Any] | None = None,
    agent_id: str = "agent_1",
) -> Grant:
    """Return a grant of the agent `support` with this personalization."""
    return Grant(
        identity=Identity(subject="user-1"),
        agent="support",
        agent_id=agent_id,
        transport=transport,
        personalization=Personalization(
            dynamic_variables=variables or {}, overrides=overrides or {}
        ),
        rule="any",
    )


def rendered(error: BaseException) -> str:
    """Render an exception with its chain and the locals of every frame of the package."""
    parts: list[str] = []
    each: BaseException | None = error
    while each is not None:
        shown = traceback.TracebackException.from_exception(each, capture_locals=True)
        parts += [str(each), repr(each), repr(vars(each))]
        for frame in shown.stack:
            if frame.filename != __file__:
                parts += [f"{name}={value}" for name, value in (frame.locals or {}).items()]
        each = each.__cause__ or each.__context__
    return "\n".join(parts)


async def issued(remote: Remote, asked: Grant, **options: Any) -> dict[str, Any]:
    """Issue, close, and return the JSON that a route would answer."""
    platform = platform_of(remote, **options)
    try:
        return (await platform.issue(asked)).to_dict()
    finally:
        await platform.aclose()


async def refused(remote: Remote, asked: Grant, **options: Any) -> GateError:
    """Issue and return the refusal that it must end in."""
    with pytest.raises(GateError) as caught:
        await issued(remote, asked, **options)
    return caught.value


# What is asked, and what comes back


async def test_a_signed_url() -> None:
    """The documented GET, the key in its header, and the answer as the route gives it."""
    remote = Remote([ok()])
    answer = await issued(remote, grant())
    assert remote.last.method == "GET"
    assert str(remote.last.url) == (
        "https://api.xuna.ai/v1/convai/conversation/get-signed-url?agent_id=agent_1"
    )
    assert remote.last.headers["xi-api-key"] == KEY
    assert remote.last.content == b""
    assert answer == {
        "signed_url": SIGNED_URL,
        "transport": "websocket",
        "agent": "support",
        "start_by": NOW + 900,
    }


async def test_a_conversation_token() -> None:
    """Without personalization the documented GET; no `start_by`, which nobody knows."""
    remote = Remote([ok(token="eyJ.t.k", conversation_id="conv_01")])
    answer = await issued(remote, grant("webrtc"))
    assert remote.last.method == "GET"
    assert str(remote.last.url) == (
        "https://api.xuna.ai/v1/convai/conversation/token?agent_id=agent_1"
    )
    assert answer == {
        "token": "eyJ.t.k",
        "transport": "webrtc",
        "agent": "support",
        "conversation_id": "conv_01",
    }


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_agent_ids_are_encoded(transport: Transport) -> None:
    """Whatever an id holds, it is the value of one parameter and touches no path."""
    remote = Remote([ok()])
    await issued(remote, grant(transport, agent_id="a/../x?b=c&agent_id=d#e %2f"))
    assert remote.last.url.path.startswith("/v1/convai/conversation/")
    assert remote.last.url.params.multi_items() == [("agent_id", "a/../x?b=c&agent_id=d#e %2f")]


async def test_options_of_the_elevenlabs_api() -> None:
    """Parameters that XUNA AI doesn't document are sent only when they are configured."""
    options = {"include_conversation_id": True, "branch_id": "b&1", "environment": "staging"}
    remote = Remote([ok()])
    await issued(remote, grant(), **options)
    assert dict(remote.last.url.params) == {
        "agent_id": "agent_1",
        "include_conversation_id": "true",
        "branch_id": "b&1",
        "environment": "staging",
    }
    await issued(remote, grant("webrtc", variables={"a": 1}), **options)
    assert dict(remote.last.url.params) == {"branch_id": "b&1", "environment": "staging"}


async def test_the_caller_is_not_named_to_the_platform() -> None:
    """Who it is stays here: no header, parameter or body member says it."""
    remote = Remote([ok()])
    await issued(remote, grant("webrtc", variables={"plan": "gold"}))
    sent = f"{remote.last.url} {remote.last.headers} {remote.last.content!r}"
    assert "user-1" not in sent


async def test_start_by_can_be_left_out() -> None:
    """Where the operator trusts the figure of the other API less."""
    assert "start_by" not in await issued(Remote([ok()]), grant(), start_within=None)


async def test_nothing_is_cached_or_shared() -> None:
    """Equal grants at the same moment are as many requests."""
    remote = Remote([ok()])
    platform = platform_of(remote)
    await asyncio.gather(*(platform.issue(grant()) for _ in range(5)))
    assert len(remote.requests) == 5


def test_several_event_loops() -> None:
    """One platform issues on one loop after another."""
    platform = platform_of(Remote([ok()]))
    for _ in range(2):
        credential = asyncio.run(platform.issue(grant()))
        assert isinstance(credential, SignedUrl)


# Personalization

VARIABLES = {"name": "Ann", "n": 3, "x": 0.5, "vip": True, "secret__t": "s"}
OVERRIDES = {"agent.first_message": "Hi", "agent.prompt.prompt": "P", "tts.voice_id": "v"}
NESTED = {"agent": {"first_message": "Hi", "prompt": {"prompt": "P"}}, "tts": {"voice_id": "v"}}


async def test_personalization_in_the_body() -> None:
    """By default a POST whose JSON holds everything; the client carries nothing."""
    remote = Remote([ok()])
    asked = grant("webrtc", variables=VARIABLES, overrides=OVERRIDES)
    answer = await issued(remote, asked)
    assert (remote.last.method, remote.last.url.query) == ("POST", b"")
    assert remote.json() == {
        "agent_id": "agent_1",
        "dynamic_variables": VARIABLES,
        "conversation_config_override": NESTED,
    }
    assert "session" not in answer


@pytest.mark.parametrize(
    ("asked", "member"),
    [
        (grant("webrtc", variables={"a": 1}), "dynamic_variables"),
        (grant("webrtc", overrides={"tts.speed": 1.1}), "conversation_config_override"),
    ],
)
async def test_empty_members_are_left_out(asked: Grant, member: str) -> None:
    """No empty object travels beside what there is."""
    remote = Remote([ok()])
    await issued(remote, asked)
    assert set(remote.json()) == {"agent_id", member}


async def test_personalization_in_the_query() -> None:
    """JSON-encoded parameters of a GET."""
    remote = Remote([ok()])
    asked = grant("webrtc", variables=VARIABLES, overrides=OVERRIDES)
    answer = await issued(remote, asked, personalization="query")
    assert remote.last.method == "GET"
    params = remote.last.url.params
    assert params["agent_id"] == "agent_1"
    assert json.loads(params["dynamic_variables"]) == VARIABLES
    assert json.loads(params["conversation_config_override"]) == NESTED
    assert "session" not in answer


@pytest.mark.parametrize(
    ("transport", "way"), [("websocket", "body"), ("websocket", "query"), ("webrtc", "client")]
)
async def test_personalization_through_the_client(transport: Transport, way: str) -> None:
    """Where the client carries it, it is in `session` as `startSession` spells it, and only there.

    The paths are those that `@elevenlabs/client` 1.25 reads.
    """
    remote = Remote([ok()])
    asked = grant(
        transport,
        variables={"name": "Ann", "vip": False},
        overrides={
            "agent.first_message": "Hi",
            "agent.language": "de",
            "tts.voice_id": "v",
            "tts.stability": 0.5,
            "tts.speed": 1.1,
            "tts.similarity_boost": 0.7,
            "conversation.text_only": True,
        },
    )
    answer = await issued(remote, asked, personalization=way)
    assert dict(remote.last.url.params) == {"agent_id": "agent_1"}
    assert (remote.last.method, remote.last.content) == ("GET", b"")
    assert answer["session"] == {
        "dynamicVariables": {"name": "Ann", "vip": False},
        "overrides": {
            "agent": {"firstMessage": "Hi", "language": "de"},
            "tts": {"voiceId": "v", "stability": 0.5, "speed": 1.1, "similarityBoost": 0.7},
            "conversation": {"textOnly": True},
        },
    }
    assert json.dumps(answer)


@pytest.mark.parametrize(("transport", "way"), [("websocket", "body"), ("webrtc", "client")])
@pytest.mark.parametrize(
    ("variables", "overrides", "name"),
    [
        ({"secret__token": "s3cr3t"}, {}, "secret__token"),
        ({"SECRET__token": "s3cr3t"}, {}, "SECRET__token"),
        ({}, {"agent.prompt.prompt": "s3cr3t"}, "agent.prompt.prompt"),
        ({}, {"agent.prompt.llm": "s3cr3t"}, "agent.prompt.llm"),
        ({}, {"tts.model_id": "s3cr3t"}, "tts.model_id"),
        ({}, {"agent.prompt": {"prompt": "s3cr3t"}}, "agent.prompt"),
        ({}, {"agent": {"prompt": {"prompt": "s3cr3t"}}}, "agent"),
    ],
)
async def test_what_no_client_may_carry(
    transport: Transport,
    way: str,
    variables: dict[str, Any],
    overrides: dict[str, Any],
    name: str,
) -> None:
    """Prompts, models and secrets don't leave through a client: 503, and nobody is asked."""
    remote = Remote([ok()])
    asked = grant(transport, variables=variables, overrides=overrides)
    error = await refused(remote, asked, personalization=way)
    assert isinstance(error, UnavailableError)
    assert "relay" in error.cause
    assert name in error.cause
    assert "s3cr3t" not in rendered(error)
    assert remote.requests == []


@pytest.mark.parametrize(
    ("way", "expected"),
    [("body", (True, False)), ("query", (True, False)), ("client", (True,) * 2)],
)
def test_client_carries(way: str, expected: tuple[bool, bool]) -> None:
    """A signed URL always leaves it to the client, a token where that is configured."""
    platform = platform_of(Remote([ok()]), personalization=way)
    carried = platform.client_carries("websocket"), platform.client_carries("webrtc")
    assert carried == expected


async def test_livekit_url() -> None:
    """It is handed out beside tokens, personalized or not, and never beside a signed URL."""
    url = "wss://livekit.xuna.ai"
    remote = Remote([ok()])
    assert (await issued(remote, grant("webrtc"), livekit_url=url))["session"] == {
        "livekitUrl": url
    }
    answer = await issued(
        remote, grant("webrtc", variables={"a": 1}), livekit_url=url, personalization="client"
    )
    assert answer["session"] == {"dynamicVariables": {"a": 1}, "livekitUrl": url}
    assert "session" not in await issued(remote, grant(), livekit_url=url)


# Answers that are none


@pytest.mark.parametrize(
    "url",
    [
        "wss://api.xuna.ai/x",
        "wss://api.xuna.ai:8443/x?y=z#f",
        "WSS://API.XUNA.AI/x",
        "wss://talk.xuna.ai/?a=@b\x7e",
        "wss://api.xuna.ai",
    ],
)
async def test_signed_urls_are_handed_on_as_they_are(url: str) -> None:
    """Opaque beyond scheme and host: not a character of it changes."""
    answer = await issued(Remote([ok(signed_url=url)]), grant(), signed_url_hosts=("talk.xuna.ai",))
    assert answer["signed_url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "ws://api.xuna.ai/x",
        "https://api.xuna.ai/x",
        "//api.xuna.ai/x",
        "wss:api.xuna.ai/x",
        "wss:///api.xuna.ai/x",
        "wss://api.xuna.ai.evil.test/x",
        "wss://evil.test/api.xuna.ai",
        "wss://xapi.xuna.ai/x",
        "wss://api.xuna.ai./x",
        "wss://api.xuna.ai@evil.test/x",
        "wss://user:pw@api.xuna.ai/x",
        "wss://evil.test\\@api.xuna.ai/x",
        "wss://api.xuna.ai\\@evil.test/x",
        "wss://api.xuna.ai:80@evil.test/x",
        "wss://evil.test#@api.xuna.ai/x",
        "wss://evil.test?@api.xuna.ai/x",
        "wss://api.xuna.ai%2eevil.test/x",
        "wss://api.xuna.ai\t.evil.test/x",
        " wss://api.xuna.ai/x",
        "wss://api.xuna.ai/x\n",
        "wss://api.xuna.ai/ü",
        "wss://api.xuna.ai/\\x",
        "wss://api.xuna.ai/\ud800",
        "wss://api.xuna。ai/x",
        "wss://api.xuna.ai/" + "x" * 8192,
        "",
        None,
        7,
        ["wss://api.xuna.ai/x"],
        {"url": "wss://api.xuna.ai/x"},
    ],
)
async def test_signed_urls_that_are_refused(url: Any) -> None:
    """Another scheme or host, in any disguise, is a 502 that repeats nothing of it."""
    body = json.dumps({"signed_url": url}).encode()
    error = await refused(Remote([httpx.Response(200, content=body)]), grant())
    assert (error.status_code, error.code) == (502, "platform_error")
    assert error.cause.startswith("platform_answer: ")
    assert "evil" not in rendered(error)


async def test_ws_is_for_loopback() -> None:
    """A platform on this machine may answer without TLS; its name must still be the same."""
    local = {"base_url": "http://127.0.0.1:9/"}
    url = "ws://127.0.0.1:7/x"
    assert (await issued(Remote([ok(signed_url=url)]), grant(), **local))["signed_url"] == url
    error = await refused(Remote([ok(signed_url="ws://localhost:7/x")]), grant(), **local)
    assert "signed_url_hosts" in error.cause


@pytest.mark.parametrize("token", ["", " ", "a b", "a\n", "ü", "x" * 8193, None, 7, ["a"], True])
async def test_tokens_that_are_refused(token: Any) -> None:
    """A token is printable ASCII without white space, of bounded length."""
    error = await refused(Remote([ok(token=token)]), grant("webrtc"))
    assert (error.status_code, error.cause.split(":")[0]) == (502, "platform_answer")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("conv_7101k5zvyjhmfg983brhmhkd98n6", True),
        ("conv_A-b.c:1", True),
        ("conv_", False),
        ("conv_" + "x" * 251, False),
        ("conv_a b", False),
        ("conv_a\nb", False),
        ("conv_<b>", False),
        ("other_1", False),
        (7, False),
        (None, False),
    ],
)
@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_conversation_ids(transport: Transport, value: Any, kept: bool) -> None:
    """An id of the documented shape is passed on; anything else is dropped, not refused."""
    both = {"signed_url": SIGNED_URL, "token": "t", "conversation_id": value}
    answer = await issued(Remote([ok(**both)]), grant(transport))
    assert answer.get("conversation_id") == (value if kept else None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"<html>",
        b'{"token": "a"',
        b'{"token": "a"} x',
        b'{"token": "a", "token": "b"}',
        b'{"token": "a", "n": NaN}',
        b'{"token": "a", "n": 1e999}',
        b'\xef\xbb\xbf{"token": "a"}',
        '{"token": "a"}'.encode("utf-16"),
        b'{"token": "\xff"}',
        b'{"token": "a", "n": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"token": "a", "n": ' + b"9" * 5000 + b"}",
        b'{"other": "a"}',
        b'{"token": "a", "n": "' + b"x" * 65_536 + b'"}',
    ],
    ids=lambda body: repr(body[:24]),
)
async def test_bodies_that_are_no_answer(body: bytes) -> None:
    """Whatever a body is, the caller sees one 502 and the platform isn't asked again."""
    remote = Remote([httpx.Response(200, content=body)])
    error = await refused(remote, grant("webrtc"))
    assert (error.status_code, error.code) == (502, "platform_error")
    assert error.cause.startswith("platform_answer: ")
    assert len(remote.requests) == 1


@pytest.mark.parametrize("kind", ["application/json", "text/html", "", "nonsense"])
async def test_the_content_type_is_not_looked_at(kind: str) -> None:
    """Servers get it wrong; strict JSON is proof enough."""
    remote = Remote(
        [httpx.Response(200, content=b'{"token": "t"}', headers={"content-type": kind})]
    )
    assert (await issued(remote, grant("webrtc")))["token"] == "t"


# Refusals of the platform

PERSONAL = grant("webrtc", variables={"name": "Ann-canary"})


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (204, "platform_answer: status 204"),
        (301, "platform_redirect: "),
        (302, "platform_redirect: "),
        (307, "platform_redirect: "),
        (400, "platform_request: "),
        (401, "platform_auth: XUNA AI refused the API key or its quota is spent (401)"),
        (402, "platform_request: "),
        (403, "platform_auth: "),
        (404, "platform_agent: "),
        (405, "platform_request: "),
        (422, "platform_request: "),
        (500, "platform_fault: "),
        (502, "platform_fault: "),
        (503, "platform_fault: "),
        (504, "platform_fault: "),
        (599, "platform_fault: "),
        (700, "platform_answer: status 700"),
    ],
)
async def test_refusals_are_one_502(status: int, cause: str) -> None:
    """Whatever the platform says, the caller learns that it didn't work; the log learns why."""
    body = b'{"detail": {"status": "x", "message": "b0dy-canary"}}'
    headers = {"location": "https://evil.test/", "content-type": "application/json"}
    remote = Remote([httpx.Response(status, content=body, headers=headers)])
    error = await refused(remote, grant())
    assert isinstance(error, PlatformError)
    assert (error.status_code, error.code) == (502, "platform_error")
    assert error.detail == PlatformError.default_detail
    assert error.cause.startswith(cause)
    assert str(status) in error.cause
    assert "canary" not in rendered(error)
    assert {request.url.host for request in remote.requests} == {"api.xuna.ai"}


@pytest.mark.parametrize("status", [400, 401])
async def test_a_spent_quota_is_told_apart(status: int) -> None:
    """`quota_exceeded` comes under two statuses, neither of which says so by itself."""
    body = {"detail": {"status": "quota_exceeded", "message": "m"}}
    error = await refused(Remote([httpx.Response(status, json=body)]), grant())
    assert error.status_code == 502
    assert error.cause.startswith("platform_quota: ")


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("way", ["body", "query"])
async def test_personalization_that_is_not_supported(status: int, way: str) -> None:
    """A documented code, the fix in the cause, and no other way tried in silence."""
    remote = Remote([httpx.Response(status), ok()])
    error = await refused(remote, PERSONAL, personalization=way)
    assert (error.status_code, error.code) == (502, "personalization_unsupported")
    assert isinstance(error, PlatformError)
    assert 'personalization="' in error.cause
    assert '"client"' in error.cause
    assert len(remote.requests) == 1


@pytest.mark.parametrize("status", [404, 405])
async def test_plain_token_requests_are_not_about_personalization(status: int) -> None:
    """With nothing personal in the request, the status means what it says."""
    for asked, way in ((grant("webrtc"), "body"), (PERSONAL, "client")):
        error = await refused(Remote([httpx.Response(status)]), asked, personalization=way)
        assert error.code == "platform_error"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "5"),
        ("7", "7"),
        ("0", "1"),
        ("86401", "86400"),
        ("Fri, 15 Jan 2027 08:00:30 GMT", "30"),
        ("Fri, 15 Jan 1999 08:00:30 GMT", "1"),
        ("soon", "5"),
        ("-3", "5"),
        ("1.5", "5"),
        ("9" * 5000, "5"),
        ("٣", "5"),
        ("Fri, 15 Jan 99999 08:00:30 GMT", "5"),
    ],
)
async def test_busy_is_a_503_with_its_time(value: str | None, expected: str) -> None:
    """429 asks for less: no second attempt, and the caller hears for how long."""
    headers = {} if value is None else {b"Retry-After": value.encode()}
    remote = Remote([httpx.Response(429, headers=headers)])
    error = await refused(remote, grant())
    assert isinstance(error, UnavailableError)
    assert error.status_code == 503
    assert error.headers is not None
    assert error.headers["Retry-After"] == expected
    assert error.cause.startswith("platform_busy: ")
    assert len(remote.requests) == 1


# The second attempt


@pytest.mark.parametrize(
    "first",
    [
        httpx.ConnectError("x"),
        httpx.ConnectTimeout("x"),
        httpx.Response(502),
        httpx.Response(503),
        httpx.Response(504),
        httpx.Response(503, headers={"Retry-After": "0"}),
    ],
    ids=repr,
)
@pytest.mark.parametrize("asked", [grant(), PERSONAL], ids=["GET", "POST"])
async def test_a_second_attempt_helps(first: httpx.Response | Exception, asked: Grant) -> None:
    """What wasn't served is asked once more, the same way, with the same key."""
    remote = Remote([first, ok()])
    await issued(remote, asked)
    one, two = remote.requests
    assert (one.method, one.url, one.content) == (two.method, two.url, two.content)
    assert two.headers["xi-api-key"] == KEY


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (httpx.ConnectError("c4n4ry"), "platform_unreachable: api.xuna.ai: no connection"),
        (httpx.Response(503), "platform_fault: "),
    ],
)
async def test_there_is_no_third(answer: httpx.Response | Exception, cause: str) -> None:
    """Two attempts, then 502."""
    remote = Remote([answer])
    error = await refused(remote, grant())
    assert len(remote.requests) == 2
    assert error.status_code == 502
    assert error.cause.startswith(cause)
    assert "c4n4ry" not in rendered(error)


@pytest.mark.parametrize(
    ("answer", "status", "cause"),
    [
        (httpx.ReadTimeout("c4n4ry"), 504, "platform_timeout: api.xuna.ai"),
        (httpx.PoolTimeout("c4n4ry"), 504, "platform_timeout: api.xuna.ai"),
        (httpx.ReadError("c4n4ry"), 502, "platform_answer: api.xuna.ai"),
        (httpx.RemoteProtocolError("c4n4ry"), 502, "platform_answer: api.xuna.ai"),
        (httpx.Response(500), 502, "platform_fault: "),
        (httpx.Response(501), 502, "platform_fault: "),
        (httpx.Response(401), 502, "platform_auth: "),
    ],
)
@pytest.mark.parametrize("asked", [grant(), PERSONAL], ids=["GET", "POST"])
async def test_what_is_not_tried_again(
    answer: httpx.Response | Exception, status: int, cause: str, asked: Grant
) -> None:
    """A server that may be at work on it is left alone, and so is one that has decided."""
    remote = Remote([answer])
    error = await refused(remote, asked)
    assert (len(remote.requests), error.status_code) == (1, status)
    assert error.code == ("platform_timeout" if status == 504 else "platform_error")
    assert error.cause.startswith(cause)
    assert "c4n4ry" not in rendered(error)


async def test_a_retry_after_beyond_the_time_is_passed_on() -> None:
    """No second attempt that would come too early: the caller hears when to come back."""
    remote = Remote([httpx.Response(503, headers={"Retry-After": "30"})])
    error = await refused(remote, grant())
    assert len(remote.requests) == 1
    assert error.status_code == 502
    assert error.headers is not None
    assert error.headers["Retry-After"] == "30"


# The key


async def test_the_key_is_nowhere() -> None:
    """Not in a fault's chain and frames, nor in what the platform object shows of itself."""
    platform = platform_of(Remote([httpx.ConnectError(KEY)]))
    with pytest.raises(PlatformError) as caught:
        await platform.issue(PERSONAL)
    assert KEY not in rendered(caught.value)
    assert KEY not in f"{platform!r} {vars(platform)}"
    with pytest.raises(TypeError):
        pickle.dumps(platform)


async def test_no_credential_in_a_refused_answer() -> None:
    """A good token in a bad answer is in no rendering of the refusal."""
    url = "wss://elsewhere.test/?signature=c4n4ry"
    error = await refused(Remote([ok(signed_url=url)]), grant())
    assert "c4n4ry" not in rendered(error)


async def test_logs_hold_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, from any library: no key, no credential, no variable, even in the query."""
    caplog.set_level(logging.DEBUG)
    remote = Remote([ok()])
    for way in ("body", "query"):
        await issued(remote, PERSONAL, personalization=way)
    await issued(remote, grant())
    assert not [word for word in (KEY, "eyJ.t.k", "c4n4ry", "canary") if word in caplog.text]


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "k\n", "k\r\nX: y", "k\0", "kéy", "k\x7f", 7, b"k"]
)
def test_keys_that_are_none(bad: Any) -> None:
    """A key that could not travel is refused at construction, and not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        XunaPlatform(bad)
    assert str(caught.value).startswith("api_key: ")


def test_a_bad_key_is_in_no_frame() -> None:
    """The traceback of the refusal, locals included, shows nothing of the key."""
    canary = "xk-canary " + "x"
    with pytest.raises(ConfigurationError) as caught:
        XunaPlatform(canary)
    assert canary not in rendered(caught.value)


# Configuration


def test_a_missing_key_is_found_by_check_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building needs none; `check()` names the variable, and sees it as soon as it is there."""
    platform = XunaPlatform()
    with pytest.raises(ConfigurationError, match="XUNA_AI_API_KEY"):
        platform.check()
    monkeypatch.setenv("XUNA_AI_API_KEY", KEY)
    platform.check()


@pytest.mark.parametrize("transport", ["websocket", "webrtc"])
async def test_issuing_without_a_key_asks_nobody(transport: Transport) -> None:
    """No request leaves without its key."""
    remote = Remote([ok()])
    with pytest.raises(ConfigurationError, match="XUNA_AI_API_KEY"):
        await issued(remote, grant(transport), api_key=None)
    assert remote.requests == []


async def test_the_environment_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the object is built; kept from then on, until `aclose()`."""
    remote = Remote([ok(signed_url="wss://one.test/"), ok(signed_url="wss://two.test/")])
    platform = platform_of(remote, api_key=None)
    for host in ("one.test", "two.test"):
        monkeypatch.setenv("XUNA_AI_API_KEY", f"key-{host}")
        monkeypatch.setenv("XUNA_AI_BASE_URL", f"https://{host}/")
        platform.check()
        monkeypatch.delenv("XUNA_AI_API_KEY")
        await platform.issue(grant())
        assert remote.last.url.host == host
        assert remote.last.headers["xi-api-key"] == f"key-{host}"
        await platform.aclose()


@pytest.mark.parametrize(
    ("name", "value"),
    [("XUNA_AI_API_KEY", "k\n"), ("XUNA_AI_BASE_URL", "http://api.xuna.ai")],
)
def test_bad_variables_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """What is wrong with the environment is said in the environment's words."""
    monkeypatch.setenv("XUNA_AI_API_KEY", KEY)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        XunaPlatform().check()


def test_empty_variables_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set to nothing counts as not set."""
    monkeypatch.setenv("XUNA_AI_API_KEY", KEY)
    monkeypatch.setenv("XUNA_AI_BASE_URL", "")
    XunaPlatform().check()


@pytest.mark.parametrize(
    ("base_url", "path"),
    [
        ("https://eu.xuna.ai", "/v1/convai/conversation/get-signed-url"),
        ("https://eu.xuna.ai/", "/v1/convai/conversation/get-signed-url"),
        ("https://eu.xuna.ai:8443/p/q/", "/p/q/v1/convai/conversation/get-signed-url"),
        ("http://localhost:1", "/v1/convai/conversation/get-signed-url"),
        ("http://[::1]:1", "/v1/convai/conversation/get-signed-url"),
    ],
)
async def test_base_urls(base_url: str, path: str) -> None:
    """A path, a port and a last slash are fine; the host is where signed URLs lead."""
    host = base_url.split("//")[1].split("/")[0]
    remote = Remote([ok(signed_url=f"wss://{host}/x")])
    await issued(remote, grant(), base_url=base_url)
    assert remote.last.url.path == path


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("base_url", "http://api.xuna.ai"),
        ("base_url", "http://127.0.0.1.evil.test"),
        ("base_url", "ftp://api.xuna.ai"),
        ("base_url", "api.xuna.ai"),
        ("base_url", "https://"),
        ("base_url", "https://user:pw@api.xuna.ai"),
        ("base_url", "https://api.xuna.ai?x"),
        ("base_url", "https://api.xuna.ai/#x"),
        ("base_url", "https://api.xuna.ai/ x"),
        ("base_url", "https://bücher.test"),
        ("base_url", ""),
        ("base_url", 7),
        ("livekit_url", "ws://livekit.xuna.ai"),
        ("livekit_url", "https://livekit.xuna.ai"),
        ("livekit_url", "livekit.xuna.ai"),
        ("livekit_url", ""),
        ("signed_url_hosts", "talk.xuna.ai"),
        ("signed_url_hosts", ("wss://talk.xuna.ai",)),
        ("signed_url_hosts", ("talk.xuna.ai:443",)),
        ("signed_url_hosts", ("*.xuna.ai/",)),
        ("signed_url_hosts", ("",)),
        ("signed_url_hosts", (7,)),
        ("personalization", "cookie"),
        ("personalization", None),
        ("start_within", 0),
        ("start_within", float("nan")),
        ("start_within", float("inf")),
        ("start_within", "900"),
        ("start_within", 604_801),
        ("branch_id", ""),
        ("environment", 7),
    ],
)
def test_bad_options_are_named_at_once(option: str, value: Any) -> None:
    """What can be checked is checked when it is built, and the text begins with its name."""
    with pytest.raises(ConfigurationError, match=f"^{option}: "):
        XunaPlatform(KEY, **{option: value})


@pytest.mark.parametrize("url", ["ws://localhost:7880", "ws://127.0.0.1", "WSS://l.xuna.ai/p"])
async def test_livekit_urls_that_are_fine(url: str) -> None:
    """wss anywhere, ws on this machine; handed on as written."""
    answer = await issued(Remote([ok()]), grant("webrtc"), livekit_url=url)
    assert answer["session"]["livekitUrl"] == url


@pytest.mark.parametrize("given", [False, True])
async def test_the_relay_heeds_proxies_as_the_calls_do(
    given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the environment, unless a transport of the user's own replaces the network."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    platform = XunaPlatform(KEY, http_transport=httpx.AsyncHTTPTransport() if given else None)
    async with serve(SandboxPlatform()) as url:
        path = "/v1/convai/conversation?agent_id=a&conversation_signature=b"
        signed = SignedUrl(url=url.replace("http", "ws", 1) + path, agent="support")
        if given:
            line = await platform.connect(signed, max_frame=1024)
            await line.close(1000, "")
        else:
            with pytest.raises(PlatformError):
                await platform.connect(signed, max_frame=1024)
    await platform.aclose()
