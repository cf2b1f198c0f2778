"""Two gates on one store: apart by their names, in everything; and with one name, each takes only
tickets of issuers that it has verifiers for.
"""

import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import pytest
from starlette.requests import HTTPConnection
from stores.redis_server import RedisServer, running_redis
from support.conversations import Conversations, issue
from support.conversations import left as left_of
from support.deliveries import HEADER, signature, transcript
from support.deliveries import SECRET as HOOK
from support.doubles import (
    ask,
    bearer,
    echo_app,
    knock,
    make_gate,
    make_verifier,
)
from support.relay_stage import agent as relayed
from support.relay_stage import boss, on_stage
from support.signing import EC, ISSUER, NOW, RSA, good_claims, proof, thumbprint
from support.talking import talking

from xuna_middleware import (
    Agent,
    AnonymousAccess,
    Concurrent,
    ConfigurationError,
    Credentials,
    DPoP,
    Event,
    Identity,
    Limit,
    MemoryStore,
    PostCallWebhook,
    ProofOfWork,
    RedisStore,
    TalkTime,
    TenantVerifiers,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.identity.protocols import MAX_TOKEN_SECONDS
from xuna_middleware.identity.proxies.authenticators import ProxyAuthenticator
from xuna_middleware.stores import Store
from xuna_middleware.stores.protocol import Region, Wanted

THEIRS: Final = "https://theirs.example.com"
PUBLIC: Final = "https://acme.com/xuna"
SECRET: Final = "s" * 43
PAGE: Final = [
    (b"sec-fetch-site", b"same-origin"),
    (b"sec-fetch-dest", b"empty"),
]
SUBJECT: Final = good_claims()["sub"]

Make = Callable[[str], Store]


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def store_of(request: pytest.FixtureRequest, redis: RedisServer) -> AsyncIterator[Make]:
    """Return what makes a gate's store from its name; one name in memory is one object."""
    made: dict[str, Store] = {}
    test = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    stores: list[Store] = []

    def make(name: str) -> Store:
        if request.param == "memory":
            return made.setdefault(name, MemoryStore(namespace=name))
        stores.append(RedisStore(redis.url, namespace=f"{name}-{test}", timeout=10))
        return stores[-1]

    yield make
    for store in stores:
        await store.aclose()


def ours(store: Store, **options: Any) -> XunaGate:
    return make_gate(**{"verifier": make_verifier(), "store": store, **options})


def theirs(store: Store, **options: Any) -> XunaGate:
    return make_gate(**{"verifier": make_verifier(issuer=THEIRS), "store": store, **options})


async def ticket_of(gate: XunaGate, headers: Any = None, **scope: Any) -> str:
    headers = bearer(RSA.token()) if headers is None else headers
    answer = await ask(gate, "/ticket", method="POST", headers=headers, **scope)
    assert answer.status == 200, answer.body
    ticket: str = answer.json()["ticket"]
    return ticket


async def opens(gate: XunaGate, ticket: str) -> bool:
    """Tell whether a ticket opens a protected WebSocket behind a gate."""
    app = XunaMiddleware(echo_app, gate, protect=["/talk"])
    sent = await knock(app, "/talk", query=f"ticket={ticket}".encode())
    return bool(sent[0]["type"] == "websocket.accept")


def visited(**options: Any) -> dict[str, Any]:
    """Return the options of a gate with one agent that visitors may use."""
    budget = [Limit("100/day", per="all")]
    agent = Agent("support", id="agent_1", anonymous=True, max_duration=60, limits=budget)
    return {"agents": [agent], "anonymous": AnonymousAccess(secret=SECRET, **options)}


# Tickets


async def test_ticket_of_a_gate_of_another_name(store_of: Make) -> None:
    """It is unknown there, though the issuer is the same, and good at home afterwards."""
    here, there = ours(store_of("here")), ours(store_of("there"))
    ticket = await ticket_of(here)
    assert not await opens(there, ticket)
    assert await opens(here, ticket)


async def test_ticket_of_an_issuer_that_the_other_gate_cannot_verify(
    store_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """One name, and still: 401, and the log names the issuer and the option. It is used up."""
    here, there = ours(store_of("one")), theirs(store_of("one"))
    ticket = await ticket_of(here)
    with caplog.at_level(logging.WARNING):
        assert not await opens(there, ticket)
    assert f"no verifier= here verifies the issuer '{ISSUER}'" in caplog.text
    assert "RedisStore(namespace=" in caplog.text
    assert "refused 401" in caplog.text
    assert ticket not in caplog.text
    assert not await opens(here, ticket)


@pytest.mark.parametrize("options", [{"audience": "other"}, {"dpop": "required"}])
async def test_only_issuers_are_compared(store_of: Make, options: dict[str, Any]) -> None:
    """SECURITY.md says so: another verifier of the issuer may refuse the token itself."""
    ticket = await ticket_of(ours(store_of("acme")))
    strict = make_verifier(**options)
    gate = make_gate(verifier=strict, store=store_of("acme"), public_url=PUBLIC)
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 401
    assert await opens(gate, ticket)


async def test_ticket_of_an_issuer_that_both_gates_verify(store_of: Make) -> None:
    """Gates that mean to share: the same name, and a verifier for it, alone or among others."""
    here = ours(store_of("one"))
    both = make_gate(
        verifier=[make_verifier(), make_verifier(issuer=THEIRS)], store=store_of("one")
    )
    assert await opens(both, await ticket_of(here))
    assert await opens(ours(store_of("one")), await ticket_of(here))


@pytest.mark.parametrize("is_known", [True, False])
async def test_ticket_of_a_tenant(store_of: Make, is_known: bool) -> None:
    """Tenants: whoever the function knows."""
    known = {ISSUER: make_verifier()} if is_known else {}
    there = make_gate(verifier=TenantVerifiers(known.get), store=store_of("one"))
    assert await opens(there, await ticket_of(ours(store_of("one")))) is is_known


async def test_ticket_of_a_tenant_that_cannot_be_looked_up_now(store_of: Make) -> None:
    """A 503 uses no ticket up: it opens once, as soon as the tenant is found."""
    now, down = [0.0], [True]

    def resolve(issuer: str) -> Any:
        if down:
            raise OSError("the table is away")
        return make_verifier()

    tenants = TenantVerifiers(resolve, monotonic=lambda: now[0])
    there = make_gate(verifier=tenants, store=store_of("one"))
    ticket = await ticket_of(ours(store_of("one")))
    assert not await opens(there, ticket)
    down.clear()
    now[0] += 2
    assert await opens(there, ticket)
    assert not await opens(there, ticket)


async def test_ticket_of_a_verifier_that_says_no_issuer() -> None:
    """One of a user's with `verify` alone: its tickets are good at its own gate."""

    class Bare:
        async def verify(self, credentials: Credentials) -> Identity:
            return Identity(subject="anna", issuer="own")

    gate = make_gate(verifier=Bare())
    assert await opens(gate, await ticket_of(gate))


async def anna(connection: HTTPConnection) -> Identity | None:
    return Identity(subject="anna", issuer=ISSUER)


async def test_ticket_that_an_authenticator_vouched_for(
    store_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A gate without one doesn't take it, though a verifier of its has that issuer."""
    here = ours(store_of("one"), authenticator=anna, public_url=PUBLIC)
    there = ours(store_of("one"))
    assert not await opens(there, await ticket_of(here, PAGE))
    assert "this gate has no authenticator=" in caplog.text
    assert await opens(here, await ticket_of(here, PAGE))


def proxied(store: Store, issuer: str) -> XunaGate:
    proxy = ProxyAuthenticator("X-Assertion", make_verifier(issuer=issuer))
    return ours(store, authenticator=proxy, public_url=PUBLIC)


async def test_ticket_of_an_issuer_that_the_other_authenticator_does_not_declare(
    store_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """Both gates have an authenticator: 401 where the other one's is of another issuer."""
    here, there = proxied(store_of("one"), ISSUER), proxied(store_of("one"), THEIRS)
    signed_in = [*PAGE, (b"x-assertion", RSA.token().encode())]
    assert not await opens(there, await ticket_of(here, signed_in))
    assert f"a caller of '{ISSUER}', which is none" in caplog.text
    assert await opens(here, await ticket_of(here, signed_in))
    undeclared = ours(store_of("one"), authenticator=anna, public_url=PUBLIC)
    assert await opens(undeclared, await ticket_of(here, signed_in))


async def test_ticket_of_a_visitor(store_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    """A gate without visitors doesn't take it; one with them does, where the ticket leads."""
    here, there = ours(store_of("one"), **visited()), ours(store_of("one"))
    assert not await opens(there, await ticket_of(here, PAGE))
    assert "no agent of this gate has anonymous=True" in caplog.text


async def test_ticket_of_a_visitor_who_passed_another_challenge(
    store_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A ticket stands for its gate's challenge; a gate with another one asks for its own."""
    lax = ours(store_of("one"), **visited())
    strict = ours(store_of("one"), **visited(captcha=ProofOfWork(20)))
    assert not await opens(strict, await ticket_of(lax, PAGE))
    assert "AnonymousAccess(captcha=…) differs here" in caplog.text


async def test_ticket_for_an_agent_that_the_other_gate_lacks(
    store_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """The name of the agent must be one of this gate's."""
    there = ours(store_of("one"), agents=[Agent("sales", id="agent_2")])
    assert not await opens(there, await ticket_of(ours(store_of("one"))))
    assert "for the agent 'support'" in caplog.text


async def test_ticket_that_the_app_vouched_for(
    store_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """`gate.issue()` for an identity of the app's: good at this gate and its like only."""

    def front(store: Store, **options: Any) -> XunaGate:
        agents = [Agent("support", id="agent_1", transports=("relay",))]
        return make_gate(agents=agents, public_url=PUBLIC, store=store, **options)

    async def issued(gate: XunaGate) -> str:
        who = Identity(subject="anna", issuer="app")
        signed: Any = await gate.issue(who, transport="websocket")
        return str(signed.url).partition("ticket=")[2]

    here = front(store_of("one"))
    assert await opens(here, await issued(here))
    assert await opens(front(store_of("one")), await issued(here))
    for options in (
        {"verifier": make_verifier(issuer=THEIRS)},
        {"verifier": make_verifier(), "authenticator": anna},
    ):
        caplog.clear()
        assert not await opens(front(store_of("one"), **options), await issued(here))
        assert "gate.issue() made it" in caplog.text
    for issuer, is_good in ((ISSUER, True), (THEIRS, False)):
        proxies = [ProxyAuthenticator("X", make_verifier(issuer=each)) for each in (ISSUER, issuer)]
        ticket = await issued(front(store_of("one"), authenticator=proxies[0]))
        other = front(store_of("one"), authenticator=proxies[1])
        assert await opens(other, ticket) is is_good


async def test_ticket_that_says_nothing_of_its_origin() -> None:
    """What another version kept is refused, and nothing fails."""
    store = MemoryStore()
    gate = ours(store)
    ticket = await ticket_of(gate)
    key = "ticket:" + hashlib.sha256(ticket.encode()).hexdigest()
    members = json.loads(await store.take(key) or b"")
    for voucher in (None, "operator", ["verifier"]):
        await store.put(
            key, json.dumps({**members, "voucher": voucher}).encode(), 60, Region.TICKETS
        )
        assert not await opens(gate, ticket)
    await store.put(key, json.dumps(members).encode(), 60, Region.TICKETS)
    assert await opens(gate, ticket)


async def test_ticket_at_the_relay(store_of: Make) -> None:
    """The relay takes none for an agent that this gate lacks, and asks the platform for nothing."""
    sales = Agent("sales", id="agent_2", transports=("relay",))
    async with (
        on_stage(relayed(), store=store_of("one")) as here,
        on_stage(sales, store=store_of("one")) as there,
    ):
        ticket = await here.ticket()
        async with talking(there.app, query=f"ticket={ticket}") as talk:
            assert (await talk.refusal()).status == 401
        assert there.untouched


# What else a store holds


async def left(gate: XunaGate) -> int:
    answer = await ask(gate, "/agents", headers=bearer(RSA.token()))
    limits = answer.json()["agents"][0]["limits"]
    return int(limits[0]["left"])


@pytest.mark.parametrize(("other", "expected"), [("there", 9), ("here", 8)])
async def test_limits(store_of: Make, other: str, expected: int) -> None:
    """Counted by each gate for itself, by one name together."""
    options: dict[str, Any] = {"limits": [Limit("9/day")]}
    here, there = ours(store_of("here"), **options), ours(store_of(other), **options)
    assert (await ask(here, headers=bearer(RSA.token()))).status == 200
    assert await left(there) == expected


async def retry_after(gate: XunaGate) -> int:
    """Return for how many seconds a caller is refused."""
    answer = await ask(gate, headers=bearer(RSA.token(good_claims(sub="user-1"))))
    assert answer.status == 429
    return int(answer.header("Retry-After") or "")


async def test_slots_of_gates_that_last_differently(store_of: Make) -> None:
    """One name, and a deploy that lowers `max_duration`: whoever takes a short slot, or is refused
    one, ends no long one early.
    """
    long, short = (
        Conversations(issued=first).gate(
            Concurrent(3), store=store_of("acme"), max_duration=max_duration
        )
        for first, max_duration in ((0, 7200), (100, 60))
    )
    assert [await issue(gate) for gate in (long, long, short)] == [200, 200, 200]
    assert await short.settle("conv_101", 5)
    assert [await issue(gate) for gate in (long, short)] == [200, 429]
    assert await retry_after(long) > 7200


async def test_named_limits_with_other_windows(store_of: Make) -> None:
    """They count apart: neither ends the other's window."""
    day, hour = (
        Conversations().gate(Limit(f"1/{window}", name="visits"), store=store_of("acme"))
        for window in ("day", "hour")
    )
    assert [await issue(gate) for gate in (day, hour, hour)] == [200, 200, 429]
    assert await retry_after(day) > 3700


@pytest.mark.parametrize(("other", "expected"), [("there", 200), ("here", 401)])
async def test_revocations(
    store_of: Make, other: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is revoked at one gate is not at another, unless they say one name."""
    monkeypatch.setattr("time.time", lambda: NOW + 1.0)
    here, there = ours(store_of("here")), ours(store_of(other))
    await here.revoke(ISSUER, SUBJECT)
    assert (await ask(here, headers=bearer(RSA.token()))).status == 401
    assert (await ask(there, headers=bearer(RSA.token()))).status == expected


async def test_revocation_without_end(store_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest that an API key asks for, in both stores."""
    monkeypatch.setattr("time.time", lambda: NOW + 1.0)
    gate = ours(store_of("here"))
    await gate.revoke(ISSUER, SUBJECT, seconds=MAX_TOKEN_SECONDS)
    await gate.revoke(ISSUER, SUBJECT)
    assert (await ask(gate, headers=bearer(RSA.token()))).status == 401


@pytest.mark.parametrize("other", ["there", "here"])
async def test_sessions(store_of: Make, other: str) -> None:
    """An operator sees and ends the conversations of a gate's own name alone."""
    async with (
        on_stage(relayed(), operators=boss, store=store_of("here")) as here,
        on_stage(relayed(), operators=boss, store=store_of(other)) as there,
        talking(here.app, headers=here.sign_in()) as talk,
    ):
        await talk.begin()
        await talk.heard("agent_response")
        (session,) = await here.gate.sessions()
        seen = (await there.ask("/sessions", there.sign_in("boss"))).json()["sessions"]
        path = f"/sessions/{session.id}"
        ended = await there.ask(path, there.sign_in("boss"), method="DELETE")
        if other == "there":
            assert (seen, ended.status) == ([], 404)
            await there.gate.revoke(session.issuer, session.subject)
            assert len(await here.gate.sessions()) == 1
            await here.gate.end_session(session.id)
        else:
            assert ([each["id"] for each in seen], ended.status) == ([session.id], 202)
        assert await talk.ending() == (4412, "ended_by_operator")


@pytest.mark.parametrize(("other", "expected"), [("there", 200), ("here", 403)])
async def test_the_visitors_door(store_of: Make, other: str, expected: int) -> None:
    """A closed entrance is the gate's own."""
    here, there = ours(store_of("here"), **visited()), ours(store_of(other), **visited())
    await here.pause_anonymous()
    assert (await ask(here, headers=PAGE)).status == 403
    assert (await ask(there, headers=PAGE)).status == expected


@pytest.mark.parametrize(("other", "expected"), [("there", 200), ("here", 401)])
async def test_used_proofs(store_of: Make, other: str, expected: int) -> None:
    """A proof is good once for each gate's name (and binds to each gate's address anyway)."""
    options: dict[str, Any] = {
        "verifier": make_verifier(dpop="required"),
        "public_url": PUBLIC,
    }
    here, there = ours(store_of("here"), **options), ours(store_of(other), **options)
    token = RSA.token(good_claims(cnf={"jkt": thumbprint(EC.jwk)}))
    made = proof(EC, token, f"{PUBLIC}/get-signed-url", jti="once")
    headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
    assert (await ask(here, headers=headers)).status == 200
    assert (await ask(there, headers=headers)).status == expected


@pytest.mark.parametrize(("other", "expected"), [("there", [60]), ("here", [93])])
async def test_notes_of_reservations(store_of: Make, other: str, expected: list[int]) -> None:
    """What settles conversations at one gate settles none of another."""
    minutes = TalkTime("2 minutes/day")
    here = Conversations().gate(minutes, store=store_of("here"))
    there = Conversations().gate(minutes, store=store_of(other))
    assert await issue(here) == 200
    assert await there.settle("conv_1", 27) is (other == "here")
    assert await left_of(here) == expected


@pytest.mark.parametrize(("other", "expected"), [("there", "settled"), ("here", "a duplicate")])
async def test_webhooks_that_came_before(store_of: Make, other: str, expected: str) -> None:
    """A delivery that one gate took is no duplicate at another."""
    events: list[Event] = []
    options: dict[str, Any] = {"webhook": PostCallWebhook(secret=HOOK, clock=lambda: NOW)}
    hour = TalkTime("1 hour/day")
    here = Conversations().gate(hour, store=store_of("here"), **options)
    there = Conversations().gate(hour, store=store_of(other), on_event=[events.append], **options)
    assert [await issue(here), await issue(there)] == [200, 200]
    for gate in (here, there):
        body = transcript()
        headers = [(HEADER.encode(), signature(body).encode())]
        path = "/webhooks/post-call"
        answer = await ask(gate, path, method="POST", headers=headers, body=body)
        assert answer.status == 200
    assert events[-1].cause == expected


# What gates sign with one secret


async def test_visitors_of_another_gate() -> None:
    """XUNA_ANONYMOUS_SECRET may be the same: a visitor's ticket names its gate by its signature, so
    that a challenge passed there is not passed here.
    """

    async def refuses(connection: HTTPConnection) -> bool:
        return False

    class Switched:
        """A challenge that is passed or not, as the test says."""

        good = True

        async def verify(self, connection: HTTPConnection) -> bool:
            return self.good

        def headers(self) -> dict[str, str]:
            return {}

    def gate(name: str, challenge: Any) -> XunaGate:
        return make_gate(store=MemoryStore(namespace=name), **visited(captcha=challenge))

    one, other = Switched(), Switched()
    lax = gate("lax", one)
    ticket = (await ask(lax, headers=PAGE)).header("xuna-visitor") or ""
    shown = [*PAGE, (b"xuna-visitor", ticket.encode())]
    one.good = other.good = False
    assert (await ask(lax, headers=shown)).status == 200
    assert (await ask(gate("lax", other), headers=shown)).status == 200, "another worker"
    assert (await ask(gate("other", other), headers=shown)).status == 403
    assert (await ask(gate("lax", refuses), headers=shown)).status == 403, "another challenge"


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_cookies_of_two_gates_on_one_host(scheme: str) -> None:
    """A browser keeps one cookie of a name for a host: each gate knows its own visitors again."""
    limits = [Limit("2/hour"), Limit("1000/day", per="all")]
    jar: dict[str, str] = {}

    async def go(gate: XunaGate) -> int:
        cookies = "; ".join(f"{name}={value}" for name, value in jar.items())
        answer = await ask(gate, headers=[*PAGE, (b"cookie", cookies.encode())], scheme=scheme)
        name, _, value = (answer.header("set-cookie") or "").partition(";")[0].partition("=")
        if name:
            assert name.startswith("__Host-xuna_visitor_" if scheme == "https" else "xuna_visitor_")
            jar[name] = value
        return answer.status

    sales, help_desk = (
        make_gate(store=MemoryStore(namespace=name), **visited(limits=limits))
        for name in ("sales", "help")
    )
    told = [await go(gate) for _ in range(3) for gate in (sales, help_desk)]
    assert (told, len(jar)) == ([200] * 4 + [429] * 2, 2)


@pytest.mark.parametrize("own", [True, False])
async def test_puzzles_of_another_gate(own: bool) -> None:
    """One secret and two gates: a puzzle is solved for the gate that made it, and once."""

    def gate(name: str) -> XunaGate:
        work = ProofOfWork(4, secret=SECRET) if own else ProofOfWork(4)
        return make_gate(store=MemoryStore(namespace=name), **visited(captcha=work))

    here, there = gate("here"), gate("there")
    challenge = (await ask(here, headers=PAGE)).header("xuna-challenge") or ""
    puzzle = challenge.partition("puzzle=")[2]
    number = 0
    while hashlib.sha256(f"{puzzle}.{number}".encode()).digest()[0] >> 4:
        number += 1
    solved = [*PAGE, (b"xuna-challenge", f"{puzzle}.{number}".encode())]
    assert (await ask(there, headers=solved)).status == 403
    assert (await ask(here, headers=solved)).status == 200
    assert (await ask(here, headers=solved)).status == 403


@pytest.mark.parametrize("nonce_secrets", [(), ("n" * 32,)])
@pytest.mark.parametrize("differs", ["name", "address"])
async def test_nonces_of_another_gate(nonce_secrets: tuple[str, ...], differs: str) -> None:
    """In one process, or with the same secrets: a nonce is the gate's that made it."""
    option = DPoP(mode="required", nonce=True, nonce_secrets=nonce_secrets)
    token = RSA.token(good_claims(cnf={"jkt": thumbprint(EC.jwk)}))

    def gate(name: str, address: str) -> XunaGate:
        store = MemoryStore(namespace=name)
        return make_gate(verifier=make_verifier(dpop=option), public_url=address, store=store)

    async def shown(gate: XunaGate, address: str, **claims: Any) -> Any:
        made = proof(EC, token, f"{address}/get-signed-url", **claims)
        headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
        return await ask(gate, headers=headers)

    other = PUBLIC if differs == "name" else "https://other.example.com/xuna"
    here = gate("here", PUBLIC)
    there = gate("there" if differs == "name" else "here", other)
    nonce = (await shown(here, PUBLIC)).header("dpop-nonce")
    assert (await shown(there, other, nonce=nonce)).json()["code"] == "use_dpop_nonce"
    assert (await shown(here, PUBLIC, nonce=nonce)).status == 200


def test_names_of_gates_in_memory() -> None:
    """Formed as RedisStore's; none is needed."""
    assert MemoryStore().namespace == ""
    for name in ("a b", "A", None, 7):
        with pytest.raises(ConfigurationError, match="namespace"):
            MemoryStore(namespace=name)  # type: ignore[arg-type]


# The check of a user's store


class Whole(MemoryStore):
    """A store of a user's."""


def test_store_of_a_users_that_misses_a_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each verb of the protocol is asked for, by the protocol itself; the error names it."""
    verbs = [name for name, member in vars(Store).items() if callable(member)]
    verbs = [name for name in verbs if not name.startswith("_")]
    assert {"put", "is_pending", "revoke", "wait_for_wakeup", "aclose"} <= set(verbs)
    for verb in verbs:
        lacking = Whole()
        monkeypatch.setattr(lacking, verb, None)
        with pytest.raises(ConfigurationError, match=f"async def {verb}"):
            make_gate(store=lacking)
    make_gate(store=Whole())


def test_store_that_inherits_a_verb_from_the_protocol() -> None:
    """A class that derives from `Store` has each verb, and those it leaves out do nothing."""

    class Partial(Store):
        async def put(
            self,
            key: str,
            value: bytes,
            seconds: float,
            region: Region,
            within: Sequence[Wanted] = (),
        ) -> bool:
            return True

    with pytest.raises(ConfigurationError, match="async def revoke") as refused:
        make_gate(store=Partial())  # type: ignore[abstract]
    assert "`async def put`" not in str(refused.value)
