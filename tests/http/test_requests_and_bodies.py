"""What a client may ask: methods, query and body, and everything else it might send instead."""

import json
from typing import Any, Final

import pytest
from support.doubles import (
    DENIAL,
    CountedPlatform,
    ask,
    bearer,
    exchange,
    http_scope,
    in_fast_time,
    knock,
    make_gate,
    one_response,
)
from support.signing import CANARY, RSA

from xuna_middleware import Agent

JSON: Final = (b"content-type", b"application/json")
TWO: Final = [Agent("support", id="agent_1"), Agent("sales", id="agent_2")]
OPEN: Final = [
    Agent(
        "support",
        id="agent_1",
        client_variables=("mood",),
        client_overrides=("agent.language",),
        dynamic_variables={"plan": "pro"},
    )
]


def signed_in(*further: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a good caller, and further ones."""
    return [*bearer(RSA.token()), *further]


METHODS: Final = (
    "HEAD",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "get",
    "QUERY",
    "",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("path", ["/get-signed-url", "/conversation-token"])
async def test_other_methods_issue_nothing(path: str, method: str) -> None:
    """405 with Allow; HEAD included, since it would issue what nobody can read."""
    platform = CountedPlatform()
    answer = await ask(make_gate(platform), path, method=method, headers=signed_in())
    assert answer.status == 405
    assert answer.header("allow") == "GET, POST"
    assert answer.header("cache-control") == "no-store"
    assert platform.requests == []


@pytest.mark.parametrize("path", ["/agents", "/readyz"])
async def test_reading_routes_take_get_alone(path: str) -> None:
    """They, too, name what they take."""
    answer = await ask(make_gate(), path, method="POST", headers=signed_in())
    assert answer.status == 405
    assert answer.header("allow") == "GET"


@pytest.mark.parametrize(
    "path",
    [
        *("/", "", "/x", "/get-signed-url/x", "//get-signed-url", "/get-signed-url//"),
        *("/./get-signed-url", "/x/../get-signed-url", "/GET-SIGNED-URL", "/get-signed-url;a=b"),
        *("/get-signed-url%2F", "/get%2Dsigned%2Durl", "\\get-signed-url", "/get-signed-url\\"),
        *("/get-signed-url\0", "/get-signed-url ", "/get_signed_url", "get-signed-url"),
        *("/get-signed-urlx", "/ get-signed-url", "/get-signed-url?agent=support"),
    ],
)
async def test_other_paths_are_404(path: str) -> None:
    """A route has one spelling (a slash at its end is let pass, since mounting adds one)."""
    platform = CountedPlatform()
    answer = await ask(make_gate(platform), path, headers=signed_in())
    assert answer.status == 404
    assert answer.json()["code"] == "not_found"
    assert platform.requests == []


async def test_agent_is_a_configured_name() -> None:
    """A platform id is never taken from a client; what is no name is a 404 without echo."""
    platform = CountedPlatform()
    gate = make_gate(platform, agents=TWO)
    for name in (b"agent_1", b"agent_2", b"SUPPORT", b"support%20", b"..%2Fx", b"%00"):
        answer = await ask(gate, query=b"agent=" + name, headers=signed_in())
        assert answer.status == 404, name
        assert answer.json()["code"] == "unknown_agent"
    assert (await ask(gate, query=b"agent=", headers=signed_in())).status == 400
    assert platform.requests == []
    assert (await ask(gate, query=b"agent=sales", headers=signed_in())).json()["agent"] == "sales"
    assert platform.requests[0].url.params["agent_id"] == "agent_2"


@pytest.mark.parametrize(
    "query",
    [
        *(b"", b"x=1", b"agent=support&agent=sales", b"agent=support&agent=support"),
        *(b"agent=\xff", b"agent=%FF", b"agent=%ED%A0%80", b"&".join([b"a=1"] * 65)),
        *(b"agent=support&%61gent=sales", b"Agent=support"),
    ],
    ids=lambda each: each[:24].decode("latin-1") or "empty",
)
async def test_agent_missing_or_repeated_is_a_400(query: bytes) -> None:
    """With several agents exactly one is named, once, decodably."""
    platform = CountedPlatform()
    answer = await ask(make_gate(platform, agents=TWO), query=query, headers=signed_in())
    assert answer.status == 400
    assert platform.requests == []


BODIES: Final[dict[str, tuple[Any, int]]] = {
    "empty": (b"", 200),
    "an empty object": (b"{}", 200),
    "agent": (b'{"agent":"support"}', 200),
    "agent null": (b'{"agent":null}', 200),
    "all null": (b'{"agent":null,"dynamic_variables":null,"overrides":null}', 200),
    "an open variable": (b'{"dynamic_variables":{"mood":"good"}}', 200),
    "an open override": (b'{"overrides":{"agent":{"language":"de"}}}', 200),
    "white space": (b' \n{ "agent" : "support" }\n', 200),
    "unknown agent": (b'{"agent":"x"}', 404),
    "an id": (b'{"agent":"agent_1"}', 404),
    "agent a number": (b'{"agent":1}', 400),
    "agent a list": (b'{"agent":["support"]}', 400),
    "agent_id": (b'{"agent_id":"agent_1"}', 400),
    "unknown member": (b'{"user":"boss"}', 400),
    "duplicate member": (b'{"agent":"support","agent":"support"}', 400),
    "duplicate variable": (b'{"dynamic_variables":{"mood":"a","mood":"b"}}', 400),
    "a list": (b"[]", 400),
    "null": (b"null", 400),
    "a text": (b'"agent"', 400),
    "cut off": (b'{"agent":"supp', 400),
    "a form": (b"agent=support", 400),
    "UTF-16": ('{"agent":"support"}'.encode("utf-16"), 400),
    "BOM": (b'\xef\xbb\xbf{"agent":"support"}', 400),
    "bad UTF-8": (b'{"agent":"\xff"}', 400),
    "lone surrogate": (b'{"dynamic_variables":{"mood":"\\ud800"}}', 400),
    "NUL": (b'{"dynamic_variables":{"mood":"\\u0000"}}', 400),
    "NaN": (b'{"dynamic_variables":{"mood":NaN}}', 400),
    "1e400": (b'{"dynamic_variables":{"mood":1e400}}', 400),
    "5,000 digits": (b'{"dynamic_variables":{"mood":' + b"9" * 5000 + b"}}", 400),
    "deep": (b'{"overrides":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, 400),
    "deep list": (b"[" * 60_000, 400),
    "a clash": (b'{"dynamic_variables":{"plan":"free"}}', 400),
    "a variable that is not open": (b'{"dynamic_variables":{"role":"boss"}}', 400),
    "system__": (b'{"dynamic_variables":{"system__time":"x"}}', 400),
    "secret__": (b'{"dynamic_variables":{"secret__key":"x"}}', 400),
    "a variable of a list": (b'{"dynamic_variables":{"mood":["a"]}}', 400),
    "a variable of null": (b'{"dynamic_variables":{"mood":null}}', 400),
    "variables a list": (b'{"dynamic_variables":[["mood","x"]]}', 400),
    "an override that is not open": (b'{"overrides":{"tts":{"voice_id":"x"}}}', 403),
    "a prompt": (b'{"overrides":{"agent":{"prompt":{"prompt":"obey"}}}}', 403),
    "a flat override": (b'{"overrides":{"agent.language":"de"}}', 403),
    "overrides a list": (b'{"overrides":[]}', 400),
    "64 KB and one": (b" " * (64 * 1024 + 1), 413),
    "a megabyte": (b" " * (1 << 20), 413),
    "a megabyte in pieces": ([b" " * 1000] * 1000, 413),
}


@pytest.mark.parametrize(("body", "status"), BODIES.values(), ids=BODIES.keys())
async def test_body(body: Any, status: int) -> None:
    """A small strict JSON object with three members that are known, or a refusal without echo."""
    platform = CountedPlatform()
    gate = make_gate(platform, agents=OPEN)
    answer = await ask(gate, method="POST", headers=signed_in(JSON), body=body)
    assert (answer.status, answer.body) == (status, answer.body)
    assert len(platform.requests) == (1 if status == 200 else 0)
    assert b"boss" not in answer.body


async def test_body_in_many_small_pieces() -> None:
    """How a body is cut makes no difference."""
    text = json.dumps({"agent": "support"}).encode()
    pieces = [bytes([octet]) for octet in text]
    answer = await ask(make_gate(), method="POST", headers=signed_in(JSON), body=pieces)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("length", "status"),
    [
        *((b"19", 200), (b"0", 200), (b"65536", 200), (b"65537", 413), (b"9" * 5000, 413)),
        *((b"-1", 400), (b"", 400), (b"x", 400), (b"1e3", 400), (b"+19", 400), (b"19,19", 400)),
        *((b" 19", 400), (b"0x13", 400), ("１９".encode(), 400), (b"\xb2", 400)),
    ],
)
async def test_declared_length(length: bytes, status: int) -> None:
    """A length that is too much is refused before the body; one that lies bounds nothing."""
    headers = signed_in(JSON, (b"content-length", length))
    answer = await ask(make_gate(), method="POST", headers=headers, body=b'{"agent":"support"}')
    assert answer.status == status


async def test_lying_length_does_not_lift_the_limit() -> None:
    """The bytes that come are counted, whatever was declared."""
    headers = signed_in(JSON, (b"content-length", b"10"))
    answer = await ask(make_gate(), method="POST", headers=headers, body=[b" " * 1000] * 1000)
    assert answer.status == 413


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        *((b"application/json", 200), (b"application/json; charset=utf-8", 200)),
        *((b"APPLICATION/JSON", 200), (b" application/json ;charset=utf-8", 200)),
        *((b"text/plain", 415), (b"application/x-www-form-urlencoded", 415), (b"", 415)),
        *((b"multipart/form-data; boundary=x", 415), (b"application/jsonx", 415)),
        *(
            (b"text/json", 415),
            (b"application/json, text/plain", 415),
            (b"application/ld+json", 415),
        ),
        (b"text/plain; application/json", 415),
    ],
)
async def test_body_must_say_that_it_is_json(media_type: bytes, status: int) -> None:
    """A page elsewhere can send a form or text without asking; JSON it can't."""
    headers = signed_in((b"content-type", media_type))
    answer = await ask(make_gate(), method="POST", headers=headers, body=b"{}")
    assert answer.status == status


async def test_body_without_or_with_two_media_types() -> None:
    """Neither says what it is."""
    for headers in (signed_in(), signed_in(JSON, JSON), signed_in(JSON, (b"content-type", b"x/y"))):
        assert (await ask(make_gate(), method="POST", headers=headers, body=b"{}")).status == 415


@pytest.mark.parametrize(
    "encoding", [b"gzip", b"deflate", b"br", b"zstd", b"GZIP", b"gzip, identity"]
)
async def test_compressed_body_is_a_415(encoding: bytes) -> None:
    """Nothing is unpacked, so no bomb can go off."""
    headers = signed_in(JSON, (b"content-encoding", encoding))
    answer = await ask(make_gate(), method="POST", headers=headers, body=b"\x1f\x8b\x08\x00")
    assert answer.status == 415


async def test_agent_in_query_and_body() -> None:
    """Either names it; both, even alike, are a 400."""
    platform = CountedPlatform()
    gate = make_gate(platform, agents=TWO)
    headers = signed_in(JSON)

    async def post(query: bytes, body: bytes) -> int:
        answer = await ask(gate, method="POST", headers=headers, query=query, body=body)
        return answer.status

    assert await post(b"agent=sales", b"{}") == 200
    assert await post(b"", b'{"agent":"sales"}') == 200
    assert await post(b"agent=sales", b'{"agent":"sales"}') == 400
    assert await post(b"agent=sales", b'{"agent":"support"}') == 400
    assert len(platform.requests) == 2


async def test_body_of_a_get_is_not_read() -> None:
    """A GET has no body that would count."""
    platform = CountedPlatform()
    answer = await ask(
        make_gate(platform), headers=signed_in(), body=b'{"dynamic_variables":{"x":1}}'
    )
    assert answer.status == 200
    assert "session" not in answer.json()


async def test_unauthenticated_body_is_not_read() -> None:
    """Who calls is decided before a byte of the body is waited for."""

    async def receive() -> Any:
        raise AssertionError("the body was read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = http_scope(method="POST", headers=[JSON])
    await make_gate()(scope, receive, send)
    assert one_response(sent).status == 401


async def test_client_that_leaves_gets_nothing() -> None:
    """A disconnect in the middle of the body: nothing is sent, nothing is issued."""
    platform = CountedPlatform()
    scope = http_scope(method="POST", headers=signed_in(JSON))
    for incoming in ([], [{"type": "http.request", "body": b'{"ag', "more_body": True}]):
        assert await exchange(make_gate(platform), scope, incoming) == []
    assert platform.requests == []


def test_slow_body_is_given_up_in_time() -> None:
    """A byte every other second: after ten seconds it is a 400, and nobody holds a place."""
    import asyncio

    async def story() -> tuple[int, float]:
        async def receive() -> Any:
            await asyncio.sleep(2)
            return {"type": "http.request", "body": b" ", "more_body": True}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        gate = make_gate()
        await gate(http_scope(method="POST", headers=signed_in(JSON)), receive, send)
        return one_response(sent).status, asyncio.get_running_loop().time()

    status, elapsed = in_fast_time(story())
    assert status in (400, 408)
    assert elapsed <= 10.5


async def test_odd_messages_from_a_server() -> None:
    """Members that the specification calls optional may be missing."""
    scope = http_scope(method="POST", headers=signed_in(JSON))
    sent = await exchange(make_gate(), scope, [{"type": "http.request"}])
    assert one_response(sent).status == 200
    scope = http_scope(headers=signed_in())
    for name in ("raw_path", "root_path", "client", "server", "scheme"):
        del scope[name]
    assert one_response(await exchange(make_gate(), scope, [])).status == 200


async def test_answer_says_nothing_about_the_caller() -> None:
    """A pass goes to the platform by the agent's id; who asked, XUNA AI is not told."""
    platform = CountedPlatform()
    token = RSA.token()
    answer = await ask(make_gate(platform), headers=signed_in((b"cookie", CANARY.encode())))
    assert set(answer.json()) <= {"signed_url", "transport", "agent", "start_by"}
    asked = platform.requests[0]
    rendered = f"{asked.url} {asked.headers!r} {asked.content!r}"
    assert token not in rendered
    assert "user-1" not in rendered
    assert "cookie" not in asked.headers


async def test_every_answer_is_private() -> None:
    """No cache keeps it, and no address travels on."""
    gate = make_gate()
    for path, headers in [
        ("/get-signed-url", signed_in()),
        ("/conversation-token", signed_in()),
        ("/agents", signed_in()),
        ("/readyz", []),
        ("/nothing", []),
        ("/get-signed-url", []),
    ]:
        answer = await ask(gate, path, headers=headers)
        assert answer.header("cache-control") == "no-store", path
        assert answer.header("referrer-policy") == "no-referrer", path


async def test_each_caller_gets_a_pass_of_their_own() -> None:
    """Nothing is cached, shared or coalesced: two requests are two calls, even at once."""
    import asyncio

    platform = CountedPlatform()
    gate = make_gate(platform)
    await asyncio.gather(*(ask(gate, headers=signed_in()) for _ in range(20)))
    assert len(platform.requests) == 20


@pytest.mark.parametrize("path", ["/get-signed-url", "/conversation-token", "/agents", "/x"])
async def test_websocket_at_an_http_route_is_denied(path: str) -> None:
    """No route takes a WebSocket yet."""
    platform = CountedPlatform()
    sent = await knock(make_gate(platform), path, headers=signed_in(), extensions=DENIAL)
    assert one_response(sent, "websocket.http.response").status == 404
    assert platform.requests == []
