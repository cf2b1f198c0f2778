"""What costs too much to read is refused before it is read; what is large and honest is read.

No test here measures time: `python -m benchmarks.readers` does.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection
from support.conversations import Conversations, issue, left
from support.deliveries import HEADER, signature, transcript
from support.doubles import (
    CHALLENGE,
    DENIAL,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    http_scope,
    knock,
    make_gate,
    one_response,
)
from support.signing import KEYS, NOW, RSA, b64, good_claims, rsa_signer
from test_hostile_key_sets import KEYS_URL, METADATA, METADATA_URL
from test_hostile_key_sets import Provider as KeyProvider
from test_opaque_tokens import ANSWER, GOOD
from test_opaque_tokens import Provider as OpaqueProvider
from test_visitors import COOKIE, open_gate, ticket_of, visit

from xuna_middleware import Event, Limit, PostCallWebhook, TalkTime, XunaMiddleware
from xuna_middleware._core.query import values_of
from xuna_middleware._core.strict_json import (
    DOCUMENT,
    SMALL,
    StrictJSONError,
    is_beyond,
    strict_object,
)
from xuna_middleware.errors import InvalidRequestError
from xuna_middleware.identity.client_address import client_address
from xuna_middleware.identity.jwt._jose import JOSEError, import_key
from xuna_middleware.identity.keys import jwks as keysets
from xuna_middleware.identity.proxies.trusted import TrustedProxies

JSON: Final = (b"content-type", b"application/json")
#: Members that cost more than they weigh; each would fit into the reader's bytes.
HEAVY: Final[Mapping[str, Any]] = {
    "objects": [{}] * 1_001,
    "lists": [[]] * 1_001,
    "values": [0] * 4_001,
    "digits": 10**64,
    "depth": json.loads("[" * 40 + "]" * 40),
}
heavy = pytest.mark.parametrize("name", HEAVY)


@pytest.mark.parametrize("name", sorted(HEAVY.keys() - {"values"}))
async def test_token(name: str) -> None:
    """The one 401, though it is signed well; many groups and many clients' roles are good.

    4,000 values need more than the 16 KB of a header.
    """
    platform = CountedPlatform()
    gate = make_gate(platform)
    answer = await ask(gate, headers=bearer(RSA.token(good_claims(x=HEAVY[name]))))
    assert (answer.status, answer.header("www-authenticate")) == (401, CHALLENGE)
    assert platform.requests == []
    groups = [f"group-{number}" for number in range(700)]
    nested = {f"c{number}": {"roles": ["a"]} for number in range(200)}
    good = RSA.token(good_claims(groups=groups[:500], resource_access=nested))
    assert (await ask(gate, headers=bearer(good))).status == 200


@pytest.mark.parametrize("name", sorted(HEAVY.keys() - {"values"}))
async def test_header_of_a_token(name: str) -> None:
    """Where a header has room for it."""
    answer = await ask(make_gate(), headers=bearer(RSA.token(header=RSA.header(x=HEAVY[name]))))
    assert answer.status == 401


@heavy
async def test_body(name: str) -> None:
    """A 400 in fixed words; nothing is issued."""
    platform = CountedPlatform()
    body = json.dumps({"dynamic_variables": {"x": HEAVY[name]}}).encode()
    answer = await ask(
        make_gate(platform),
        method="POST",
        headers=[*bearer(RSA.token()), JSON],
        body=body,
    )
    assert (answer.status, answer.json()["code"]) == (400, "invalid_request")
    assert platform.requests == []


@heavy
@pytest.mark.parametrize("url", [METADATA_URL, KEYS_URL])
async def test_documents_of_a_provider(url: str, name: str) -> None:
    """No keys: 503. Once there is a good set it serves on."""
    provider = KeyProvider()
    good = provider.documents[url]
    provider.documents[url] = {**good, "x": HEAVY[name]}
    async with provider.gate(CountedPlatform()) as gate:
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 503
    provider.documents[url] = good
    async with provider.gate(CountedPlatform()) as gate:
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 200
        provider.documents[url] = {**good, "x": HEAVY[name]}
        unknown = rsa_signer("unknown").token()
        assert (await ask(gate, headers=bearer(unknown))).status in (401, 503)
        later = RSA.token(good_claims(jti="another"))
        assert (await ask(gate, headers=bearer(later))).status == 200


async def test_honest_documents_of_a_provider() -> None:
    """A hundred keys with certificates, slashes escaped as PHP does it; long metadata."""
    chain = ["MIIBkTCB+wIJ" * 130 + "/" * 26] * 2
    filler = [
        {"kty": "RSA", "kid": f"k{n}", "n": "A", "e": "AQAB", "use": "sig", "x5c": chain}
        for n in range(90)
    ]
    provider = KeyProvider()
    provider.documents[KEYS_URL] = {"keys": [*KEYS["keys"], *filler]}
    provider.documents[METADATA_URL] = {**METADATA, "claims_supported": ["claim"] * 900}
    provider.spoilt[KEYS_URL] = lambda body: httpx.Response(200, content=body.replace(b"/", b"\\/"))
    async with provider.gate(CountedPlatform()) as gate:
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 200


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "RSA", "n": "A" * 400_000 + "E", "e": "AQAB"},
        {"kty": "RSA", "n": b64(b"\xff" * 256), "e": "A" * 400_000 + "E"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 250_000, "y": "A" * 250_000},
        {"kty": "OKP", "crv": "Ed25519", "x": "A" * 400_000},
    ],
    ids=["modulus", "exponent", "point", "Ed25519"],
)
async def test_key_with_a_huge_member(jwk: dict[str, Any]) -> None:
    """It is looked at no further, and costs only itself."""
    with pytest.raises(JOSEError, match="too long"):
        import_key(jwk)
    provider = KeyProvider()
    provider.documents[KEYS_URL] = {"keys": [*KEYS["keys"], {**jwk, "kid": "huge"}]}
    async with provider.gate(CountedPlatform()) as gate:
        assert (await ask(gate, headers=bearer(RSA.token()))).status == 200


def test_largest_key_is_imported() -> None:
    """8192 bits fit."""
    assert import_key({"kty": "RSA", "n": b64(b"\xff" * 1024), "e": "AQAB"}).algorithms


async def test_other_callers_are_served_while_a_large_set_is_read() -> None:
    """Each key is imported in a turn of the event loop of its own."""
    turns = 0

    def imported(member: Any) -> Any:
        asyncio.get_running_loop().call_soon(count)
        return original(member)

    def count() -> None:
        nonlocal turns
        turns += 1

    original = keysets.import_member
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keysets, "import_member", imported)
        await keysets.read_fetched_key_set({"keys": [dict(RSA.jwk, kid=str(n)) for n in range(9)]})
    assert turns == 9


@heavy
async def test_answer_about_an_opaque_token(name: str) -> None:
    """503: the provider is broken, and nobody gets in."""
    provider = OpaqueProvider()
    provider.tokens[GOOD] = {**ANSWER, "x": HEAVY[name]}
    assert (await ask(provider.front(), headers=bearer(GOOD))).status == 503


def transcript_of(turns: int, **further: Any) -> bytes:
    """Return a delivery as the platform sends one, of so many turns."""
    told = json.loads(transcript())
    turn: dict[str, Any] = {
        "role": "agent",
        "message": "Certainly, I can help you with that; one moment, please [pause], thank you.",
        "tool_calls": [],
        "tool_results": [],
        "feedback": None,
        "time_in_call_secs": 12,
        "conversation_turn_metrics": {"metrics": {"ttfb": {"elapsed_time": 0.36123}}},
        "llm_usage": {
            "model_usage": {
                "gemini-2.0-flash-001": {
                    part: {"tokens": 1734, "price": 0.00017340000000000001}
                    for part in ("input", "input_cache_read", "input_cache_write", "output_total")
                }
            }
        },
        **dict.fromkeys(
            ("llm_override", "rag_retrieval_info", "original_message", "source_medium")
        ),
        "agent_metadata": {"agent_id": "agent_7101k5zvyjhmfg983brhmhkd98n6", "branch_id": None},
    }
    told["data"]["transcript"] = [turn] * turns
    return json.dumps({**told, **further}).encode()


async def _delivered(body: bytes) -> tuple[list[int], list[str | None]]:
    events: list[Event] = []
    hook = PostCallWebhook(secret="w" * 32, clock=lambda: NOW)
    gate = Conversations().gate(TalkTime("1 hour/day"), webhook=hook, on_event=[events.append])
    assert await issue(gate) == 200
    headers = [(HEADER.encode(), signature(body, secret="w" * 32).encode())]
    answer = await ask(gate, "/webhooks/post-call", method="POST", headers=headers, body=body)
    assert answer.status == 200
    told = [event.cause for event in events if event.name == "webhook_received"]
    return await left(gate), told


async def test_long_transcript_settles() -> None:
    """Of nearly a megabyte: it is read beside the event loop."""
    body = transcript_of(1_300)
    assert 900_000 < len(body) < 1024 * 1024
    assert await _delivered(body) == ([3593], ["settled"])


async def test_transcript_that_costs_too_much() -> None:
    """It has no effect, and says so."""
    body = transcript_of(1, x=[{}] * 30_001)
    assert await _delivered(body) == ([3540], ["not a strict JSON object"])


async def test_long_query_on_the_gates_routes() -> None:
    """400; a page of ours has no use for more than 4 KB."""
    for query, status in ((b"agent=support&x=" + b"%" * 4_000, 200), (b"a" * 4_097, 400)):
        answer = await ask(make_gate(), headers=bearer(RSA.token()), query=query)
        assert answer.status == status


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (b"a=%41&" * 9_000, 200),
        (b"%" * 60_000, 200),
        (b"q=access_token&" * 4_000, 200),
        (b"a=%41&" * 9_000 + b"access_token=x", 400),
        (b"%61ccess%5ftoken=x&" + b"a&" * 30_000, 400),
        (b"a&" * 30_000 + b"access%5Ftoke%6e", 400),
    ],
)
async def test_long_query_of_the_app(query: bytes, status: int) -> None:
    """It is the app's own, as long as it likes; a second token in it is found all the same."""
    app = XunaMiddleware(echo_app, make_gate(), protect=["/api"])
    answer = await ask(app, "/api/things", headers=bearer(RSA.token()), query=query)
    assert answer.status == status


