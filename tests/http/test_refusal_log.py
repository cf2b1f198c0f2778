"""Refusals explain themselves to the operator, and to nobody else: log lines and events."""

import logging
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from starlette.requests import HTTPConnection
from support.bad_tokens import Make
from support.doubles import (
    API_KEY,
    SIGNED_URL,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    http_scope,
    make_gate,
    make_verifier,
)
from support.signing import CANARY, LEFT_OUT, NOW, RSA, b64, compact, good_claims, rsa_signer

from xuna_middleware import (
    AccessDeniedError,
    Agent,
    Event,
    GateError,
    Identity,
    InvalidTokenError,
    XunaMiddleware,
    deny,
    require_scopes,
)
from xuna_middleware.errors import NotAuthenticatedError
from xuna_middleware.events import Events
from xuna_middleware.web.refusals import Attempt, Refusals

JSON: Final = (b"content-type", b"application/json")
OPEN: Final = [
    Agent("support", id="agent_1", client_variables=("mood",), dynamic_variables={"plan": CANARY})
]


@pytest.fixture(autouse=True)
def _every_level(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        yield


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the refusals that were logged."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == logging.WARNING and record.getMessage().startswith("refused")
    ]


async def line_for(caplog: pytest.LogCaptureFixture, token: str, **options: Any) -> str:
    """Return the one line that a token's refusal wrote."""
    gate = make_gate(verifier=make_verifier(**options))
    answer = await ask(gate, headers=bearer(token))
    assert answer.status == 401
    written = lines(caplog)
    assert len(written) == 1, written
    assert str(answer.header("xuna-gate-ref")) in written[0]
    assert "\n" not in written[0]
    return written[0]


async def test_reference_is_random_and_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    """The answer carries it, the log names it, and no two are alike."""
    gate = make_gate()
    references = {(await ask(gate)).header("xuna-gate-ref") for _ in range(50)}
    assert len(references) == 50
    assert all(re.fullmatch("[0-9a-f]{12}", reference or "") for reference in references)
    written = lines(caplog)
    assert len(written) == 1
    assert sum(reference in written[0] for reference in references if reference) == 1


async def test_one_line_a_second_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    """A flood of one kind is one line, and doesn't keep another kind out of the log."""
    gate = make_gate()
    for number in range(200):
        await ask(gate, headers=bearer(RSA.token(good_claims(aud=f"{number}"))))
    await ask(gate, headers=bearer(RSA.token(good_claims(sub=""))))
    written = lines(caplog)
    assert len(written) == 2
    assert "audience" in written[0]
    assert "subject" in written[1]


def test_line_after_a_flood_says_how_much_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """With a clock in hand: quiet for a second, then one line with the count."""
    now = [NOW]
    refusals = Refusals(Events(), clock=lambda: now[0])
    for _ in range(5):
        refusals.report(InvalidTokenError(cause="expired: 5 s ago"), Attempt())
    now[0] += 1
    refusals.report(InvalidTokenError(cause="expired: 7 s ago"), Attempt())
    now[0] += 1
    refusals.report(InvalidTokenError(cause="expired: 8 s ago"), Attempt())
    written = lines(caplog)
    assert len(written) == 3
    assert "4 more" in written[1]
    assert "more" not in written[2]


def test_clock_that_is_set_back_does_not_silence_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A line from the future keeps none of now out."""
    now = [NOW]
    refusals = Refusals(Events(), clock=lambda: now[0])
    refusals.report(InvalidTokenError(cause="expired: x"), Attempt())
    now[0] -= 3600
    refusals.report(InvalidTokenError(cause="expired: x"), Attempt())
    assert len(lines(caplog)) == 2


def test_causes_of_ones_own_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A rule may name its causes as it likes: neither what is kept of them grows, nor the log."""
    now = [NOW]
    refusals = Refusals(Events(), clock=lambda: now[0])
    for number in range(5_000):
        refusals.report(AccessDeniedError(cause=f"{number}: mine"), Attempt())
    assert len(refusals._lines) <= 257
    assert len(lines(caplog)) <= 257
    now[0] += 1
    refusals.report(AccessDeniedError(cause="further: mine"), Attempt())
    refusals.report(AccessDeniedError(cause="5000: mine"), Attempt())
    assert len(lines(caplog)) == 259
    assert len(refusals._lines) <= 257


