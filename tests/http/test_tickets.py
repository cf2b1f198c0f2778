"""The one-time ticket: made by POST /ticket, taken once by a WebSocket that can't set a header."""

import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final

import pytest
from starlette.types import Message, Receive, Scope, Send
from support.doubles import (
    CHALLENGE,
    DENIAL,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    knock,
    make_gate,
    one_response,
)
from support.signing import CANARY, NOW, RSA, good_claims

from xuna_middleware import (
    Agent,
    Event,
    Identity,
    XunaGate,
    XunaMiddleware,
    get_identity,
    require_scopes,
)
from xuna_middleware.errors import InvalidTokenError
from xuna_middleware.identity.tickets.tickets import Ticket, Tickets
from xuna_middleware.stores.memory.store import MemoryStore
from xuna_middleware.stores.protocol import StoreError

TICKET: Final = re.compile(r"xgt_[A-Za-z0-9_-]{43}")
PAGE: Final = (b"origin", b"https://page.example.com")


async def whose(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket and say who opened it."""
    await receive()
    identity = get_identity(scope)
    assert identity is not None
    await send({"type": "websocket.accept"})
    said = {"sub": identity.subject, "iss": identity.issuer, "claims": dict(identity.claims)}
    text = json.dumps(said, default=dict)
    await send({"type": "websocket.send", "text": text})


def front(gate: XunaGate) -> XunaMiddleware:
    return XunaMiddleware(whose, gate, protect=["/talk"])


async def ticket_of(app: XunaMiddleware, **scope: Any) -> Answer:
    options: dict[str, Any] = {"method": "POST", "headers": bearer(RSA.token(live())), **scope}
    return await ask(app, "/xuna/ticket", **options)


def live(**changes: Any) -> dict[str, Any]:
    """Return claims that end long after the wall clock's now."""
    return good_claims(**changes)


async def opened(app: XunaMiddleware, ticket: str, *headers: tuple[bytes, bytes]) -> list[Message]:
    query = f"ticket={ticket}".encode()
    return await knock(app, "/talk", query=query, headers=headers, extensions=DENIAL)


def is_open(sent: list[Message]) -> bool:
    return bool(sent[0]["type"] == "websocket.accept")


def refusal(sent: list[Message]) -> Answer:
    return one_response(sent, "websocket.http.response")


async def test_ticket_opens_one_websocket() -> None:
    """The identity arrives whole; the second use is the one 401."""
    platform = CountedPlatform()
    app = front(make_gate(platform))
    answer = await ticket_of(app)
    assert answer.status == 200
    assert answer.header("cache-control") == "no-store"
    assert answer.json()["expires_in"] == 60
    ticket = answer.json()["ticket"]
    assert TICKET.fullmatch(ticket)
    sent = await opened(app, ticket)
    assert is_open(sent)
    assert json.loads(sent[1]["text"])["sub"] == "user-1"
    assert json.loads(sent[1]["text"])["claims"]["scope"] == "voice:talk openid"
    again = refusal(await opened(app, ticket))
    assert (again.status, again.header("www-authenticate")) == (401, CHALLENGE)
    assert platform.requests == []


@pytest.mark.parametrize(
    "ticket", ["xgt_", "xgt_" + "A" * 43, "xgt_" + "é" * 43, "xgt_" + "A" * 99]
)
async def test_a_made_up_ticket_is_the_one_401(ticket: str) -> None:
    answer = refusal(await opened(front(make_gate()), ticket))
    assert (answer.status, answer.json()["code"]) == (401, "invalid_token")


async def test_ticket_in_an_http_request_is_nothing() -> None:
    """Only a WebSocket has no other way; a ticket in a page's address is not looked at."""
    app = front(make_gate())
    ticket = (await ticket_of(app)).json()["ticket"]
    answer = await ask(app, "/talk", query=f"ticket={ticket}".encode())
    assert answer.json()["code"] == "not_authenticated"
    assert is_open(await opened(app, ticket))


async def test_an_apps_own_ticket_parameter_is_its_own() -> None:
    """`?ticket=5` of the app says nothing to the gate: nobody is presented."""
    answer = refusal(await opened(front(make_gate()), "5"))
    assert answer.json()["code"] == "not_authenticated"


async def test_two_tickets_are_malformed() -> None:
    """One of them would be ignored, and nobody could say which."""
    app = front(make_gate())
    ticket = (await ticket_of(app)).json()["ticket"]
    answer = refusal(await opened(app, f"{ticket}&ticket={ticket}"))
    assert answer.status == 400


@pytest.mark.parametrize(
    ("made", "used", "opens"),
    [
        ((PAGE,), (PAGE,), True),
        ((PAGE,), (), True),
        ((), (), True),
        ((), ((b"origin", b"https://listed.example.com"),), True),
        ((), ((b"origin", b"https://acme.com"),), True),
        ((PAGE,), ((b"origin", b"https://evil.example.com"),), False),
        ((), (PAGE,), False),
        ((), ((b"origin", b"null"),), False),
        ((PAGE,), (PAGE, PAGE), False),
    ],
)
async def test_origin_of_the_websocket(made: Any, used: Any, opens: bool) -> None:
    """A WebSocket's Origin is the ticket's page, public_url's or a listed one; else 403."""
    gate = make_gate(
        public_url="https://acme.com/xuna", cors_origins=["https://listed.example.com"]
    )
    app = front(gate)
    answer = await ticket_of(app, headers=[*bearer(RSA.token()), *made])
    sent = await opened(app, answer.json()["ticket"], *used)
    assert is_open(sent) is opens
    if not opens:
        assert refusal(sent).json()["code"] == "cross_site"


@pytest.mark.parametrize(
    ("scope", "status", "code"),
    [
        ({"headers": []}, 401, "not_authenticated"),
        ({"headers": bearer("x")}, 401, "invalid_token"),
        ({"query": b"agent=other"}, 404, "unknown_agent"),
        ({"query": b"agent=closed"}, 403, "insufficient_scope"),
        ({"query": b"agent=a&agent=b"}, 400, "invalid_request"),
        ({}, 400, "agent_missing"),
        ({"method": "GET"}, 405, "method_not_allowed"),
    ],
)
async def test_who_gets_no_ticket(scope: Mapping[str, Any], status: int, code: str) -> None:
    """A ticket is for somebody who may talk to that agent."""
    agents = [
        Agent("support", id="agent_1"),
        Agent("closed", id="agent_2", allow=require_scopes("admin")),
    ]
    answer = await ticket_of(front(make_gate(agents=agents)), **scope)
    assert (answer.status, answer.json()["code"]) == (status, code)


async def test_ticket_carries_no_variables() -> None:
    """Those belong to the conversation; ignoring them would look like taking them."""
    app = front(make_gate())
    headers = [*bearer(RSA.token()), (b"content-type", b"application/json")]
    answer = await ticket_of(app, headers=headers, body=b'{"dynamic_variables":{"a":"b"}}')
    assert answer.status == 400


async def test_ambient_callers_come_from_the_page_itself() -> None:
    """A cookie gets no ticket for another site's page."""

    async def cookie(connection: object) -> Identity:
        return Identity(subject="anna", claims={"n": 1})

    app = front(make_gate(authenticator=cookie, verifier=None))
    refused = await ticket_of(app, headers=[(b"sec-fetch-site", b"cross-site")])
    assert refused.json()["code"] == "cross_site"
    answer = await ticket_of(app, headers=[(b"sec-fetch-site", b"same-origin")])
    sent = await opened(app, answer.json()["ticket"])
    assert json.loads(sent[1]["text"]) == {"sub": "anna", "iss": "local", "claims": {"n": 1}}


async def test_claims_that_cannot_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    """An authenticator's object among the claims is its author's mistake: 503 and a log line."""

    async def cookie(connection: object) -> Identity:
        return Identity(subject="anna", claims={"row": object()})

    app = front(make_gate(authenticator=cookie, verifier=None))
    answer = await ticket_of(app, headers=[(b"sec-fetch-site", b"same-origin")])
    assert answer.status == 503
    assert "not plain JSON" in caplog.text


class BrokenStore(MemoryStore):
    """A store that is away."""

    async def put(self, *about: Any, **options: Any) -> bool:
        raise StoreError("away")

    async def take(self, key: str) -> bytes | None:
        raise StoreError("away")


async def test_store_away_is_503() -> None:
    """Never open, never 401: nobody can know."""
    app = front(make_gate(store=BrokenStore()))
    made = await ticket_of(app)
    taken = refusal(await opened(app, "xgt_" + "A" * 43))
    assert (made.status, taken.status) == (503, 503)
    assert made.header("retry-after") == taken.header("retry-after") == "5"


async def test_ticket_is_kept_by_its_hash_and_shown_to_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a thief of the store, the log or the events sees opens nothing."""
    kept: list[str] = []

    class Watched(MemoryStore):
        async def put(self, *about: Any, **options: Any) -> bool:
            kept.append(f"{about} {options}")
            return await super().put(*about, **options)

    heard: list[Event] = []
    with caplog.at_level(logging.DEBUG):
        app = front(make_gate(store=Watched(), on_event=[heard.append]))
        ticket = (await ticket_of(app)).json()["ticket"]
        await opened(app, ticket)
        await opened(app, ticket)
    assert len(kept) == 1
    assert ticket[4:] not in f"{kept} {heard} {caplog.text}"
    assert CANARY not in f"{heard} {caplog.text}"
    assert [event.name for event in heard].count("ticket_issued") == 1


async def test_prefixless_gate_leaves_ticket_to_the_app() -> None:
    """With prefix="" only the issuing routes are the gate's."""
    app = XunaMiddleware(echo_app, make_gate(), prefix="")
    answer = await ask(app, "/ticket", method="POST", headers=bearer(RSA.token()))
    assert answer.body == b"the app"


async def test_ticket_ends_with_the_identity() -> None:
    """A ticket lives no longer than what proved the identity."""

    now = [NOW]
    tickets = Tickets(MemoryStore(), clock=lambda: now[0])
    soon = Identity(subject="anna", expires_at=NOW + 7)
    ticket = Ticket(identity=soon, agent="a", origin=None, voucher="verifier", mark="")
    text, seconds = await tickets.make(ticket)
    assert seconds == 7
    now[0] = NOW + 7
    with pytest.raises(InvalidTokenError):
        await tickets.take(text)
    with pytest.raises(InvalidTokenError):
        await tickets.make(ticket)


async def test_ticket_that_is_put_back() -> None:
    """For the rest of its minute, and no longer."""
    now = [1000.0]
    tickets = Tickets(MemoryStore(monotonic=lambda: now[0]), clock=lambda: now[0])
    ticket = Ticket(identity=Identity(subject="anna"), agent="a", origin=None, voucher="verifier")
    text, _ = await tickets.make(ticket)
    for later in (30, 29):
        now[0] += later
        taken = await tickets.take(text)
        await tickets.put_back(text, taken)
    now[0] += 2
    with pytest.raises(InvalidTokenError):
        await tickets.take(text)
    await tickets.put_back(text, taken)
    with pytest.raises(InvalidTokenError):
        await tickets.take(text)