PARTS: Final = st.sampled_from(
    [
        *(
            "ticket",
            "%74icket",
            "tic%6Bet",
            "tic%6bet",
            "Ticket",
            "t",
            "",
            "=",
            "&",
            "&&",
            ";",
            "t%74",
        ),
        *("xgt_abc", "%", "%4", "%41", "+", "%26", "%3D", "\xe4", "%c3%a4", "%ff", "=x", "ticket="),
    ]
)


@given(st.lists(PARTS, max_size=8).map("".join))
def test_queries_are_read_as_parse_qsl_reads_them(query: str) -> None:
    """In every spelling of the name; nothing else is decoded."""
    raw = query.encode("latin-1")
    pairs = parse_qsl(query, keep_blank_values=True)
    assert values_of(raw, "ticket") == [value for name, value in pairs if name == "ticket"]


async def test_hops_without_end() -> None:
    """The last 32 are read; whoever wrote thousands of trusted ones counts as one of them."""
    proxies = TrustedProxies(("10.0.0.0/8", "127.0.0.1"))

    def seen(value: bytes) -> str | None:
        headers = [(b"x-forwarded-for", value)]
        return client_address({"client": ("127.0.0.1", 1), "headers": headers}, proxies)

    assert seen(b"192.0.2.7" + b", 10.0.0.1" * 31) == "192.0.2.7"
    assert seen(b"192.0.2.7" + b", 10.0.0.1" * 32) == "10.0.0.1"
    assert seen(b"192.0.2.7" + b", 10.0.0.1" * 6_000) == "10.0.0.1"
    assert seen(b",".join([b"192.0.2.7"] * 6_000)) == "192.0.2.7"