def test_what_is_forgotten_of_a_flood_is_told_at_last(caplog: pytest.LogCaptureFixture) -> None:
    """Causes that never come again leave a number to whatever comes when there are too many."""
    now = [NOW]
    refusals = Refusals(Events(), clock=lambda: now[0])
    for number in range(256):
        for _ in range(3):
            refusals.report(AccessDeniedError(cause=f"{number}: mine"), Attempt())
    now[0] += 2
    for number in range(1_000, 1_300):
        refusals.report(AccessDeniedError(cause=f"{number}: mine"), Attempt())
    assert f"({2 * 256} more since the last)" in caplog.text


async def test_hook_that_always_fails_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Its traceback is written once a second for each kind of event, not for each request."""

    def broken(event: Event) -> None:
        raise RuntimeError("always")

    gate = make_gate(on_event=[broken])
    for _ in range(100):
        await ask(gate)
    failed = [record for record in caplog.records if "hook failed" in record.message]
    assert 1 <= len(failed) < 20


async def test_a_refusal_is_reported_once() -> None:
    """By the gate's own routes, on protected paths, and in routes of the app's."""
    events: list[Event] = []
    gate = make_gate(on_event=[events.append])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.identity(HTTPConnection(scope))

    wrapped = XunaMiddleware(app, gate, prefix="/xuna", protect=["/api"])
    for number, path in enumerate(("/xuna/get-signed-url", "/api/x"), 1):
        assert (await ask(wrapped, path)).status == 401
        assert len(events) == number
    with pytest.raises(NotAuthenticatedError):
        await ask(wrapped, "/open")
    assert len(events) == 3


async def test_one_error_object_raised_twice_is_two_refusals() -> None:
    """An author may keep one error in a constant: each caller gets a reference of their own."""
    closed = AccessDeniedError("Closed today.", code="closed")
    events: list[Event] = []

    async def authenticator(connection: object) -> Identity:
        raise closed

    gate = make_gate(authenticator=authenticator, on_event=[events.append])
    references = {(await ask(gate)).header("xuna-gate-ref") for _ in range(2)}
    assert len(references) == 2
    assert len(events) == 2


async def test_type_names_its_mend(caplog: pytest.LogCaptureFixture) -> None:
    """The line that the design shows, for Auth0's default tokens."""
    line = await line_for(caplog, RSA.token(header=RSA.header(typ="JWT")))
    assert (
        'token type: says "JWT", accepted "at+jwt"; if this is an access token: '
        'token_types=("at+jwt", "JWT"), or Auth0 ▸ APIs ▸ Access Token Profile ▸ RFC 9068'
    ) in line


async def test_audience_names_its_mend(caplog: pytest.LogCaptureFixture) -> None:
    """The line that the design shows, for Keycloak's default tokens."""
    line = await line_for(caplog, RSA.token(good_claims(aud=["account"])))
    assert (
        'audience: token is for ["account"], accepted "voice"; Keycloak: add an Audience mapper'
        in line
    )


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exp": NOW - 40, "iat": NOW - 600}, "expired"),
        ({"nbf": NOW + 100}, "nbf"),
        ({"iat": NOW + 100}, "iat"),
        ({"exp": NOW + 90_000}, "lifetime"),
        ({"sub": LEFT_OUT}, "sub"),
        ({"cnf": {"jkt": "x"}}, "cnf"),
        ({"exp": LEFT_OUT}, "exp"),
    ],
)
async def test_claims_are_named(
    caplog: pytest.LogCaptureFixture, changes: dict[str, Any], says: str
) -> None:
    """Each rule about a verified token's claims says which it is."""
    assert says in await line_for(caplog, RSA.token(good_claims(**changes)))


