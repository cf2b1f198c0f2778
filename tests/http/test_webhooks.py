"""The post-call webhook at the HTTP face: who may say something, and what it does."""

import asyncio
import hmac
import logging
from collections.abc import Callable
from typing import Any, Final

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp
from support.conversations import ME, Conversations, issue, left
from support.deliveries import HEADER, SECRET, signature, transcript
from support.doubles import (
    DENIAL,
    Answer,
    ask,
    bearer,
    echo_app,
    exchange,
    http_scope,
    in_fast_time,
    knock,
    one_response,
    seconds,
)
from support.signing import CANARY, NOW, RSA, good_claims

from xuna_middleware import (
    ConfigurationError,
    Event,
    MemoryStore,
    PostCallWebhook,
    TalkTime,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.stores import StoreError

WEBHOOK: Final = "/webhooks/post-call"
MEGABYTE: Final = 1024 * 1024


def hook(**options: Any) -> PostCallWebhook:
    return PostCallWebhook(**{"secret": SECRET, "clock": lambda: NOW, **options})


def gate_with(**options: Any) -> XunaGate:
    """Return a gate with an hour a day to talk, a minute at a time, and a webhook."""
    return Conversations().gate(TalkTime("1 hour/day"), **{"webhook": hook(), **options})


class Flaky(MemoryStore):
    """A store that fails at the verbs that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()

    async def settle(self, name: str, milliseconds: int) -> str | None:
        self._fail("settle")
        return await super().settle(name, milliseconds)

    async def put(self, *about: Any, **options: Any) -> bool:
        self._fail("put")
        return await super().put(*about, **options)

    def _fail(self, verb: str) -> None:
        if verb in self.failing:
            raise StoreError("the store does not answer")


def signed(body: bytes, *further: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a delivery that is the platform's."""
    return [(HEADER.encode(), signature(body).encode()), *further]


async def deliver(
    app: ASGIApp, body: bytes = transcript(), path: str = WEBHOOK, **scope: Any
) -> Answer:
    """Send a delivery, signed well unless `headers` are given."""
    return await ask(
        app, path, **{"method": "POST", "headers": signed(body), "body": body, **scope}
    )


async def test_settles_with_the_true_length() -> None:
    """A minute was reserved, seven seconds were talked: the rest is there again at once."""
    events: list[Event] = []
    gate = gate_with(on_event=[events.append])
    assert await issue(gate) == 200
    assert await left(gate) == [3540]
    answer = await deliver(gate)
    assert (answer.status, answer.json()) == (200, {"received": True})
    assert await left(gate) == [3593]
    told = [event for event in events if event.name in ("settled", "webhook_received")]
    assert [(e.name, e.conversation_id, e.seconds, e.cause) for e in told] == [
        ("settled", "conv_1", 7.0, None),
        ("webhook_received", "conv_1", 7.0, "settled"),
    ]


async def test_duplicate_is_a_200_without_effect() -> None:
    """The same again, signed anew, or with another length: the first one counts, once."""
    events: list[Event] = []
    gate = gate_with(on_event=[events.append])
    assert [await issue(gate), await issue(gate)] == [200, 200]
    again = transcript(seconds=59)
    later = [(HEADER.encode(), signature(transcript(), int(NOW) + 9).encode())]
    answers = [
        await deliver(gate),
        await deliver(gate),
        await deliver(gate, headers=later),
        await deliver(gate, again),
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(200, b'{"received":true}')}
    assert await left(gate) == [3600 - 60 - 7]
    causes = [event.cause for event in events if event.name == "webhook_received"]
    assert causes == ["settled", "a duplicate", "a duplicate", "a duplicate"]


def test_duplicates_are_known_for_61_minutes() -> None:
    """By any process that shares the store; nobody could send one later."""

    async def story() -> None:
        store, events = MemoryStore(monotonic=seconds), list[Event]()
        one, other = (gate_with(store=store, on_event=[events.append]) for _ in range(2))
        for gate, wait in [(one, 0), (other, 3659), (other, 2)]:
            await asyncio.sleep(wait)
            assert (await deliver(gate)).status == 200
        causes = [event.cause for event in events if event.name == "webhook_received"]
        assert causes == ["nothing to settle", "a duplicate", "nothing to settle"]

    in_fast_time(story())


async def test_store_that_was_down() -> None:
    """503, so that the platform sends again; then it has its effect, and only once."""
    store = Flaky()
    gate = gate_with(store=store)
    assert await issue(gate) == 200
    store.failing = {"settle", "put"}
    answer = await deliver(gate)
    assert (answer.status, answer.header("retry-after")) == (503, "5")
    store.failing = {"settle"}
    assert (await deliver(gate)).status == 503
    store.failing = set()
    assert (await deliver(gate)).status == 200
    assert await left(gate) == [3593]
    assert (await deliver(gate)).status == 200
    assert await left(gate) == [3593]


async def test_store_that_cannot_remember() -> None:
    """What was settled stays so, and the platform isn't asked for more."""
    store = Flaky()
    gate = gate_with(store=store)
    assert await issue(gate) == 200
    store.failing = {"put"}
    assert (await deliver(gate)).status == 200
    assert (await deliver(gate, transcript(seconds=0))).status == 200
    assert await left(gate) == [3593]


async def test_deliveries_at_once() -> None:
    """Twenty of the same, in two processes: one of them settles."""
    store, events = MemoryStore(), list[Event]()
    gates = [gate_with(store=store, on_event=[events.append]) for _ in range(2)]
    assert await issue(gates[0]) == 200
    answers = await asyncio.gather(*(deliver(gates[each % 2]) for each in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert [event.name for event in events].count("settled") == 1
    assert await left(gates[1]) == [3593]


async def test_settled_by_other_means_before() -> None:
    """Whoever comes first settles; the other does nothing."""
    gate = gate_with()
    assert await issue(gate) == 200
    assert await gate.settle("conv_1", 12)
    assert (await deliver(gate)).status == 200
    assert await left(gate) == [3588]


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "not a strict JSON object"),
        (b"{", "not a strict JSON object"),
        (transcript(type="post_call_audio"), "audio"),
        (transcript(type=f"{CANARY}_type"), "of an unknown type"),
        (transcript(data=[]), "without data"),
        (transcript(seconds="7"), "without the id or the length of a conversation"),
    ],
)
async def test_signed_and_without_effect(
    body: bytes, cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A 200, since the platform switches off webhooks that fail; the operator is told."""
    events: list[Event] = []
    gate = gate_with(on_event=[events.append])
    assert await issue(gate) == 200
    caplog.set_level(logging.INFO)
    answer = await deliver(gate, body)
    assert (answer.status, answer.body) == (200, b'{"received":true}')
    assert await left(gate) == [3540]
    assert [e.cause for e in events if e.name == "webhook_received"] == [cause]
    assert cause in caplog.text
    assert CANARY not in caplog.text


BODY: Final = transcript()
GOOD: Final = signature(BODY)
#: Headers and body of deliveries that aren't the platform's, and what the operator reads.
BAD: Final[dict[str, tuple[list[str], bytes, str]]] = {
    "none": ([], BODY, "webhook header"),
    "empty": ([""], BODY, "webhook header"),
    "two": ([GOOD, GOOD], BODY, "webhook header"),
    "two in one": ([f"{GOOD}, {GOOD}"], BODY, "webhook header"),
    "no time": ([GOOD.partition(",")[2]], BODY, "webhook header"),
    "no digest": ([GOOD.partition(",")[0]], BODY, "webhook header"),
    "another scheme": ([GOOD.replace("v0", "v1")], BODY, "webhook header"),
    "capitals": ([GOOD.upper()], BODY, "webhook header"),
    "long": (["t=1" + ",v0=" * 5000], BODY, "webhook header"),
    "no ASCII": ([GOOD + "é"], BODY, "webhook header"),
    "half an hour and a second ago": (
        [signature(BODY, int(NOW) - 1801)],
        BODY,
        "webhook time",
    ),
    "in half an hour and a second": ([signature(BODY, int(NOW) + 1801)], BODY, "webhook time"),
    "at no time of ours": ([signature(BODY, 999_999_999_999)], BODY, "webhook time"),
    "another secret": ([signature(BODY, secret="x" * 40)], BODY, "webhook signature"),
    "no secret": ([signature(BODY, secret="")], BODY, "webhook signature"),
    "another body": ([GOOD], transcript(seconds=0), "webhook signature"),
    "no body": ([GOOD], b"", "webhook signature"),
    "one octet more": ([GOOD], BODY + b"\n", "webhook signature"),
    "another time": ([GOOD.replace("t=18000000", "t=018000000")], BODY, "webhook signature"),
    "the body alone": (
        [f"t={int(NOW)},v0={hmac.new(SECRET.encode(), BODY, 'sha256').hexdigest()}"],
        BODY,
        "webhook signature",
    ),
    "no JSON either": ([signature(b"{", secret="x" * 40)], b"{", "webhook signature"),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_the_platform_did_not_sign(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """One identical 401, whatever is wrong, and nothing is settled; the log says what it was."""
    values, body, cause = BAD[name]
    events: list[Event] = []
    gate = gate_with(on_event=[events.append])
    assert await issue(gate) == 200
    headers = [(HEADER.encode(), value.encode("latin-1")) for value in values]
    answer = await deliver(gate, body, headers=headers)
    reference = answer.header("xuna-gate-ref")
    assert answer == unsigned_answer(reference)
    assert await left(gate) == [3540]
    assert f"refused 401 {reference}: {cause}: " in caplog.text
    assert [e.name for e in events if "webhook" in e.name] == []
    assert CANARY not in caplog.text + repr(events)


def unsigned_answer(reference: str | None) -> Answer:
    """Return the one answer to everything that the platform didn't sign."""
    body = (
        b'{"type":"about:blank","title":"Unauthorized","status":401,'
        b'"detail":"The signature is not accepted.","code":"invalid_signature"}'
    )
    headers = {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "www-authenticate": "HMAC",
        "xuna-gate-ref": str(reference),
        "content-length": str(len(body)),
        "content-type": "application/problem+json",
    }
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Answer(status=401, headers=encoded, body=body)


@pytest.mark.parametrize(("away", "status"), [(0, 200), (1800, 200), (1801, 401)])
@pytest.mark.parametrize("direction", [-1, 1])
async def test_window(direction: int, away: int, status: int) -> None:
    """Thirty minutes on both sides of now, to the second."""
    headers = [(HEADER.encode(), signature(BODY, int(NOW) + direction * away).encode())]
    assert (await deliver(gate_with(), headers=headers)).status == status


async def test_rotation() -> None:
    """Both secrets verify while one replaces the other; a third does not."""
    gate = gate_with(webhook=hook(secret=["the-new-secret-of-ours", SECRET]))
    for secret, status in [(SECRET, 200), ("the-new-secret-of-ours", 200), ("x" * 40, 401)]:
        headers = [(HEADER.encode(), signature(BODY, secret=secret).encode())]
        assert (await deliver(gate, headers=headers)).status == status


async def test_header_of_another_name() -> None:
    """The one that was said, in any case of letters, and no other."""
    gate = gate_with(webhook=hook(header="XUNA-Signature"))
    for name, status in [
        (b"xuna-signature", 200),
        (b"Xuna-Signature", 200),
        (b"elevenlabs-signature", 401),
    ]:
        assert (await deliver(gate, headers=[(name.lower(), GOOD.encode())])).status == status


def padded(size: int) -> bytes:
    """Return a good body of so many octets."""
    body = transcript()
    return body[:-1] + b" " * (size - len(body)) + b"}"


@pytest.mark.parametrize(("size", "status"), [(MEGABYTE, 200), (MEGABYTE + 1, 413)])
@pytest.mark.parametrize("declared", ["rightly", "not", "too little"])
async def test_a_megabyte(size: int, status: int, declared: str) -> None:
    """Counted as it comes, in pieces, whatever was declared."""
    body = padded(size)
    length = {"rightly": str(size), "not": None, "too little": "10"}[declared]
    further = [] if length is None else [(b"content-length", length.encode())]
    pieces = [body[start : start + 65_536] for start in range(0, size, 65_536)]
    gate = gate_with()
    assert await issue(gate) == 200
    headers = signed(body, *further)
    answer = await ask(gate, WEBHOOK, method="POST", headers=headers, body=pieces)
    assert answer.status == status
    assert await left(gate) == [3593 if status == 200 else 3540]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ((b"content-length", b"1048577"), 413),
        ((b"content-length", b"-1"), 400),
        ((b"content-encoding", b"gzip"), 415),
        ((b"content-type", b"text/plain"), 200),
    ],
)
async def test_headers_of_the_body(header: tuple[bytes, bytes], status: int) -> None:
    """Lengths that can't be, and compression, are refused; what it says to be doesn't matter."""
    assert (await deliver(gate_with(), headers=signed(BODY, header))).status == status


