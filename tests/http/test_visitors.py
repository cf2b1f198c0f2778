"""The visitors' entrance: who comes without credentials, what they spend, who they become."""

import asyncio
import hashlib
import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import httpx
import pytest
from starlette.requests import HTTPConnection
from support.doubles import (
    API_KEY,
    Answer,
    CountedPlatform,
    ask,
    bearer,
    echo_app,
    in_fast_time,
    make_gate,
    seconds,
)
from support.signing import RSA, good_claims

from xuna_middleware import (
    Agent,
    AnonymousAccess,
    Concurrent,
    ConfigurationError,
    Event,
    Identity,
    Limit,
    MemoryStore,
    ProofOfWork,
    TalkTime,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
    claim,
    deny,
    turnstile,
)
from xuna_middleware.anonymous.cookie import AnonymousTokens, new_visit
from xuna_middleware.errors import UnavailableError
from xuna_middleware.gate import core_of
from xuna_middleware.stores import StoreError

HOME: Final = "https://app.example.com"
SECRET: Final = "s" * 43
SAME: Final = (b"sec-fetch-site", b"same-origin")
COOKIE: Final = "__Host-xuna_visitor"
DAILY: Final = Limit("1000/day", per="all")


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def open_gate(*limits: Any, anonymous: AnonymousAccess | None = None, **options: Any) -> XunaGate:
    """Return a gate with an agent that is open to visitors, and one that isn't."""
    agent = options.pop("agent", {})
    agents = [
        Agent(
            "faq",
            id="agent_1",
            anonymous=True,
            max_duration=60,
            limits=limits or [DAILY],
            **agent,
        ),
        Agent("private", id="agent_2"),
    ]
    anonymous = anonymous or AnonymousAccess(secret=SECRET)
    return make_gate(options.pop("platform", None), agents=agents, anonymous=anonymous, **options)


def turn(gate: XunaGate, clock: Clock) -> None:
    """Give the gate's entrance a clock that a test turns."""
    entrance = core_of(gate).admission
    assert entrance is not None
    entrance._clock = clock
    entrance._tickets = AnonymousTokens([SECRET], seconds=30 * 86_400, clock=clock)


async def visit(
    gate: Any, ticket: str | None = None, *, agent: str = "faq", path: str = "", **options: Any
) -> Answer:
    """Ask as a page of our own does, with a visitor's cookie or without."""
    headers = [SAME, *options.pop("headers", ())]
    if ticket is not None:
        headers.append((b"cookie", f"theme=dark; {COOKIE}={ticket}".encode()))
    query = f"agent={agent}".encode()
    return await ask(gate, path or "/get-signed-url", headers=headers, query=query, **options)


def ticket_of(answer: Answer) -> str:
    """Return the ticket that an answer hands out, in the header and in the cookie."""
    ticket = answer.header("Xuna-Visitor")
    assert ticket
    assert (answer.header("Set-Cookie") or "").startswith(f"{COOKIE}={ticket}; ")
    return ticket


async def test_visitor_gets_a_pass_and_a_ticket() -> None:
    """Whoever presents nothing is somebody from then on."""
    gate = open_gate()
    first = await visit(gate)
    assert first.status == 200
    assert re.fullmatch(
        r"__Host-xuna_visitor=[\w.-]+; Max-Age=2592000; Path=/; HttpOnly; SameSite=Lax; Secure",
        first.header("Set-Cookie") or "",
    )
    again = await visit(gate, ticket_of(first), path="/conversation-token")
    assert again.status == 200
    assert again.header("Xuna-Visitor") is None, "they know already"
    assert again.header("Set-Cookie") is None


async def test_cookie_over_plain_http() -> None:
    """On a hobbyist's machine there is no TLS, and a Secure cookie would be lost."""
    gate = open_gate(Limit("1/hour"), DAILY)
    answer = await visit(gate, scheme="http")
    cookie = answer.header("Set-Cookie") or ""
    assert cookie.startswith("xuna_visitor=")
    assert "Secure" not in cookie
    headers = [(b"cookie", cookie.partition(";")[0].encode())]
    assert (await visit(gate, headers=headers, scheme="http")).status == 429, "known again"
    public = open_gate(public_url="https://acme.com/xuna")
    answer = await visit(public, scheme="http")
    cookie = answer.header("Set-Cookie") or ""
    assert cookie.startswith(f"{COOKIE}="), "TLS ends before us"
    assert "Secure" in cookie


async def test_cookie_of_a_neighbouring_host() -> None:
    """Over TLS only a name counts that no other host of the domain can set."""
    gate = open_gate(Limit("1/hour"), DAILY)
    planted = ticket_of(await visit(gate))
    headers = [(b"cookie", f"xuna_visitor={planted}".encode())]
    answer = await visit(gate, headers=headers)
    assert (answer.status, ticket_of(answer) != planted) == (200, True)


async def test_ticket_in_a_header() -> None:
    """A page that lives elsewhere has no cookie of ours; the header goes before the cookie."""
    gate = open_gate(Limit("1/hour"), DAILY, cors_origins=[HOME])
    headers = [(b"origin", HOME.encode())]
    first = await ask(gate, headers=headers, query=b"agent=faq")
    ticket = ticket_of(first)
    exposed = first.header("Access-Control-Expose-Headers") or ""
    assert "Xuna-Visitor" in exposed
    headers.append((b"xuna-visitor", ticket.encode()))
    assert (await ask(gate, headers=headers, query=b"agent=faq")).status == 429
    preflight = await ask(
        gate,
        method="OPTIONS",
        headers=[
            (b"origin", HOME.encode()),
            (b"access-control-request-method", b"GET"),
            (b"access-control-request-headers", b"xuna-visitor, xuna-challenge"),
        ],
    )
    assert preflight.status == 200