async def test_verified_values_are_bounded_and_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """Even a signed token writes one line of ordinary length."""
    odd = "x\n\r\x1b[2J\u2028refused 401: forged line" * 200
    assert len(await line_for(caplog, RSA.token(good_claims(aud=odd)))) < 600


async def test_many_audiences_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """The line stays one line however much there is to show."""
    line = await line_for(caplog, RSA.token(good_claims(aud=[f"a{n}" for n in range(1000)])))
    assert len(line) < 600


STRANGER: Final = rsa_signer("stranger")
UNVERIFIED: Final[dict[str, Make]] = {
    "another issuer": lambda: RSA.token(good_claims(iss=CANARY)),
    "another issuer, unsigned": lambda: STRANGER.token(good_claims(iss=CANARY)),
    "a forged signature": lambda: compact(
        RSA.header(typ=CANARY), good_claims(aud=CANARY, sub=CANARY), STRANGER.sign
    ),
    "an unknown kid": lambda: STRANGER.token(header=STRANGER.header(kid=CANARY)),
    "an unknown algorithm": lambda: RSA.token(header=RSA.header(alg=CANARY)),
    "a forbidden header": lambda: RSA.token(header=RSA.header(jku=f"https://{CANARY}")),
    "a critical header": lambda: RSA.token(header=RSA.header(crit=[CANARY])),
    "an odd type": lambda: RSA.token(header=RSA.header(typ=[CANARY])),
    "no JSON": lambda: compact(RSA.header(), CANARY.encode(), RSA.sign),
    "no JSON in the header": lambda: f"{b64(CANARY.encode())}.e30.AAAA",
    "no token at all": lambda: CANARY,
}


@pytest.mark.parametrize("make", UNVERIFIED.values(), ids=UNVERIFIED.keys())
async def test_line_holds_nothing_of_an_unverified_token(
    caplog: pytest.LogCaptureFixture, make: Make
) -> None:
    """Whatever a stranger writes into a token, the log doesn't repeat it."""
    token = make()
    line = await line_for(caplog, token)
    for part in (CANARY, *token.split(".")):
        assert part not in line


async def test_malformed_header_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Neither is what was no token."""
    for value in (f"Basic {CANARY}", f"Bearer {CANARY} {CANARY}", f"{CANARY}", f"{CANARY} x"):
        answer = await ask(make_gate(), headers=[(b"authorization", value.encode())])
        assert CANARY.encode() not in answer.body
    assert CANARY not in caplog.text


async def test_request_is_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Path, query, agent and body of a refused request stay out of answers and lines."""
    gate = make_gate(agents=OPEN)
    signed_in = [*bearer(RSA.token()), JSON]
    for path, query, body in [
        (f"/{CANARY}", b"", b""),
        ("/get-signed-url", f"agent={CANARY}".encode(), b""),
        ("/get-signed-url", b"", f'{{"agent":"{CANARY}"}}'.encode()),
        ("/get-signed-url", b"", f'{{"{CANARY}":1}}'.encode()),
        ("/get-signed-url", b"", f'{{"dynamic_variables":{{"plan":"{CANARY}"}}}}'.encode()),
        ("/get-signed-url", b"", f'{{"dynamic_variables":{{"mood":["{CANARY}"]}}}}'.encode()),
        ("/get-signed-url", b"", f'{{"overrides":{{"{CANARY}":1}}}}'.encode()),
        ("/get-signed-url", b"", f"[{CANARY}]".encode()),
    ]:
        answer = await ask(gate, path, method="POST", query=query, headers=signed_in, body=body)
        assert answer.status in (400, 403, 404)
        assert CANARY.encode() not in answer.body
    assert CANARY not in caplog.text