async def test_hops_without_end_at_the_face() -> None:
    """One budget for all of them: a long header is no way to a new address."""
    gate = make_gate(
        limits=[Limit("1/day", per="address")], trusted_proxies=("127.0.0.1", "10.0.0.0/8")
    )
    answers = []
    for first in (b"192.0.2.1", b"192.0.2.2"):
        hops = (b"x-forwarded-for", first + b",10.0.0.1" * 6_000)
        answers.append((await ask(gate, headers=[*bearer(RSA.token()), hops])).status)
    assert answers == [200, 429]


async def test_cookies_are_not_unquoted() -> None:
    """What undoes the quotes takes seconds for 64 KB of backslashes; a ticket has none."""
    gate = open_gate()
    ticket = ticket_of(await visit(gate))
    quoted = await visit(gate, f'"{ticket}"')
    assert ticket_of(quoted) != ticket, "somebody new"
    octal = '"' + "".join(f"\\{ord(letter):03o}" for letter in ticket) + '"'
    assert ticket_of(await visit(gate, octal)) != ticket


@pytest.mark.parametrize(
    "header",
    [
        "{0}={1}",
        "a=b;{0}={1}",
        "a=b; {0}={1} ; c=d",
        "{0}=x; {0}={1}",
        "x{0}=x; {0}={1}",
        'a="' + "\\" * 16_000 + '"; {0}={1}',
        ";" * 16_000 + "{0}={1}",
    ],
)
async def test_ticket_is_found_among_other_cookies(header: str) -> None:
    """Whatever else the browser sends."""
    gate = open_gate()
    ticket = ticket_of(await visit(gate))
    cookies = header.replace("{0}", COOKIE).replace("{1}", ticket).encode()
    again = await visit(gate, headers=[(b"cookie", cookies)])
    assert again.status == 200
    assert again.header("Xuna-Visitor") is None, "they know already"