@pytest.mark.parametrize("agent", ["private", "unknown"])
async def test_agents_that_are_not_open(agent: str) -> None:
    """To a visitor they are all one: 401, whether they exist or not."""
    platform = CountedPlatform()
    gate = open_gate(platform=platform)
    for path in ("/get-signed-url", "/conversation-token"):
        answer = await visit(gate, agent=agent, path=path)
        assert (answer.status, answer.json()["code"]) == (401, "not_authenticated")
    assert not platform.requests


async def test_agents_that_a_visitor_may_use() -> None:
    """And what is left of their limits."""
    answer = await ask(open_gate(), "/agents")
    (agent,) = answer.json()["agents"]
    assert agent["name"] == "faq"
    assert [limit["limit"] for limit in agent["limits"]] == [
        "faq: 1000/day per all",
        "visitors: 10/hour per subject",
        "visitors: 30/hour per address",
    ]


async def test_presented_credentials_never_fall_through() -> None:
    """A bad token is a 401, and not a visitor; so is a header that no verifier reads."""
    gate = open_gate()
    for headers in (bearer("not.a.token"), [(b"authorization", b"Basic eDp5")]):
        assert (await visit(gate, headers=headers)).status == 401

    async def nobody(connection: HTTPConnection) -> Identity | None:
        return None

    by_cookie = open_gate(authenticator=nobody, verifier=None)
    assert (await visit(by_cookie, headers=[(b"authorization", b"Basic eDp5")])).status == 401
    assert (await visit(by_cookie)).status == 200


async def test_protected_paths_admit_no_visitors() -> None:
    """The entrance leads to the gate's own routes, and nowhere else."""
    app = XunaMiddleware(echo_app, open_gate(), protect=["/api"])
    assert (await ask(app, "/api/me", headers=[SAME])).status == 401
    assert (await visit(app, path="/xuna/get-signed-url")).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"sec-fetch-site", b"cross-site")],
        [(b"sec-fetch-site", b"same-site")],
        [(b"sec-fetch-site", b"none")],
        [(b"origin", b"https://evil.example")],
        [SAME, (b"sec-fetch-mode", b"navigate")],
        [SAME, (b"sec-purpose", b"prefetch")],
    ],
)
async def test_page_elsewhere_spends_nobodys_budget(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Not with the visitor's cookie, and not without; on every route that gives something."""
    store, platform = MemoryStore(), CountedPlatform()
    gate = open_gate(Limit("1/hour"), DAILY, store=store, platform=platform)
    ticket = ticket_of(await visit(open_gate()))
    cookie = (b"cookie", f"{COOKIE}={ticket}".encode())
    for sent in (headers, [*headers, cookie]):
        for path, method in (("/get-signed-url", "GET"), ("/conversation-token", "GET")):
            answer = await ask(gate, path, method=method, headers=sent, query=b"agent=faq")
            assert (answer.status, answer.json()["code"]) == (403, "cross_site")
    assert not platform.requests
    assert (await visit(gate, ticket)).status == 200, "nothing was spent"


async def test_budget_per_visitor() -> None:
    """Each visitor has their own."""
    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, limits=[Limit("1/hour")]))
    anna, bert = ticket_of(await visit(gate)), ticket_of(await visit(gate))
    assert (await visit(gate, anna)).status == 429
    assert (await visit(gate, bert)).status == 429
    assert (await visit(gate)).status == 200


async def test_budget_per_address() -> None:
    """A new visitor at each request is still one address; IPv6 counts by /64."""
    gate = open_gate(
        anonymous=AnonymousAccess(secret=SECRET, limits=[Limit("2/hour", per="address")])
    )
    for host in ("2001:db8::1", "2001:db8::2"):
        assert (await visit(gate, client=(host, 1))).status == 200
    assert (await visit(gate, client=("2001:db8::3", 1))).status == 429
    assert (await visit(gate, client=("2001:db8:0:1::3", 1))).status == 200


async def test_translated_addresses_are_budgeted_one_by_one() -> None:
    """Behind a NAT64 all IPv4 clients have one /64: each has a budget all the same."""
    gate = open_gate(
        anonymous=AnonymousAccess(secret=SECRET, limits=[Limit("1/hour", per="address")])
    )
    told = []
    for host in ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.2", "192.0.2.1", "::ffff:192.0.2.2"):
        told.append((await visit(gate, client=(host, 1))).status)
    assert told == [200, 200, 429, 429]


async def test_one_subscriber_of_6to4_has_one_budget() -> None:
    """Although 65,536 networks of a /64 are theirs."""
    gate = open_gate(
        anonymous=AnonymousAccess(secret=SECRET, limits=[Limit("1/hour", per="address")])
    )
    hosts = ("2002:c000:201::1", "2002:c000:201:1::1", "2002:c000:201:ffff::1", "192.0.2.1")
    told = [(await visit(gate, client=(host, 1))).status for host in hosts]
    assert told == [200, 429, 429, 429]


async def test_budget_for_all_together(me: Any) -> None:
    """However many come, from wherever; signed-in callers are counted apart."""
    limits = [TalkTime("2 minutes/day", per="all")]
    gate = open_gate(
        Limit("9/day", per="all"), anonymous=AnonymousAccess(secret=SECRET, limits=limits)
    )
    told = [(await visit(gate, client=(f"10.0.0.{n}", 1))).status for n in range(4)]
    assert told == [200, 200, 429, 429]
    assert (await visit(gate, headers=me)).status == 200