@pytest.mark.parametrize(
    "name", ["x\\n refused 200: forged", "x\\u001b[2J", "é" * 3000, "x" * 3000]
)
async def test_odd_name_of_a_variable_stays_one_short_line(
    caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The operator may read which variable a known caller sent, within reason."""
    body = f'{{"dynamic_variables":{{"{name}":1}}}}'.encode()
    headers = [*bearer(RSA.token()), JSON]
    answer = await ask(make_gate(agents=OPEN), method="POST", headers=headers, body=body)
    assert answer.status == 400
    (line,) = lines(caplog)
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 600


async def test_a_passed_request_writes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """No pass, no token, no variable in any line, at any level."""
    gate = make_gate(agents=OPEN)
    caplog.clear()
    token = RSA.token()
    assert (await ask(gate, headers=bearer(token))).status == 200
    for secret in (CANARY, API_KEY, SIGNED_URL, token):
        assert secret not in caplog.text
    assert lines(caplog) == []


async def test_events_of_a_pass_hold_names_alone() -> None:
    """Who, which agent, which rule, names of variables; no value, no token, no credential."""
    events: list[Event] = []
    platform = CountedPlatform()
    gate = make_gate(platform, agents=OPEN, on_event=[events.append])
    token = RSA.token()
    body = f'{{"dynamic_variables":{{"mood":"{CANARY}"}}}}'.encode()
    for path in ("/get-signed-url", "/conversation-token"):
        answer = await ask(gate, path, method="POST", headers=[*bearer(token), JSON], body=body)
        assert answer.status == 200
    assert [event.name for event in events] == ["verified", "authorized", "issued"] * 2
    issued = events[2]
    assert (issued.subject, issued.agent, issued.transport) == ("user-1", "support", "websocket")
    assert set(issued.variables) == {"mood", "plan"}
    for secret in (CANARY, API_KEY, SIGNED_URL, token):
        assert secret not in repr(events)


async def test_events_of_a_refusal() -> None:
    """One a refusal, with what was answered and why, and what is known of the caller."""
    events: list[Event] = []
    rule = require_scopes("voice:admin")
    agents = [Agent("support", id="agent_1", allow=rule)]
    gate = make_gate(agents=agents, on_event=[events.append])
    answer = await ask(gate, headers=bearer(RSA.token()))
    assert answer.status == 403
    assert 'error="insufficient_scope"' in (answer.header("www-authenticate") or "")
    verified, refused = events
    assert (verified.name, refused.name) == ("verified", "refused")
    assert (refused.status, refused.code) == (403, answer.json()["code"])
    assert (refused.subject, refused.agent) == ("user-1", "support")
    assert refused.reference == answer.header("xuna-gate-ref")


async def test_event_of_a_refusal_names_no_unknown_agent() -> None:
    """What a client calls an agent is not a name."""
    events: list[Event] = []
    gate = make_gate(on_event=[events.append])
    await ask(gate, query=f"agent={CANARY}".encode(), headers=bearer(RSA.token()))
    assert events[-1].status == 404
    assert CANARY not in repr(events)


async def test_authors_own_words_reach_the_caller() -> None:
    """`deny(code, detail)` goes into the 403; it is the author's own text."""

    def closed(who: Identity) -> Any:
        return deny("closed", "We are closed today.")

    gate = make_gate(agents=[Agent("support", id="agent_1", allow=closed)])
    answer = await ask(gate, headers=bearer(RSA.token()))
    assert (answer.status, answer.json()["code"]) == (403, "closed")
    assert answer.json()["detail"] == "We are closed today."


async def test_refusal_on_a_protected_path_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    """The middleware's refusals are the gate's."""
    events: list[Event] = []
    wrapped = XunaMiddleware(echo_app, make_gate(on_event=[events.append]), protect=["/api"])
    answer = await ask(wrapped, "/api")
    assert [event.reference for event in events] == [answer.header("xuna-gate-ref")]
    assert len(lines(caplog)) == 1


async def test_refusal_in_a_route_of_ones_own() -> None:
    """`gate.identity` and `gate.issue` raise what has been noted, reference included."""
    events: list[Event] = []
    gate = make_gate(on_event=[events.append])
    with pytest.raises(GateError) as caught:
        await gate.identity(HTTPConnection(http_scope()))
    assert (caught.value.headers or {})["Xuna-Gate-Ref"] == events[0].reference
    with pytest.raises(GateError) as caught:
        await gate.issue(Identity(subject="x"), "nobody", transport="websocket")
    assert (caught.value.headers or {})["Xuna-Gate-Ref"] == events[1].reference