async def test_cookies_without_end() -> None:
    """More than 16 KiB of cookies, in however many fields, are not searched."""
    gate = open_gate()
    cookie = f"{COOKIE}={ticket_of(await visit(gate))}".encode()
    for size, fields, is_known in ((8_000, 2, True), (8_200, 2, False), (17_000, 1, False)):
        others = [(b"cookie", b";" * size)] * (fields - 1)
        last = b";" * (size - len(cookie)) + cookie
        again = await visit(gate, headers=[*others, (b"cookie", last)])
        assert (again.header("Xuna-Visitor") is None) is is_known, size


#: Header fields beside four more of each request below, and whether they are too many or too large.
FIELDS: Final[Mapping[str, tuple[list[tuple[bytes, bytes]], bool]]] = {
    "200": ([(b"a", b"")] * 200, False),
    "257": ([(b"a", b"")] * 257, True),
    "16,000": ([(b"a", b"")] * 16_000, True),
    "60 KiB": ([(b"a", b"b" * 61_440)], False),
    "64 KiB in one": ([(b"a", b"b" * 65_536)], True),
    "64 KiB in all": ([(b"a" * 300, b"b" * 300)] * 110, True),
    "a megabyte of a token": ([(b"authorization", b"Bearer " + b"x" * 1_000_000)], True),
}