@pytest.fixture
def me() -> list[tuple[bytes, bytes]]:
    return bearer(RSA.token(good_claims()))


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "x",
        "abc.0.aaaa.bbbb",
        "abc.9999999999",
        "a" * 10_000,
        "ä.0.x.y",
        ".0..",
        "signed with another secret",
    ],
)
async def test_forged_tickets(forged: str) -> None:
    """They make nobody: whoever shows one is a new visitor, with the budgets of an address."""
    if forged.startswith("signed"):
        forged = AnonymousTokens(["t" * 43], seconds=3600).write(new_visit())
    limits = [Limit("1/hour"), Limit("2/hour", per="address")]
    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, limits=limits))
    headers = [(b"xuna-visitor", forged.encode())]
    first, second = [await visit(gate, headers=headers) for _ in range(2)]
    assert (first.status, second.status) == (200, 200)
    assert ticket_of(first) != ticket_of(second)
    assert (await visit(gate, headers=headers)).status == 429


async def test_ticket_with_another_visitor_in_it() -> None:
    """Every letter is signed."""
    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, limits=[Limit("1/hour")]))
    ticket = ticket_of(await visit(gate))
    flipped = ("a" if ticket[0] != "a" else "b") + ticket[1:]
    assert (await visit(gate, ticket)).status == 429
    assert (await visit(gate, flipped)).header("Xuna-Visitor"), "somebody new"


async def test_two_tickets_in_headers() -> None:
    """Are none."""
    gate = open_gate()
    ticket = ticket_of(await visit(gate)).encode()
    answer = await visit(gate, headers=[(b"xuna-visitor", ticket), (b"xuna-visitor", ticket)])
    assert answer.header("Xuna-Visitor")


async def test_secrets_rotate() -> None:
    """The newest signs, all verify; a dropped one makes new visitors."""
    limits = [Limit("1/hour")]

    def with_secrets(*secrets: str) -> XunaGate:
        return open_gate(anonymous=AnonymousAccess(secret=secrets, limits=limits))

    old, new = "o" * 43, "n" * 43
    ticket = ticket_of(await visit(with_secrets(old)))
    assert (await visit(with_secrets(new, old), ticket)).header("Xuna-Visitor") is None
    assert (await visit(with_secrets(new), ticket)).header("Xuna-Visitor")
    signed_by_new = ticket_of(await visit(with_secrets(new, old)))
    assert (await visit(with_secrets(new), signed_by_new)).header("Xuna-Visitor") is None


def test_tickets_end() -> None:
    """After so many seconds, by whichever clock; one that is dated ahead by more is none."""
    clock = Clock()
    tickets = AnonymousTokens([SECRET], seconds=60, clock=clock)
    somebody = new_visit()
    scope = {"type": "http", "headers": [(b"xuna-visitor", tickets.write(somebody).encode())]}
    known = tickets.read(scope)
    assert known is not None
    assert known.visitor == somebody.visitor
    clock.now += 60
    assert tickets.read(scope) is not None
    clock.now += 1
    assert tickets.read(scope) is None
    clock.now -= 61
    for back in (0.5, 30, 29.5):
        clock.now -= back
        assert tickets.read(scope) is not None, "a clock went back, or is slow"
    clock.now -= 1
    assert tickets.read(scope) is None


async def test_clock_that_goes_back() -> None:
    """Gives nobody a new budget; a pass counts for no longer than one pass lasts."""
    clock = Clock()
    terms = AnonymousAccess(secret=SECRET, captcha=by_word, captcha_seconds=600)
    gate = open_gate(Limit("3/hour"), DAILY, anonymous=terms)
    turn(gate, clock)
    solved = [(b"xuna-challenge", b"sesame")]
    ticket = ticket_of(await visit(gate, headers=solved))
    clock.now -= 0.5
    assert (await visit(gate, ticket)).status == 200, "another worker's clock is a little slow"
    clock.now -= 3600
    assert (await visit(gate, ticket)).status == 403, "the pass lies too far ahead"
    again = await visit(gate, ticket, headers=solved)
    assert again.status == 200
    assert (await visit(gate, ticket_of(again))).status == 429, "known all the time"


async def by_word(connection: HTTPConnection) -> bool:
    return connection.headers.get("xuna-challenge") == "sesame"


async def test_rules_are_asked_about_visitors() -> None:
    """They can tell them apart."""

    def office_hours(who: Identity) -> Any:
        assert not who.is_authenticated
        return deny("closed", "Come back tomorrow.") if who.is_anonymous else True

    answer = await visit(open_gate(agent={"allow": office_hours}))
    assert (answer.status, answer.json()["code"]) == (403, "closed")


async def test_events_of_visitors() -> None:
    """They name the visitor like anybody else."""
    events: list[Event] = []
    await visit(open_gate(on_event=[events.append]))
    assert [event.name for event in events] == ["verified", "authorized", "reserved", "issued"]
    assert {event.issuer for event in events} == {"urn:xuna-gate:visitors"}
    assert len({event.subject for event in events}) == 1


async def test_switch_closes_the_entrance_at_once(me: Any) -> None:
    """For visitors, in all processes that share the store; who signed in is served."""
    store = MemoryStore()
    one, other = open_gate(store=store), open_gate(store=store)
    await one.pause_anonymous()
    await one.pause_anonymous()
    for gate in (one, other):
        answer = await visit(gate)
        assert (answer.status, answer.json()["code"]) == (403, "anonymous_paused")
        assert (await visit(gate, headers=me)).status == 200
    await other.resume_anonymous()
    assert (await visit(one)).status == 200
    await one.resume_anonymous()
    assert (await visit(one)).status == 200