def test_slow_body_is_given_up_in_time() -> None:
    """After ten seconds it is a 400, and nobody holds a place."""

    async def story() -> tuple[int, float]:
        async def receive() -> Any:
            await asyncio.sleep(2)
            return {"type": "http.request", "body": b" ", "more_body": True}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = http_scope(WEBHOOK, method="POST", headers=signed(BODY))
        await gate_with()(scope, receive, send)
        return one_response(sent).status, seconds()

    status, elapsed = in_fast_time(story())
    assert status == 400
    assert elapsed <= 10.5


@pytest.mark.parametrize("value", [None, "t=1", signature(BODY, int(NOW) - 1801)])
async def test_body_of_a_bad_header_is_not_read(value: str | None) -> None:
    """What the header alone shows is refused before a byte is waited for."""

    async def receive() -> Any:
        raise AssertionError("the body was read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if value is None else [(HEADER.encode(), value.encode())]
    await gate_with()(http_scope(WEBHOOK, method="POST", headers=headers), receive, send)
    assert one_response(sent).status == 401


async def test_client_that_leaves_gets_nothing() -> None:
    """In the middle of the body: nothing is sent, nothing is settled."""
    gate = gate_with()
    assert await issue(gate) == 200
    scope = http_scope(WEBHOOK, method="POST", headers=signed(BODY))
    half = {"type": "http.request", "body": BODY[:99], "more_body": True}
    assert await exchange(gate, scope, [half]) == []
    assert await left(gate) == [3540]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post"])
async def test_other_methods(method: str) -> None:
    """405 with what is served, however well it is signed."""
    answer = await deliver(gate_with(), method=method)
    assert (answer.status, answer.header("allow")) == (405, "POST")


async def test_no_websocket_there() -> None:
    """It is an HTTP route."""
    sent = await knock(gate_with(), WEBHOOK, headers=signed(BODY), extensions=DENIAL)
    assert one_response(sent, "websocket.http.response").status == 404


async def test_gate_without_a_webhook() -> None:
    """The path is unknown like any other."""
    gate = Conversations().gate()
    answers = [await deliver(gate), await deliver(gate, path="/webhooks/post-calls")]
    assert {(answer.status, answer.body) for answer in answers} == {(404, answers[1].body)}
    assert (await ask(gate, WEBHOOK)).status == 404


async def test_callers_credentials_do_not_matter() -> None:
    """Neither good ones nor bad ones, nor from which site it is sent."""
    gate = gate_with()
    for further in [
        bearer(RSA.token(good_claims(**ME))),
        bearer("no.good.token"),
        [(b"origin", b"https://elsewhere.example"), (b"sec-fetch-site", b"cross-site")],
    ]:
        assert (await deliver(gate, headers=signed(BODY, *further))).status == 200
        answer = await deliver(gate, headers=further)
        assert answer == unsigned_answer(answer.header("xuna-gate-ref"))


PLACES: Final[dict[str, tuple[Callable[[XunaGate], ASGIApp], str]]] = {
    "beneath a prefix": (lambda gate: XunaMiddleware(echo_app, gate), f"/xuna{WEBHOOK}"),
    "at the root": (lambda gate: XunaMiddleware(echo_app, gate, prefix=""), WEBHOOK),
    "at a root that is protected": (
        lambda gate: XunaMiddleware(echo_app, gate, prefix="", protect=["/"]),
        WEBHOOK,
    ),
    "mounted": (lambda gate: Starlette(routes=[Mount("/voice", gate)]), f"/voice{WEBHOOK}"),
    "with a slash at its end": (lambda gate: gate, f"{WEBHOOK}/"),
}


@pytest.mark.parametrize("place", PLACES)
async def test_wherever_the_gate_is(place: str) -> None:
    """Wrapped with a prefix or without, mounted, or alone."""
    put, path = PLACES[place]
    gate = gate_with()
    app = put(gate)
    assert await issue(gate) == 200
    assert (await deliver(app, headers=[], path=path)).status == 401
    assert (await deliver(app, path=path)).status == 200
    assert await left(gate) == [3593]


async def test_gate_at_the_root_claims_no_more_than_it_serves() -> None:
    """Without a webhook, and beside its path, the app answers."""
    without = XunaMiddleware(echo_app, Conversations().gate(), prefix="")
    beside = XunaMiddleware(echo_app, gate_with(), prefix="")
    assert (await deliver(without)).body == b"the app"
    for path in ("/webhooks", "/webhooks/", "/webhooks/post-call/x", "/webhooks/post-calls"):
        assert (await deliver(beside, path=path)).body == b"the app"


async def test_gate_without_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It doesn't start with a lifespan; without one it isn't ready, says so, and answers 503."""
    monkeypatch.delenv("XUNA_AI_WEBHOOK_SECRET", raising=False)
    gate = gate_with(webhook=PostCallWebhook(clock=lambda: NOW))
    with pytest.raises(ConfigurationError, match="XUNA_AI_WEBHOOK_SECRET"):
        await gate.__aenter__()
    assert (await ask(gate, "/readyz")).json() == {"ready": False, "missing": ["webhook"]}
    assert (await deliver(gate)).status == 503
    assert "XUNA_AI_WEBHOOK_SECRET" in caplog.text
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    monkeypatch.setenv("XUNA_AI_WEBHOOK_SECRET", SECRET)
    async with gate:
        assert (await ask(gate, "/readyz")).status == 200
        assert (await deliver(gate)).status == 200


@pytest.mark.parametrize("webhook", [SECRET, PostCallWebhook, True, {}])
def test_what_is_no_webhook(webhook: Any) -> None:
    """A secret alone says not what it is for."""
    with pytest.raises(ConfigurationError, match="PostCallWebhook") as caught:
        gate_with(webhook=webhook)
    assert CANARY not in str(caught.value)


async def test_overridden() -> None:
    """In tests another secret serves for a while; a gate without a webhook gets none by it."""
    gate, without = gate_with(), Conversations().gate()
    other = [(HEADER.encode(), signature(BODY, secret="x" * 40).encode())]
    with gate.overridden(webhook=hook(secret="x" * 40)):
        assert (await deliver(gate, headers=other)).status == 200
        assert (await deliver(gate)).status == 401
    assert (await deliver(gate)).status == 200
    with without.overridden(webhook=hook()):
        assert without.webhook is None
        assert (await deliver(without)).status == 404


async def test_no_secret_shows(caplog: pytest.LogCaptureFixture) -> None:
    """In no answer, event or line of the log, whatever is sent; nor in a repr of the gate."""
    caplog.set_level(logging.DEBUG)
    events: list[Event] = []
    gate = gate_with(on_event=[events.append])
    answers = [await deliver(gate)]
    for values, body, _ in BAD.values():
        headers = [(HEADER.encode(), value.encode("latin-1")) for value in values]
        answers.append(await deliver(gate, body, headers=headers))
    assert [answer.status for answer in answers] == [200, *[401] * len(BAD)]
    shown = f"{answers!r} {events!r} {gate!r} {gate.webhook!r} {vars(gate.webhook)!r}"
    assert CANARY not in shown + caplog.text
    assert GOOD[-64:] not in shown + caplog.text