@pytest.mark.parametrize("fields", FIELDS)
async def test_header_fields_without_end(fields: str) -> None:
    """431 before any of them is read, for strangers and callers, on each way to the gate."""
    sent, is_refused = FIELDS[fields]
    events: list[Event] = []
    gate = make_gate(
        public_url="https://app.test/xuna",
        cors_origins=["https://page.test"],
        on_event=[events.append],
    )
    app = XunaMiddleware(echo_app, gate, protect=["/api"])
    token = bearer(RSA.token())
    preflight = [(b"origin", b"https://page.test"), (b"access-control-request-method", b"GET")]
    for path, method, headers, status in (
        ("/xuna/get-signed-url", "GET", token, 200),
        ("/xuna/get-signed-url", "GET", [], 401),
        ("/xuna/agents", "GET", token, 200),
        ("/xuna/nothing", "GET", [], 404),
        ("/xuna/agents", "OPTIONS", preflight, 200),
        ("/api/x", "GET", token, 200),
        ("/api/x", "OPTIONS", preflight, 204),
        ("/other", "GET", [], 200),
    ):
        answer = await ask(app, path, method=method, headers=[*headers, *sent])
        if not is_refused or path == "/other":
            assert answer.status == status, path
            continue
        assert answer.status == 431, path
        assert answer.json()["code"] == "headers_too_large"
        assert answer.header("Access-Control-Allow-Origin") is None
        assert events[-1].code == "headers_too_large"


@pytest.mark.parametrize("fields", FIELDS)
async def test_header_fields_without_end_elsewhere(fields: str) -> None:
    """Where a route of the app's asks who it is, and where a WebSocket is opened."""
    sent, is_refused = FIELDS[fields]
    gate = make_gate()
    request = HTTPConnection(http_scope("/mine", headers=[*bearer(RSA.token()), *sent]))
    if is_refused:
        with pytest.raises(InvalidRequestError) as refused:
            await gate.identity(request)
        assert refused.value.status_code == 431
    else:
        assert (await gate.identity(request)).subject == "user-1"
    opened = await knock(gate, "/conversation", headers=sent, extensions=DENIAL)
    assert one_response(opened, "websocket.http.response").status == (431 if is_refused else 401)


@pytest.mark.parametrize("header", ["x{0}={1}", "a={0}={1}", "{0} ={1}", "a=b,{0}={1}"])
async def test_what_is_another_cookie(header: str) -> None:
    """Its name is another's, or part of a value."""
    gate = open_gate()
    ticket = ticket_of(await visit(gate))
    cookies = header.replace("{0}", COOKIE).replace("{1}", ticket).encode()
    assert (await visit(gate, headers=[(b"cookie", cookies)])).header("Xuna-Visitor") is not None


#: Pieces of JSON: what opens, parts and closes, and strings that hold all of it.
TOKENS: Final = st.sampled_from(
    [
        *"{}[],:",
        '"',
        '""',
        '"{[,"',
        '"\\\\"',
        '"\\""',
        '"\\\\\\""',
        "0",
        "1.5",
        "null",
        "\\",
        "\\u00e4",
    ]
)