async def ask_ticket(gate: XunaGate, host: str = "10.0.0.1", headers: Any = ()) -> Answer:
    return await visit(gate, path="/ticket", method="POST", client=(host, 1), headers=headers)


async def test_closed_entrance_stays_closed() -> None:
    """However long ago that was, in a process that never heard of it, too."""
    now = 1000.0
    store = MemoryStore(monotonic=lambda: now)
    await open_gate(store=store).pause_anonymous()
    now += 3 * 366 * 86_400
    assert (await visit(open_gate(store=store))).json()["code"] == "anonymous_paused"
    await open_gate(store=store).resume_anonymous()
    assert (await visit(open_gate(store=store))).status == 200


async def test_closed_entrance_makes_no_tickets(me: Any) -> None:
    """A ticket would outlive the closing; who signed in gets theirs."""
    gate = open_gate()
    await gate.pause_anonymous()
    answer = await ask_ticket(gate)
    assert (answer.status, answer.json()["code"]) == (403, "anonymous_paused")
    assert (await ask_ticket(gate, headers=me)).status == 200
    await gate.resume_anonymous()
    assert (await ask_ticket(gate)).status == 200


async def test_tickets_of_visitors_are_bounded(me: Any) -> None:
    """30 a minute for each address, since strangers could fill the store with them."""
    gate = open_gate()
    told = [(await ask_ticket(gate, f"2001:db8::{n}")).status for n in range(32)]
    assert told == [200] * 30 + [429] * 2
    refused = await ask_ticket(gate, "2001:db8::1")
    assert refused.json()["violated-policies"] == ["tickets"]
    assert (await ask_ticket(gate, "2001:db8:0:1::1")).status == 200
    assert (await ask_ticket(gate, "2001:db8::1", headers=me)).status == 200


class Losing(MemoryStore):
    """A store that can be down, or go on with nothing in it."""

    down = ""

    async def reserve(self, *wanted: Any, **options: Any) -> Any:
        self.check("reserve")
        return await super().reserve(*wanted, **options)

    async def look(self, wanted: Any) -> Any:
        self.check("look")
        return await super().look(wanted)

    async def give_back(self, parts: Any) -> None:
        self.check("give_back")
        await super().give_back(parts)

    def check(self, verb: str) -> None:
        if verb in self.down:
            raise StoreError("the store does not answer")

    def lose(self) -> None:
        self.__init__()  # type: ignore[misc]


@pytest.mark.parametrize("when", ["allow", "local"])
@pytest.mark.parametrize("path", ["/get-signed-url", "/ticket"])
async def test_door_that_cannot_be_asked_is_closed(when: Any, path: str) -> None:
    """Whatever the limits say: nobody knows whether the operator closed it."""
    store = Losing()
    terms = AnonymousAccess(secret=SECRET, limits=[Limit("9/hour", on_unavailable=when)])
    budget = Limit("1000/day", per="all", on_unavailable="local")
    gate = open_gate(budget, anonymous=terms, store=store)
    store.down = "look reserve give_back"
    method = "POST" if path == "/ticket" else "GET"
    assert (await visit(gate, path=path, method=method)).status == 503
    store.down = ""
    assert (await visit(gate, path=path, method=method)).status == 200


async def test_store_that_lost_its_data_opens_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Who closed it, or saw it closed, closes it again; the others learn of it then."""
    store = Losing()
    one, other, new = (open_gate(store=store) for _ in range(3))
    await one.pause_anonymous()
    assert (await visit(other)).status == 403
    store.lose()
    for gate in (other, one, new):
        assert (await visit(gate)).json()["code"] == "anonymous_paused"
    assert caplog.text.count("paused again") == 1
    await new.resume_anonymous()
    for gate in (one, other, new):
        assert (await visit(gate)).status == 200
    store.lose()
    for gate in (one, other, new):
        assert (await visit(gate)).status == 200, "what is open stays open"


@pytest.mark.parametrize("verb", ["look", "reserve", "give_back"])
@pytest.mark.parametrize("is_closed", [True, False])
async def test_opening_that_fails_half_way(verb: str, is_closed: bool) -> None:
    """Leaves the entrance as it was, and can be tried again."""
    store = Losing()
    gate = open_gate(store=store)
    if is_closed:
        await gate.pause_anonymous()
    store.down = verb
    if is_closed or verb != "give_back":
        with pytest.raises(UnavailableError):
            await gate.resume_anonymous()
    store.down = ""
    assert (await visit(gate)).status == (403 if is_closed else 200)
    await gate.resume_anonymous()
    assert (await visit(gate)).status == 200


@pytest.mark.parametrize("verb", ["look", "reserve", "give_back"])
async def test_closing_that_fails_half_way(verb: str) -> None:
    """Keeps the door of that process shut, although it was opened before; the store is told again,
    and by that the other processes, until somebody opens.
    """
    store = Losing()
    one, other = (open_gate(store=store) for _ in range(2))
    await one.pause_anonymous()
    await one.resume_anonymous()
    store.down = verb
    with pytest.raises(UnavailableError):
        await one.pause_anonymous()
    assert (await visit(one)).status == 503
    store.down = ""
    assert (await visit(one)).json()["code"] == "anonymous_paused"
    assert (await visit(other)).json()["code"] == "anonymous_paused"
    await other.resume_anonymous()
    assert [(await visit(gate)).status for gate in (one, other)] == [200, 200]
    store.down = verb
    with pytest.raises(UnavailableError):
        await one.pause_anonymous()
    store.down = ""
    await one.resume_anonymous()
    assert [(await visit(gate)).status for gate in (one, other)] == [200, 200]


class BoundLimit(Losing):
    """A store that counts what is written at once."""

    under_way = most = 0

    async def reserve(self, *wanted: Any, **options: Any) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(1)
        self.under_way -= 1
        return await super().reserve(*wanted, **options)


@pytest.mark.parametrize("loses", [True, False])
def test_visitors_have_the_store_told_once(loses: bool) -> None:
    """However many come at once while it must be told that the entrance is closed: what they cause
    takes one place of the operators' at most, and `gate.sessions()` has room.
    """

    async def story() -> None:
        store = BoundLimit(monotonic=seconds)
        gate = open_gate(store=store)
        if loses:
            await gate.pause_anonymous()
            store.lose()
        else:
            store.down = "look"
            with pytest.raises(UnavailableError):
                await gate.pause_anonymous()
            store.down = ""
        store.most = 0
        told = await asyncio.gather(*(visit(gate) for _ in range(100)))
        assert {answer.json()["code"] for answer in told} == {"anonymous_paused"}
        assert store.most == 1
        store.down, gate = "reserve", open_gate(store=store)
        with pytest.raises(UnavailableError):
            await gate.pause_anonymous()
        store.most = 0
        told = await asyncio.gather(*(visit(gate) for _ in range(100)))
        assert {answer.status for answer in told} == {503}
        assert store.most == 1

    in_fast_time(story())


def test_opening_after_a_closing_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    """What an operator did last counts, in whatever process: a closing that the store never heard
    of closes nothing that was opened hours later. A store that lost its data opened nothing.
    """

    async def story() -> None:
        store = Losing(monotonic=seconds)
        one, other = (open_gate(store=store) for _ in range(2))
        for opens in (True, False):
            await other.resume_anonymous()
            await asyncio.sleep(60)
            store.down = "look"
            with pytest.raises(UnavailableError):
                await one.pause_anonymous()
            store.down = ""
            await other.pause_anonymous()
            assert (await visit(other)).json()["code"] == "anonymous_paused"
            await asyncio.sleep(8 * 3600)
            if opens:
                await other.resume_anonymous()
                assert [(await visit(gate)).status for gate in (one, other)] == [200, 200]
                assert "could not tell the store" not in caplog.text
        assert [(await visit(gate)).status for gate in (one, other)] == [403, 403]
        assert "gate.pause_anonymous() could not tell the store 28800 s ago" in caplog.text

    caplog.set_level("WARNING")
    in_fast_time(story())


async def test_ticket_ends_where_its_person_has_no_limits(me: Any) -> None:
    """Nothing counts the person, and nobody goes on in their name all the same."""
    gate = open_gate()
    ticket = (await visit(gate)).header("Xuna-Visitor")
    assert ticket
    old = (b"xuna-visitor", ticket.encode())
    answer = await visit(gate, agent="private", headers=[*me, old])
    assert (answer.status, answer.header("Xuna-Visitor")) == (200, "")
    again = await visit(gate, headers=[old])
    assert (again.status, again.json()["code"]) == (403, "visitor_signed_in")


async def test_closing_while_the_store_is_full() -> None:
    """Strangers may have filled it, and that is when an operator closes."""

    class Full(MemoryStore):
        async def reserve(self, wanted: Any, *further: Any, **options: Any) -> Any:
            if wanted[0][0] == "switches/entrance":
                raise StoreError("the store in memory is full")
            return await super().reserve(wanted, *further, **options)

    gate = open_gate(store=Full())
    assert (await visit(gate)).status == 200
    with pytest.raises(UnavailableError):
        await gate.pause_anonymous()
    assert (await visit(gate)).status == 503
    assert (await ask(gate, "/agents")).status == 503


async def test_closed_entrance_lists_no_agents(me: Any) -> None:
    """There are none that a visitor may use."""
    gate = open_gate()
    await gate.pause_anonymous()
    assert (await ask(gate, "/agents")).json() == {"agents": []}
    assert len((await ask(gate, "/agents", headers=me)).json()["agents"]) == 2


async def test_switch_without_an_entrance() -> None:
    """There is nothing to close."""
    with pytest.raises(ConfigurationError, match="anonymous=True"):
        await make_gate().pause_anonymous()


async def left(gate: XunaGate, headers: Any) -> int:
    """Return what is left of a caller's first limit."""
    answer = await ask(gate, "/agents", headers=headers)
    return int(answer.json()["agents"][0]["limits"][0]["left"])