@given(st.lists(TOKENS, max_size=40).map("".join))
def test_count_is_never_too_low(text: str) -> None:
    """Of what the parser makes: else a text could hold more than the bounds say."""
    raw = text.encode()
    containers = values = 0

    def counted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal containers, values
        containers, values = containers + 1, values + len(pairs)
        return dict(pairs)

    try:
        value = json.loads(raw, object_pairs_hook=counted)
    except ValueError:
        return
    lists = list(_lists(value))
    containers, values = containers + len(lists), values + 1 + sum(map(len, lists))
    assert containers == 0 or is_beyond(raw, SMALL._replace(containers=containers - 1))
    assert not is_beyond(raw, SMALL._replace(containers=containers, values=2 * values + 2))
    assert values <= 1 or is_beyond(raw, SMALL._replace(values=values // 2 - 1))


def _lists(value: Any) -> Any:
    if isinstance(value, list):
        yield value
    for child in (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    ):
        yield from _lists(child)


@pytest.mark.parametrize(
    ("raw", "is_read"),
    [
        (b'{"a":"' + b"[{," * 20_000 + b'"}', True),
        (b'{"a":"' + b'\\",[' * 16_000 + b'"}', True),
        (b'{"a":"\\\\","b":[' + b"0," * 3_990 + b"0]}", True),
        (b'{"a":"\\\\","b":[' + b"0," * 4_010 + b"0]}", False),
        (b'{"a":"\\\\\\"","b":[' + b"0," * 4_010 + b"0]}", False),
        (b'{"a":"' + b"," * 5_000 + b'","b":[' + b'"",' * 4_010 + b'""]}', False),
        (b'{"a":"' + b"," * 5_000 + b'","b":[' + b'"",' * 3_900 + b'""]}', True),
        (b'{"a":-2.2250738585072014e-308}', True),
        (b'{"a":1.' + b"1" * 38 + b"}", True),
        (b'{"a":1.' + b"1" * 39 + b"}", False),
        (b'{"a":1.' + b"1" * 20 + b"e-30}", True),
        (b'{"a":1.' + b"1" * 21 + b"E-300}", False),
        (b'{"a":' + b"1" * 64 + b"}", True),
        (b'{"a":' + b"1" * 65 + b"}", False),
        (b'{"a":' + b" " * 65_000 + b"1}", True),
        (b'{"a":' + b" " * 65_536 + b"1}", False),
    ],
)
def test_bounds_of_the_reader(raw: bytes, is_read: bool) -> None:
    """What stands in strings is text; an escaped quote ends none."""
    try:
        strict_object(raw)
    except StrictJSONError:
        assert not is_read
    else:
        assert is_read


@pytest.mark.parametrize(
    ("text", "is_read"),
    [
        ('"\\ud83d\\ude00"', True),
        ('"\\uD83D\\uDE00\\ud83d\\ude00"', True),
        ('"\\\\ud83d"', True),
        ('"\\\\\\\\u0000"', True),
        ('"\\\\u0000"', True),
        ('"\\u0000"', False),
        ('"\\\\\\u0000"', False),
        ('"\\ud83d"', False),
        ('"\\ude00\\ud83d"', False),
        ('"\\ud83dx\\ude00"', False),
        ('"\\ud83d\\\\ude00"', False),
        ('"\\ud83d\\\\\\ude00"', False),
        ('"\\ud83d\\ude00\\ude00"', False),
        ('{"\\udead":1}', False),
    ],
)
def test_escapes(text: str, is_read: bool) -> None:
    """Pairs of surrogates, escaped backslashes, and what only looks like either."""
    raw = f'{{"a":{text}}}'.encode()
    if is_read:
        assert strict_object(raw) == json.loads(raw)
    else:
        with pytest.raises(StrictJSONError):
            strict_object(raw)


ESCAPES: Final = st.sampled_from(
    [*("\\u0000", "\\\\", "\\ud83d", "\\ude00", "\\uD800", "u0000", "ud83d", "\\n", "x", "\\u00e4")]
)


@given(st.lists(ESCAPES, max_size=8).map("".join))
def test_escapes_as_the_value_has_them(text: str) -> None:
    """Refused is exactly what makes a NUL or has no UTF-8."""
    raw = f'{{"a":"{text}"}}'.encode()
    value = json.loads(raw)["a"]
    is_odd = "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)
    try:
        assert strict_object(raw) == {"a": value}
        assert not is_odd
    except StrictJSONError:
        assert is_odd


def test_documents_have_more_room() -> None:
    """For certificates, not for members."""
    raw = b'{"a":"' + b"A" * 500_000 + b'"}'
    assert strict_object(raw, DOCUMENT)
    for more in (b'{"a":[' + b"{}," * 1_001 + b"0]}", b'{"a":"' + b"\\/" * 17_000 + b'"}'):
        with pytest.raises(StrictJSONError):
            strict_object(more, DOCUMENT)