class TestUpgrade:
    """Who signs in keeps what they spent."""

    async def test_neither_lost_nor_doubled(self, me: Any) -> None:
        """Three as a visitor and one as themselves are four, and stay theirs."""
        gate = open_gate(Limit("6/hour"), DAILY)
        ticket = ticket_of(await visit(gate))
        for _ in range(2):
            await visit(gate, ticket)
        assert await left(gate, me) == 6
        assert (await visit(gate, ticket, headers=me)).status == 200
        assert await left(gate, me) == 2
        assert (await visit(gate, ticket, headers=me)).status == 200
        assert await left(gate, me) == 1
        assert (await visit(gate, headers=me)).status == 200
        assert await left(gate, me) == 0
        assert (await visit(gate, ticket, headers=me)).status == 429

    async def test_browser_forgets_the_ticket(self, me: Any) -> None:
        """Whoever signs out again is somebody new, and the person keeps what is theirs."""
        gate = open_gate(Limit("2/hour"), DAILY)
        ticket = ticket_of(await visit(gate))
        answer = await visit(gate, ticket, headers=me)
        assert answer.status == 200
        assert answer.header("Xuna-Visitor") == ""
        assert re.fullmatch(
            rf"{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure",
            answer.header("Set-Cookie") or "",
        )
        assert (await visit(gate, headers=me)).header("Set-Cookie") is None, "nothing to forget"
        assert ticket_of(await visit(gate))
        assert await left(gate, me) == 0

    async def test_store_that_fails_at_the_move(self, me: Any) -> None:
        """Nothing moves, and the browser keeps its ticket until what was spent has moved."""

        class Failing(MemoryStore):
            fails = True

            async def move(self, *about: Any) -> Any:
                if self.fails:
                    raise StoreError("the store does not answer")
                return await super().move(*about)

        store = Failing()
        gate = open_gate(Limit("5/hour"), DAILY, store=store)
        ticket = ticket_of(await visit(gate))
        kept = await visit(gate, ticket, headers=me)
        assert (kept.status, kept.header("Set-Cookie")) == (200, None)
        assert await left(gate, me) == 4
        assert (await visit(gate, ticket)).status == 200
        store.fails = False
        assert (await visit(gate, ticket, headers=me)).header("Xuna-Visitor") == ""
        assert await left(gate, me) == 1

    async def test_ticket_of_somebody_who_is_refused(self, me: Any) -> None:
        """Stays good, and what was spent stays the visitor's: a refusal leaves nothing behind."""
        gate = open_gate(Limit("2/hour"), DAILY)
        ticket = ticket_of(await visit(gate))
        await visit(gate, ticket)
        for _ in range(2):
            refused = await visit(gate, ticket, headers=me)
            assert (refused.status, refused.header("Set-Cookie")) == (429, None)
        assert await left(gate, me) == 2
        assert (await visit(gate, ticket)).status == 429, "known as the same"

    async def test_running_conversation(self, me: Any) -> None:
        """What a visitor began holds the person's slot."""
        gate = open_gate(Concurrent(1), DAILY)
        ticket = ticket_of(await visit(gate))
        assert (await visit(gate, ticket, headers=me)).status == 429

    async def test_another_person_on_the_same_machine(self, me: Any) -> None:
        """What was spent belongs to whoever signed in first."""
        gate = open_gate(Limit("3/hour"), DAILY)
        ticket = ticket_of(await visit(gate))
        await visit(gate, ticket, headers=me)
        other = bearer(RSA.token(good_claims(sub="user-2")))
        await visit(gate, ticket, headers=other)
        assert (await left(gate, me), await left(gate, other)) == (1, 2)

    async def test_forged_ticket_moves_nothing(self, me: Any) -> None:
        """Nobody can burden somebody else, or unburden themselves."""
        gate = open_gate(Limit("3/hour"), DAILY)
        assert (await visit(gate, "x.0.y.z", headers=me)).status == 200
        assert await left(gate, me) == 2


async def test_ticket_that_a_stranger_kept(me: Any) -> None:
    """Spends nothing of the person's, shows nothing of it, and is nobody's any more."""
    events: list[Event] = []
    gate = open_gate(Limit("5/hour"), DAILY, on_event=[events.append])
    ticket = ticket_of(await visit(gate))
    assert (await visit(gate, ticket, headers=me)).status == 200
    for path, method in (("/get-signed-url", "GET"), ("/ticket", "POST")):
        answer = await visit(gate, ticket, path=path, method=method)
        assert (answer.status, answer.json()["code"]) == (403, "visitor_signed_in")
        assert (await visit(gate, ticket_of(answer))).status == 200, "somebody new"
    cookie = [(b"cookie", f"{COOKIE}={ticket}".encode())]
    assert (await ask(gate, "/agents", headers=cookie)).json() == {"agents": []}
    assert await left(gate, me) == 3


async def has_word(connection: HTTPConnection) -> bool:
    """Pass who carries an answer."""
    return "xuna-challenge" in connection.headers


class Mine:
    """A challenge of an operator's that has several settings."""

    def __init__(self, terms: str) -> None:
        self.terms = terms

    async def verify(self, connection: HTTPConnection) -> bool:
        return await has_word(connection)

    def headers(self) -> dict[str, str]:
        return {}


def site(secret: str = "one", hostnames: tuple[str, ...] = ("a.example", "b.example")) -> Any:
    """Return a captcha whose service finds every answer good."""
    good = {"success": True, "hostname": "a.example"}
    answering = httpx.MockTransport(lambda request: httpx.Response(200, json=good))
    return turnstile(secret, hostnames=hostnames, http_transport=answering)


def named(module: str, name: str) -> Any:
    """Return a challenge that is a function of a module and name."""

    async def challenge(connection: HTTPConnection) -> bool:
        return await has_word(connection)

    challenge.__module__, challenge.__qualname__ = module, name
    return challenge


#: Two challenges each that are not the same.
CHANGED: Final[dict[str, tuple[Any, Any]]] = {
    "secret": (site, partial(site, "two")),
    "hostnames": (site, partial(site, hostnames=("a.example",))),
    "no-hostnames": (partial(site, hostnames=()), site),
    "module": (partial(named, "a", "check"), partial(named, "b", "check")),
    "name": (partial(named, "a", "check"), partial(named, "a", "check_more")),
    "partial": (
        lambda: partial(named("a", "check")),
        lambda: partial(named("a", "check_more")),
    ),
    "terms": (partial(Mine, "lax"), partial(Mine, "strict")),
}


@pytest.mark.parametrize(("before", "after"), CHANGED.values(), ids=CHANGED)
async def test_passed_counts_under_this_challenge_only(before: Any, after: Any) -> None:
    """One who passed another challenge passes this one as well, whatever makes it another."""
    store = MemoryStore()

    def gate(challenge: Any) -> XunaGate:
        return open_gate(
            anonymous=AnonymousAccess(secret=SECRET, captcha=challenge, limits=[]), store=store
        )

    answer = (b"xuna-challenge", b"good")
    ticket = ticket_of(await visit(gate(before()), headers=[answer]))
    assert (await visit(gate(before()), ticket)).status == 200, "another worker"
    assert (await visit(gate(after()), ticket)).status == 403


@pytest.mark.parametrize("terms", ["", 7, None, "x" * 1025])
def test_terms_that_are_none(terms: Any) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="terms"):
        open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=Mine(terms)))


class TestChallenge:
    """A hook between the rule and the limits."""

    async def test_function(self) -> None:
        """True lets in and is remembered; nothing is counted for who fails."""
        asked: list[str | None] = []

        async def by_word(connection: HTTPConnection) -> bool:
            asked.append(connection.headers.get("xuna-challenge"))
            return asked[-1] == "sesame"

        platform = CountedPlatform()
        gate = open_gate(
            Limit("2/hour", per="all"),
            anonymous=AnonymousAccess(secret=SECRET, captcha=by_word),
            platform=platform,
        )
        for word in (b"", b"simsim", b"sesam"):
            answer = await visit(gate, headers=[(b"xuna-challenge", word)])
            assert (answer.status, answer.json()["code"]) == (403, "challenge_required")
            assert answer.header("Xuna-Visitor") is None
        assert not platform.requests
        answer = await visit(gate, headers=[(b"xuna-challenge", b"sesame")])
        assert answer.status == 200
        assert (await visit(gate, ticket_of(answer))).status == 200, "not asked again"
        assert len(asked) == 4

    async def test_pass_that_ends_while_the_platform_answers(self) -> None:
        """Is not renewed by that: only a solved challenge makes one."""
        clock, slow = Clock(), CountedPlatform()

        def late(request: httpx.Request) -> httpx.Response:
            clock.now += 30
            return slow.handle(request)

        async def by_word(connection: HTTPConnection) -> bool:
            return "xuna-challenge" in connection.headers

        platform = XunaPlatform(API_KEY, http_transport=httpx.MockTransport(late))
        terms = AnonymousAccess(secret=SECRET, captcha=by_word, captcha_seconds=45)
        gate = open_gate(anonymous=terms, platform=platform)
        turn(gate, clock)
        ticket = ticket_of(await visit(gate, headers=[(b"xuna-challenge", b"solved")]))
        again = await visit(gate, ticket)
        assert (again.status, again.header("Xuna-Visitor")) == (200, None)
        assert (await visit(gate, ticket)).status == 403

    async def test_solved_and_then_refused(self) -> None:
        """Solved is solved: the ticket comes with the refusal, so nobody is asked twice."""
        asked: list[str] = []

        async def challenge(connection: HTTPConnection) -> bool:
            asked.append("once")
            return True

        platform = CountedPlatform()
        broken = XunaPlatform(
            API_KEY, http_transport=httpx.MockTransport(lambda request: httpx.Response(500))
        )
        gate = open_gate(
            anonymous=AnonymousAccess(secret=SECRET, captcha=challenge), platform=broken
        )
        failed = await visit(gate)
        assert failed.status in (502, 503)
        with gate.overridden(platform=platform.client()):
            assert (await visit(gate, ticket_of(failed))).status == 200
        limits = [Limit("1/hour", per="address")]
        gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=challenge, limits=limits))
        assert (await visit(gate)).status == 200
        refused = await visit(gate)
        assert refused.status == 429
        assert (await visit(gate, ticket_of(refused))).status == 429
        assert len(asked) == 3

    async def test_work_at_several_workers(self) -> None:
        """They share secret and store of the gate, so a puzzle is good at each, and once."""
        store = MemoryStore()
        old, new = "o" * 43, "n" * 43
        one, other, later = (
            open_gate(
                anonymous=AnonymousAccess(secret=secrets, captcha=ProofOfWork(6)), store=store
            )
            for secrets in ([old], [old], [new, old])
        )
        answers = []
        for gate in (other, later):
            solution = solved((await visit(one)).header("Xuna-Challenge") or "")
            headers = [(b"xuna-challenge", solution.encode())]
            answers += [(await visit(each, headers=headers)).status for each in (gate, one)]
        assert answers == [200, 403, 200, 403]
        stranger = open_gate(anonymous=AnonymousAccess(secret="x" * 43, captcha=ProofOfWork(6)))
        solution = solved((await visit(stranger)).header("Xuna-Challenge") or "")
        refused = await visit(one, headers=[(b"xuna-challenge", solution.encode())])
        assert refused.status == 403

    async def test_work_with_a_secret_and_store_of_its_own(self) -> None:
        """Is what its author said, and not the gate's."""
        secret, store = "w" * 43, MemoryStore()
        gates = [
            open_gate(
                anonymous=AnonymousAccess(
                    secret=SECRET, captcha=ProofOfWork(6, secret=secret, store=store)
                )
            )
            for _ in range(2)
        ]
        solution = solved((await visit(gates[0])).header("Xuna-Challenge") or "")
        headers = [(b"xuna-challenge", solution.encode())]
        assert [(await visit(gate, headers=headers)).status for gate in gates] == [200, 403]

    async def test_closed_entrance_asks_nobody(self) -> None:
        """A service's answer is good once, and its time is not ours to waste."""

        async def challenge(connection: HTTPConnection) -> bool:
            raise AssertionError("nobody asks while it is closed")

        gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=challenge))
        await gate.pause_anonymous()
        assert (await visit(gate)).json()["code"] == "anonymous_paused"

    async def test_signed_in_callers_are_not_asked(self, me: Any) -> None:
        """It is for visitors."""
        gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=never))
        assert (await visit(gate, headers=me)).status == 200
        assert (await visit(gate)).status == 403

    @pytest.mark.parametrize("told", [None, 1, "yes", [True]])
    async def test_anything_but_true_refuses(self, told: Any) -> None:
        """A hook never admits by accident."""

        async def odd(connection: HTTPConnection) -> bool:
            return told  # type: ignore[no-any-return]

        gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=odd))
        assert (await visit(gate)).status == 403

    async def test_hook_that_fails(self) -> None:
        """Its fault is no verdict: 503."""

        async def broken(connection: HTTPConnection) -> bool:
            raise LookupError("of the user's own")

        gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=broken))
        assert (await visit(gate)).status == 503

    async def test_proof_of_work(self) -> None:
        """The refusal carries a puzzle; its solution is taken once."""
        gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=ProofOfWork(8)))
        refused = await visit(gate)
        assert refused.status == 403
        solution = solved(refused.header("Xuna-Challenge") or "")
        headers = [(b"xuna-challenge", solution.encode())]
        answer = await visit(gate, headers=headers)
        assert answer.status == 200
        assert (await visit(gate, headers=headers)).status == 403, "taken once"
        assert (await visit(gate, ticket_of(answer))).status == 200, "passed"


async def never(connection: HTTPConnection) -> bool:
    return False


def solved(header: str) -> str:
    """Do the work that a page would do."""
    match = re.fullmatch(r"work;bits=(\d+);puzzle=([\w-]+)", header)
    assert match
    bits, puzzle = int(match[1]), match[2]
    number = 0
    while int.from_bytes(hashlib.sha256(f"{puzzle}.{number}".encode()).digest()) >> (256 - bits):
        number += 1
    return f"{puzzle}.{number}"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"max_duration": None}, "max_duration=180"),
        ({"anonymous": 1}, "True or False"),
    ],
)
def test_anonymous_agents_that_make_no_sense(options: dict[str, Any], hint: str) -> None:
    """What strangers start must have an end."""
    with pytest.raises(ConfigurationError, match=hint):
        Agent("faq", id="agent_1", **{"anonymous": True, "max_duration": 60, **options})


@pytest.mark.parametrize(
    "limits",
    [
        [],
        [Limit("9/day")],
        [Limit("9/day", per="address")],
        [Concurrent(9, per="all")],
        [Limit("9/day", per="all", on_unavailable="allow")],
    ],
)
def test_visitors_without_a_common_budget(limits: Any) -> None:
    """A crowd may come, and what it costs must have an end."""
    agents = [Agent("faq", id="agent_1", anonymous=True, max_duration=60, limits=limits)]
    with pytest.raises(ConfigurationError, match="all visitors together"):
        make_gate(agents=agents)
    shared = [Limit("9/day", per="all")]
    make_gate(agents=agents, limits=shared)
    make_gate(agents=agents, anonymous=AnonymousAccess(limits=shared))


@pytest.mark.parametrize("per", ["client", claim("tenant"), ("address", "client")])
def test_limits_that_refuse_every_visitor(per: Any) -> None:
    """They have no client and no claims: told when the gate is built."""
    with pytest.raises(ConfigurationError, match="what no visitor has"):
        open_gate(limits=[Limit("9/day", per=per)])
    with pytest.raises(ConfigurationError, match="what no visitor has"):
        open_gate(DAILY, Limit("9/day", per=per))
    open_gate(limits=[Limit("9/day", per=claim("tenant", default="nobody"))])


@pytest.mark.parametrize(
    "options",
    [
        {"secret": "short"},
        {"secret": ["", SECRET]},
        {"secret": [SECRET, "short"]},
        {"secret": 7},
        {"limits": "10/hour"},
        {"captcha": "turnstile"},
        {"captcha": ProofOfWork},
        {"captcha": lambda connection: True},
        {"captcha_seconds": 0},
        {"captcha_seconds": 1.5},
        {"token_seconds": -1},
        {"token_seconds": True},
    ],
)
def test_terms_that_make_no_sense(options: dict[str, Any]) -> None:
    """Refused when they are written, or when the gate is built."""
    with pytest.raises(ConfigurationError):
        open_gate(anonymous=AnonymousAccess(**options))


def test_terms_without_an_open_agent() -> None:
    """They would say nothing."""
    with pytest.raises(ConfigurationError, match="anonymous=True"):
        make_gate(anonymous=AnonymousAccess())


def test_gate_for_visitors_only() -> None:
    """Needs no verifier; with a private agent beside it does."""
    public = Agent("faq", id="agent_1", anonymous=True, max_duration=60, limits=[DAILY])
    XunaGate(agents=[public])
    with pytest.raises(ConfigurationError, match="who calls"):
        XunaGate(agents=[public, Agent("private", id="agent_2")])


def test_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read where none was given; shown nowhere."""
    monkeypatch.setenv("XUNA_ANONYMOUS_SECRET", SECRET)
    visitors = AnonymousAccess()
    assert visitors.secret == (SECRET,)
    assert SECRET not in repr(visitors)
    assert SECRET not in repr(AnonymousTokens([SECRET], seconds=60))


async def test_made_up_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Several workers would not know each other's visitors."""
    async with open_gate(anonymous=AnonymousAccess()):
        pass
    assert "XUNA_ANONYMOUS_SECRET" in caplog.text
