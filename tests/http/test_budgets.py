"""What refused requests leave behind (nothing), and what one account or address may fill."""

import asyncio
import hashlib
import logging
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import pytest
from starlette.requests import HTTPConnection
from stores.redis_server import RedisServer, running_redis
from support.doubles import (
    API_KEY,
    SIGNED_URL,
    Answer,
    ask,
    bearer,
    in_fast_time,
    make_gate,
    make_verifier,
    seconds,
)
from support.signing import EC, ISSUER, RSA, good_claims, proof, thumbprint

from xuna_middleware import (
    Agent,
    AnonymousAccess,
    Concurrent,
    ConfigurationError,
    DPoP,
    Event,
    Identity,
    Limit,
    MemoryStore,
    ProofOfWork,
    RedisStore,
    XunaGate,
    XunaPlatform,
    claim,
    deny,
    turnstile,
)
from xuna_middleware.access.limits.budgets import TICKETS
from xuna_middleware.access.limits.keys import LimitContext
from xuna_middleware.anonymous.cookie import AnonymousTokens, new_visit
from xuna_middleware.anonymous.switch import MOST_DEPARTED
from xuna_middleware.errors import UnavailableError
from xuna_middleware.gate import core_of
from xuna_middleware.issuing.pipeline import (
    CALL_SECONDS,
    CALLERS_CALLS,
    CALLERS_OF_ONE,
    CALLERS_OF_ONE_WAITING,
    VISITORS_CALLS,
    VISITORS_OF_ONE,
    VISITORS_OF_ONE_WAITING,
)
from xuna_middleware.issuing.settlement import (
    EXPECTED_OF_ONE,
    LATE_ASK,
    REFUSED_ASK,
    REFUSED_OF_ONE,
)
from xuna_middleware.platform.rest.client import CONNECTIONS
from xuna_middleware.relay.live import LEASE
from xuna_middleware.stores import Store, StoreBusyError, StoreError
from xuna_middleware.stores.protocol import Quota, Region, named

#: The name of the gate, in whatever store.
GATE: Final = "budgets"
SECRET: Final = "s" * 43
SAME: Final = (b"sec-fetch-site", b"same-origin")
DAILY: Final = Limit("100000/day", per="all")
PUBLIC: Final = "https://voice.acme.com/xuna"
#: How many entries of a kind the store has room for here, and how often somebody is refused.
ROOM: Final = 40
OFTEN: Final = 60


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def stores(kind: str, redis: RedisServer) -> AsyncIterator[Callable[[], Store]]:
    """Return what makes the store of one more process: in memory there is only one."""
    if kind == "memory":
        store = MemoryStore(ROOM, namespace=GATE)
        yield lambda: store
        return
    redis.command("FLUSHALL")
    made: list[RedisStore] = []

    def another() -> RedisStore:
        made.append(RedisStore(redis.url, namespace=GATE, timeout=10))
        return made[-1]

    try:
        yield another
    finally:
        for each in made:
            await each.aclose()


def keys_in(redis: RedisServer) -> int:
    return int(redis.command("DBSIZE").strip()[1:])


def open_gate(*limits: Any, anonymous: AnonymousAccess | None = None, **options: Any) -> XunaGate:
    """Return a gate with an agent that is open to visitors, and one that isn't."""
    agents = [
        Agent(
            "faq",
            id="agent_1",
            anonymous=True,
            max_duration=60,
            limits=[*limits, DAILY],
            **options.pop("agent", {}),
        ),
        Agent("private", id="agent_2"),
    ]
    terms = anonymous or AnonymousAccess(secret=SECRET, limits=[])
    return make_gate(
        options.pop("platform", None),
        agents=agents,
        anonymous=terms,
        public_url=PUBLIC,
        **options,
    )


def as_user(subject: str = "user-1", **claims: Any) -> list[tuple[bytes, bytes]]:
    return bearer(RSA.token(good_claims(sub=subject, **claims)))


def visitors_ticket() -> tuple[bytes, bytes]:
    """Return a header with the ticket of somebody new, as the gate hands them out."""
    ticket = AnonymousTokens([SECRET], seconds=30 * 86_400, namespace=GATE).write(new_visit())
    return b"xuna-visitor", ticket.encode()


async def visit(
    gate: XunaGate, *headers: tuple[bytes, bytes], host: str = "192.0.2.1", **options: Any
) -> Answer:
    """Ask as a page of our own does, from an address."""
    path, query = options.pop("path", "/get-signed-url"), options.pop("query", b"agent=faq")
    return await ask(gate, path, headers=[SAME, *headers], query=query, client=(host, 1), **options)


async def still_works(gate: XunaGate) -> None:
    """Somebody new is served, with and without credentials, and operators are heard."""
    assert (await visit(gate, *as_user("newcomer"), query=b"agent=private")).status == 200
    await gate.revoke("https://login.example.com/", "somebody")
    await gate.pause_anonymous()
    await gate.resume_anonymous()
    ticket = await visit(gate, *as_user("newcomer"), path="/ticket", method="POST")
    assert ticket.status == 200


# What refused requests leave behind


async def test_account_that_is_refused_brings_visitors_along(kind: str, redis: RedisServer) -> None:
    """A mark for each would fill the store for thirty days."""
    async with stores(kind, redis) as store:
        gate = open_gate(Limit("1/hour"), store=store())
        assert (await visit(gate, *as_user("greedy"))).status == 200
        before = keys_in(redis)
        for _ in range(OFTEN):
            answer = await visit(gate, *as_user("greedy"), visitors_ticket())
            assert (answer.status, answer.header("Xuna-Visitor")) == (429, None)
        assert keys_in(redis) == before
        await still_works(gate)


@pytest.mark.parametrize("case", ["rule", "claim", "variables", "override", "platform"])
async def test_whatever_refuses(case: str, kind: str, redis: RedisServer) -> None:
    """Before anything is counted, and after that."""

    def no(who: Identity) -> Any:
        return deny("no", "No.") if who.subject.startswith("refused") or who.is_anonymous else True

    agent: dict[str, Any] = {}
    query, status = b"agent=faq", 403
    if case == "rule":
        agent = {"allow": no}
    elif case == "claim":
        agent = {"dynamic_variables": {"plan": claim("plan")}}
    body, method = b"", "GET"
    if case in ("variables", "override"):
        members = b'"dynamic_variables":{"x":1}' if case == "variables" else b'"overrides":{}'
        body, method = b'{"agent":"faq",' + members + b"}", "POST"
        if case == "override":
            body = b'{"agent":"faq","overrides":{"agent":{"language":"de"}}}'
        query, status = b"", 400 if case == "variables" else 403
    platform = Busy() if case == "platform" else None
    status = 503 if platform is not None else status
    headers = [(b"content-type", b"application/json")] if body else []
    async with stores(kind, redis) as store:
        gate = open_gate(
            Limit("9/day"),
            Limit("9/day", per="address"),
            store=store(),
            agent=agent,
            platform=platform and platform.client(),
        )
        await gate.resume_anonymous()
        before = keys_in(redis)
        for number in range(OFTEN):
            for caller in (as_user(f"refused-{number}"), [visitors_ticket()]):
                answer = await visit(
                    gate,
                    *caller,
                    *headers,
                    host=f"198.51.100.{number}",
                    method=method,
                    body=body,
                    query=query,
                )
                assert answer.status == status, answer.body
        assert keys_in(redis) == before
        if platform is not None:
            platform.status = 200
        await still_works(gate)


async def test_departures_of_one_account(
    kind: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """So many visitors' tickets end; further ones stay good, and nobody is refused."""
    async with stores(kind, redis) as store:
        room = store() if kind == "redis" else MemoryStore(10 * MOST_DEPARTED, namespace=GATE)
        gate = open_gate(Limit("9999/hour"), store=room)
        ended = []
        for _ in range(MOST_DEPARTED + 2):
            answer = await visit(gate, *as_user(), visitors_ticket())
            assert answer.status == 200
            ended.append(answer.header("Xuna-Visitor"))
        assert ended == [""] * MOST_DEPARTED + [None] * 2
        assert "token_seconds" in caplog.text
        other = await visit(gate, *as_user("user-2"), visitors_ticket())
        assert other.header("Xuna-Visitor") == ""


async def test_departures_that_fill_their_room() -> None:
    """Refuse nobody: the ticket of whoever comes then stays good."""
    gate = open_gate(Limit("9999/hour"), store=MemoryStore(ROOM, namespace=GATE))
    told = [await visit(gate, *as_user(), visitors_ticket()) for _ in range(OFTEN)]
    assert {answer.status for answer in told} == {200}
    assert told[0].header("Xuna-Visitor") == ""
    assert told[-1].header("Xuna-Visitor") is None
    await still_works(gate)


class Busy:
    """A platform that says that it is busy, until it is told otherwise."""

    status = 429

    def client(self) -> XunaPlatform:
        return XunaPlatform(API_KEY, http_transport=httpx.MockTransport(self.handle))

    def handle(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self.status, json={"signed_url": SIGNED_URL})


def solution_of(refused: Answer) -> tuple[bytes, bytes]:
    """Do the work that a page would do."""
    match = re.fullmatch(r"work;bits=(\d+);puzzle=([\w-]+)", refused.header("Xuna-Challenge") or "")
    assert match
    bits, puzzle, number = int(match[1]), match[2], 0
    while int.from_bytes(hashlib.sha256(f"{puzzle}.{number}".encode()).digest()) >> (256 - bits):
        number += 1
    return b"xuna-challenge", f"{puzzle}.{number}".encode()


async def solve(gate: XunaGate, host: str = "192.0.2.1") -> Answer:
    return await visit(gate, solution_of(await visit(gate, host=host)), host=host)


def bound_gate(store: Store, **options: Any) -> XunaGate:
    verifier = make_verifier(dpop=DPoP(mode="accepted", **options))
    return make_gate(verifier=verifier, public_url=PUBLIC, store=store)


async def prove(
    gate: XunaGate,
    jti: str,
    who: str = "user-1",
    host: str = "192.0.2.1",
    path: str = "/get-signed-url",
    issuer: str = ISSUER,
) -> Answer:
    """Ask with a bound token and a proof."""
    token = RSA.token(good_claims(sub=who, iss=issuer, cnf={"jkt": thumbprint(EC.jwk)}))
    made = proof(EC, token, f"{PUBLIC}{path}", jti=jti)
    headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
    return await ask(gate, path, headers=headers, client=(host, 1))


# What may be used once: a room for each kind, and a part of it for each account and address


async def test_solved_puzzles_shut_out_no_others() -> None:
    """Whoever solves them from many addresses shuts out whoever solves them."""
    store = MemoryStore(ROOM, namespace=GATE)
    work = AnonymousAccess(secret=SECRET, captcha=ProofOfWork(1), limits=[])
    gate = open_gate(anonymous=work, store=store)
    statuses = [(await solve(gate, f"198.51.{n}.1")).status for n in range(OFTEN)]
    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert (await prove(bound_gate(store), "one")).status == 200
    await still_works(gate)


async def test_visitors_shut_out_no_callers() -> None:
    """However many are served, and counted each and by their addresses."""
    gate = open_gate(
        Limit("9/day"), Limit("9/day", per="address"), store=MemoryStore(ROOM, namespace=GATE)
    )
    told = [await visit(gate, host=f"198.51.{n}.1") for n in range(OFTEN)]
    assert (told[0].status, told[-1].status) == (200, 503)
    assert (await visit(gate, *as_user())).status == 200
    await still_works(gate)


async def test_visitors_tickets_shut_out_no_others() -> None:
    """Strangers may have any number of addresses."""
    gate = open_gate(store=MemoryStore(ROOM, namespace=GATE))
    told = [
        await visit(gate, path="/ticket", method="POST", host=f"198.51.{n}.1") for n in range(OFTEN)
    ]
    assert (told[0].status, told[-1].status) == (200, 503)
    assert (await visit(gate)).status == 200
    await still_works(gate)


async def test_proofs_shut_out_no_others() -> None:
    """Those of many accounts fill what proofs have."""
    store = MemoryStore(ROOM, namespace=GATE)
    bound, gate = bound_gate(store), open_gate(store=store)
    told = [await prove(bound, f"j{n}", f"user-{n}", f"198.51.{n}.1") for n in range(OFTEN)]
    assert (told[0].status, told[-1].status) == (200, 503)
    await still_works(gate)


async def test_all_that_some_accounts_may_have_leaves_room() -> None:
    """Fifteen accounts with proofs from an address each, 334 with tickets: by default operators,
    and whoever else proves possession, have room.
    """
    store = MemoryStore()
    lasting, most = 71, 3550
    quotas = [
        Quota(field="proofs", most=many, amount=1, seconds=lasting, kind="slot")
        for many in (most, 4 * most)
    ]
    for number in range(15 * most):
        owners = f"account:{number // most}", f"address:{number}"
        names = [named(Region.PROOFS, owner) for owner in owners]
        within = list(zip(names, quotas, strict=True))
        assert await store.put(f"dpop:{number}", b"", lasting, Region.PROOFS, within)
    for number in range(334 * 300):
        assert await store.put(f"ticket:{number}", b"", 60, Region.TICKETS)
    verifier = make_verifier(dpop=DPoP(mode="accepted"))
    gate = make_gate(verifier=verifier, public_url=PUBLIC, store=store, operators=lambda who: True)
    assert (await prove(gate, "one")).status == 200
    assert (await prove(gate, "two", path="/sessions")).status == 200
    assert (await ask(gate, "/ticket", method="POST", headers=as_user())).status == 200


async def test_puzzles_of_one_address(
    kind: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Three here, in all processes together; another address is served, a replay is none."""
    async with stores(kind, redis) as store:
        gates = [
            open_gate(
                anonymous=AnonymousAccess(
                    secret=SECRET, captcha=ProofOfWork(2, per_address=3), limits=[]
                ),
                store=store(),
            )
            for _ in range(2)
        ]
        first = solution_of(await visit(gates[0]))
        assert (await visit(gates[0], first)).status == 200
        assert (await visit(gates[1], first)).status == 403, "taken once"
        told = [await solve(gates[number % 2]) for number in range(4)]
        assert [answer.status for answer in told] == [200, 200, 429, 429]
        assert told[-1].json()["violated-policies"] == ["solved puzzles"]
        assert 1 <= int(told[-1].header("Retry-After") or "") <= 184
        assert "ProofOfWork(per_address=3)" in caplog.text
        assert "trusted_proxies" in caplog.text
        assert (await solve(gates[0], "198.51.100.1")).status == 200


async def test_proofs_of_one_account(
    kind: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever sends them faster than they may is refused, from wherever; others aren't."""
    rate = 3 / 71
    async with stores(kind, redis) as store:
        gates = [bound_gate(store(), account_rate=rate) for _ in range(2)]
        for number in range(3):
            answer = await prove(gates[number % 2], f"j{number}", host=f"198.51.{number}.1")
            assert answer.status == 200
        over = [await prove(gates[1], "j3"), await prove(gates[0], "j3")]
        assert [answer.status for answer in over] == [429, 429]
        assert over[0].json()["violated-policies"] == ["DPoP proofs"]
        assert 1 <= int(over[0].header("Retry-After") or "") <= 73
        assert "DPoP(account_rate=0.0422535)" in caplog.text
        assert (await prove(gates[0], "j0")).status == 401, "a replay stays one"
        assert (await prove(gates[0], "j3", "user-2")).status == 200, "the proof was not used"


async def test_proofs_of_one_address(
    kind: str, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """However many accounts it has."""
    async with stores(kind, redis) as store:
        gate = bound_gate(store(), address_rate=3 / 71)
        told = [(await prove(gate, f"j{n}", f"user-{n}")).status for n in range(4)]
        assert told == [200, 200, 200, 429]
        assert "DPoP(address_rate=" in caplog.text
        assert (await prove(gate, "one", "user-9", "198.51.100.1")).status == 200


@pytest.mark.parametrize(
    ("theirs", "others"),
    [
        ({}, {"issuer": "https://theirs.example.com"}),
        ({"max_age": 3600}, {}),
        ({"address_rate": 6 / 71}, {}),
    ],
    ids=["issuer", "max_age", "address_rate"],
)
async def test_proofs_of_others_at_one_address(
    theirs: dict[str, Any], others: dict[str, Any], kind: str, redis: RedisServer
) -> None:
    """What the callers of one verifier send refuses nobody of another: of another tenant, with
    proofs that live longer, or that may be more.
    """
    async with stores(kind, redis) as store:
        many = bound_gate(store(), **{"address_rate": 3 / 71, **theirs})
        for number in range(4):
            await prove(many, f"j{number}", f"user-{number}")
        verifier = make_verifier(dpop=DPoP(mode="accepted", address_rate=3 / 71), **others)
        gate = make_gate(verifier=verifier, public_url=PUBLIC, store=store())
        told = [(await prove(gate, f"k{n}", f"user-{n}", **others)).status for n in range(4)]
        assert told == [200, 200, 200, 429]


@pytest.mark.parametrize("rate", [0, -1, True, "fast", float("nan"), 10**9])
def test_rates_that_are_none(rate: Any) -> None:
    """Told at once."""
    for option in ("account_rate", "address_rate"):
        with pytest.raises(ConfigurationError, match=option):
            DPoP(**{option: rate})


async def test_tickets_of_one_address() -> None:
    """Ten accounts may take all they may; the eleventh at one address is refused."""

    async def take(who: str, address: str | None) -> bool:
        identity = Identity(subject=who, issuer="https://login.example.com/")
        asked = LimitContext(identity=identity, agent="faq", address=lambda: address)
        return (await store.reserve(await TICKETS.quotas_for(asked))).taken

    store = MemoryStore()
    taken = [await take(f"user-{number % 11}", "192.0.2.1") for number in range(3001)]
    assert taken == [True] * 3000 + [False]
    assert await take("user-1", "198.51.100.1")
    assert await take("user-1", None)


class EightAtATime:
    """A service with so many connections as the gate has to it; some answers never come."""

    def __init__(self, hangs: Callable[[httpx.Request], bool], answer: Any) -> None:
        self.hangs, self.answer = hangs, answer
        self.connections = asyncio.Semaphore(8)
        self.under_way = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        async with self.connections:
            if self.hangs(request):
                self.under_way += 1
                await asyncio.Event().wait()
            return httpx.Response(200, json=self.answer)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)


async def begun(stories: list[Any]) -> list[asyncio.Task[Any]]:
    """Begin all of these, and let them come as far as they come."""
    tasks = [asyncio.ensure_future(story) for story in stories]
    for _ in range(50):
        await asyncio.sleep(0)
    return tasks


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def statuses_of(tasks: list[asyncio.Task[Any]]) -> list[int]:
    return [task.result().status for task in tasks if task.done()]


GOOD: Final = (b"xuna-challenge", b"good")
MADE_UP: Final = (b"xuna-challenge", b"made up")


# Outbound calls that strangers cause: bounded, each use by itself


def captcha() -> tuple[EightAtATime, AnonymousAccess]:
    service = EightAtATime(lambda request: b"made" in request.content, {"success": True})
    challenge = turnstile("site-secret", http_transport=service.transport)
    return service, AnonymousAccess(secret=SECRET, captcha=challenge, limits=[])


async def test_made_up_answers_of_one_address(caplog: pytest.LogCaptureFixture) -> None:
    """Hold up nobody else: four are asked for at once, 48 wait for these, the others get a 503."""
    service, terms = captcha()
    gate = open_gate(anonymous=terms)
    tasks = await begun([visit(gate, MADE_UP, host="198.51.100.1") for _ in range(200)])
    assert statuses_of(tasks) == [503] * (200 - 4 - 48)
    assert service.under_way == 4
    assert "from one address" in caplog.text
    assert "trusted_proxies" in caplog.text
    async with asyncio.timeout(1):
        assert (await visit(gate, GOOD)).status == 200
    await end(tasks)
    assert (await visit(gate, GOOD, host="198.51.100.1")).status == 200, "it has room again"


async def test_made_up_answers_of_many_addresses() -> None:
    """Fill the queue of challenges and no other."""
    service, terms = captcha()
    gate = open_gate(anonymous=terms)
    tasks = await begun([visit(gate, MADE_UP, host=f"198.51.{n}.1") for n in range(200)])
    assert statuses_of(tasks) == [503] * (200 - 8 - 64)
    assert service.under_way == 8
    refused = await visit(gate, GOOD)
    assert (refused.status, refused.header("Retry-After")) == (503, "1")
    async with asyncio.timeout(1):
        assert (await visit(gate, *as_user())).status == 200
    await end(tasks)


async def test_several_people_behind_one_address() -> None:
    """Forty good answers at the same moment, a school class: four are asked about at once, the
    others wait for these, and nobody is sent away.
    """
    answered = asyncio.Event()
    at_once: list[int] = [0, 0]

    async def slow(request: httpx.Request) -> httpx.Response:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await answered.wait()
        at_once[0] -= 1
        return httpx.Response(200, json={"success": True})

    challenge = turnstile("site-secret", http_transport=httpx.MockTransport(slow))
    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=challenge, limits=[]))
    tasks = await begun([visit(gate, GOOD) for _ in range(40)])
    answered.set()
    async with asyncio.timeout(2):
        assert [(await task).status for task in tasks] == [200] * 40
    assert at_once[1] == 4


async def test_first_visits_take_no_places() -> None:
    """Who carries no answer is told the challenge, whoever is asked about, and takes no place."""
    _, terms = captcha()
    gate = open_gate(anonymous=terms)
    tasks = await begun([visit(gate, MADE_UP, host=f"198.51.{n}.1") for n in range(72)])
    malformed = (b"xuna-challenge", b"x" * 8193)
    for headers in ((), (malformed,), (GOOD, GOOD)):
        for host in ("192.0.2.1", "198.51.1.1"):
            answer = await visit(gate, *headers, host=host)
            assert (answer.status, answer.json()["code"]) == (403, "challenge_required")
    await end(tasks)


async def test_waiting_for_ones_address_takes_no_place_of_others() -> None:
    """Five addresses have all that may wait for an address; others are asked about as before."""
    service, terms = captcha()
    gate = open_gate(anonymous=terms)
    one = [visit(gate, MADE_UP, host="198.51.100.1") for _ in range(62)]
    tasks = await begun(one)
    assert (service.under_way, statuses_of(tasks)) == (4, [503] * 10)
    others = [visit(gate, GOOD, host=f"203.0.113.{n}") for n in range(60)]
    async with asyncio.timeout(2):
        assert [answer.status for answer in await asyncio.gather(*others)] == [200] * 60
    four = [visit(gate, MADE_UP, host=f"198.51.{n}.1") for n in range(1, 5) for _ in range(20)]
    more = await begun(four)
    assert statuses_of(more) == [503] * 48, "64 wait for their addresses"
    await end([*tasks, *more])


async def test_own_challenge_that_knows_its_answers() -> None:
    """Says that there is nothing to ask; one that fails at that is a 503."""
    asked: list[str] = []

    class Mine:
        """Reads answers from a cookie."""

        def has_answer(self, connection: HTTPConnection) -> bool:
            return connection.cookies["answer"] != ""

        async def verify(self, connection: HTTPConnection) -> bool:
            asked.append(connection.cookies["answer"])
            return True

        def headers(self) -> dict[str, str]:
            return {}

    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=Mine(), limits=[]))
    told = [
        (await visit(gate, (b"cookie", each))).status for each in (b"answer=", b"answer=x", b"a")
    ]
    assert (told, asked) == ([403, 200, 503], ["x"])


async def test_answers_are_shared_with_nobody() -> None:
    """Two visitors with one answer are two questions: the service takes each once."""
    asked: list[httpx.Request] = []

    async def once(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        is_first = len(asked) == 1
        await asyncio.sleep(0)
        return httpx.Response(200, json={"success": is_first})

    challenge = turnstile("site-secret", http_transport=httpx.MockTransport(once))
    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=challenge, limits=[]))
    told = await asyncio.gather(visit(gate, GOOD), visit(gate, GOOD))
    assert sorted(answer.status for answer in told) == [200, 403]


async def test_function_of_the_users() -> None:
    """Is asked by so many at once as well, and a failure gives its place back."""
    under_way = 0

    async def slow(connection: HTTPConnection) -> bool:
        nonlocal under_way
        if connection.headers.get("xuna-challenge") == "good":
            raise UnavailableError(cause="challenge: away")
        under_way += 1
        await asyncio.Event().wait()
        return True

    gate = open_gate(anonymous=AnonymousAccess(secret=SECRET, captcha=slow, limits=[]))
    for _ in range(10):
        assert (await visit(gate, GOOD)).status == 503
    tasks = await begun([visit(gate) for _ in range(62)])
    assert (under_way, statuses_of(tasks)) == (4, [503] * 10)
    await end(tasks)


async def test_visitors_hold_up_no_callers() -> None:
    """At the platform, whose answers to visitors never come."""
    service = EightAtATime(
        lambda request: request.url.params.get("agent_id") == "agent_1",
        {"signed_url": SIGNED_URL},
    )
    gate = open_gate(platform=XunaPlatform(API_KEY, http_transport=service.transport))
    tasks = await begun([visit(gate, host=f"198.51.{n}.1") for n in range(200)])
    assert statuses_of(tasks) == [503] * (200 - 4 - 128)
    async with asyncio.timeout(1):
        assert (await visit(gate, *as_user(), query=b"agent=private")).status == 200
    await end(tasks)


async def test_revocations_that_fill_one_process(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Refuse no operator: the store has it, and tells all."""
    async with stores("redis", redis) as store:
        gate = open_gate(Limit("9/day"), store=store())
        fallback = core_of(gate).pipeline.stores.fallback
        for number in range(100_000):
            await fallback.revoke(f"somebody-{number}", 1.0, 86_400)
        await gate.revoke(ISSUER, "evil")
        assert "on_unavailable" in caplog.text
        now = time.time()
        gate = open_gate(store=store(), verifier=make_verifier(clock=time.time))
        told = await visit(gate, *as_user("evil", iat=now - 60, exp=now + 600))
        assert told.status == 401


class Slow:
    """A platform that takes its time, on the clock of the running loop."""

    def __init__(self, takes: float, connections: int = 8) -> None:
        self.takes, self.asked = takes, 0
        self.connections = asyncio.Semaphore(connections)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        async with self.connections:
            await asyncio.sleep(self.takes)
        return httpx.Response(200, json={"signed_url": SIGNED_URL})

    def client(self) -> XunaPlatform:
        return XunaPlatform(API_KEY, http_transport=httpx.MockTransport(self.handle))


async def test_one_caller_holds_up_no_others(caplog: pytest.LogCaptureFixture) -> None:
    """At the platform, whatever their limits let them ask for: so many calls are theirs."""
    service = EightAtATime(
        lambda request: request.url.params.get("agent_id") == "agent_1",
        {"signed_url": SIGNED_URL},
    )
    gate = open_gate(platform=XunaPlatform(API_KEY, http_transport=service.transport))
    tasks = await begun([visit(gate, *as_user("greedy")) for _ in range(300)])
    assert statuses_of(tasks) == [503] * (300 - CALLERS_OF_ONE - CALLERS_OF_ONE_WAITING)
    assert f"more than {CALLERS_OF_ONE} at once from one account" in caplog.text
    others = await begun([visit(gate, *as_user(f"user-{n}")) for n in range(60)])
    assert not statuses_of(others), "they have their turn"
    await end([*tasks, *others])
    assert (await visit(gate, *as_user("greedy"), query=b"agent=private")).status == 200


async def test_visitors_of_one_address_hold_up_no_others(caplog: pytest.LogCaptureFixture) -> None:
    """However many they say they are."""
    service = EightAtATime(lambda request: True, {"signed_url": SIGNED_URL})
    gate = open_gate(platform=XunaPlatform(API_KEY, http_transport=service.transport))
    tasks = await begun([visit(gate, host="198.51.100.1") for _ in range(200)])
    assert statuses_of(tasks) == [503] * (200 - VISITORS_OF_ONE - VISITORS_OF_ONE_WAITING)
    assert "from one address" in caplog.text
    others = await begun([visit(gate, host=f"203.0.{n}.1") for n in range(60)])
    assert not statuses_of(others)
    await end([*tasks, *others])


async def test_calls_wait_for_no_connection() -> None:
    """All that the gate sends at once is on its way to the platform at once: callers' calls have
    connections of their own, and so have visitors'.
    """
    most = CALLERS_CALLS + VISITORS_CALLS + 2 * REFUSED_ASK + LATE_ASK
    assert most <= CONNECTIONS
    open_ones: list[asyncio.StreamWriter] = []
    all_are_here, answers = asyncio.Event(), asyncio.Event()

    async def platform(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if len(open_ones) == CALLERS_CALLS + VISITORS_CALLS:
                    all_are_here.set()
                await answers.wait()
                body = b'{"signed_url": "wss://127.0.0.1:9/?token=x"}'
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
                writer.write(head + body)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(platform, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gate = open_gate(
        platform=XunaPlatform(
            API_KEY, base_url=f"http://127.0.0.1:{port}", signed_url_hosts=["127.0.0.1"]
        )
    )
    people = [visit(gate, *as_user(f"user-{n}")) for n in range(40)]
    tasks = await begun([*people, *(visit(gate, host=f"203.0.{n}.1") for n in range(20))])
    async with asyncio.timeout(3):
        await all_are_here.wait()
        answers.set()
        assert [(await task).status for task in tasks] == [200] * 60
    assert len(open_ones) == CALLERS_CALLS + VISITORS_CALLS
    await gate.aclose()
    server.close()


def test_callers_wait_before_their_calls_time_begins() -> None:
    """With a platform that takes its time: none is told of a timeout that was spent on waiting."""

    async def story() -> None:
        platform = Slow(1.5, connections=8)
        gate = open_gate(platform=platform.client())
        people = [visit(gate, *as_user(f"user-{n}")) for n in range(100)]
        told = Counter([answer.status for answer in await asyncio.gather(*people)])
        assert set(told) == {200, 503}
        assert told[200] >= 72, "for as long as a call and its turn may take"
        await gate.aclose()

    in_fast_time(story())


def test_nobody_waits_for_longer_than_a_lease() -> None:
    """Turn and call together have a bound; what comes later is a 503 that leaves nothing."""

    async def story() -> None:
        platform, store = Slow(1.5, connections=1), MemoryStore()
        gate = open_gate(platform=platform.client(), store=store)
        loop = asyncio.get_running_loop()
        began, waited = loop.time(), []

        async def one(number: int) -> int:
            answer = await visit(gate, *as_user(f"user-{number}"))
            waited.append(loop.time() - began)
            return answer.status

        told = Counter(await asyncio.gather(*[one(number) for number in range(200)]))
        assert set(told) == {200, 503, 504}
        assert max(waited) <= CALL_SECONDS < LEASE
        await gate.aclose()

    in_fast_time(story())


def test_revoked_while_the_platform_is_asked() -> None:
    """Nothing is issued to somebody who was revoked meanwhile, and all they took comes back."""

    async def story() -> None:
        platform = Slow(1.5)
        verifier = make_verifier(clock=time.time)
        gate = open_gate(Limit("3/day"), platform=platform.client(), verifier=verifier)
        now = time.time()
        people = [as_user(who, iat=now - 60, exp=now + 600) for who in ("evil", "good")]
        tasks = await begun([visit(gate, *person) for person in people])
        await asyncio.sleep(1)
        await gate.revoke(ISSUER, "evil")
        answers = await asyncio.gather(*tasks)
        assert [answer.status for answer in answers] == [401, 200]
        assert platform.asked == 2
        told = (await visit(gate, *people[0], path="/agents")).json()
        assert told["agents"][0]["limits"][0]["left"] == 3
        await gate.aclose()

    in_fast_time(story())


@pytest.mark.parametrize(
    ("when", "failure", "status"),
    [
        *((["allow"], StoreError, 200), (["local"], StoreError, 200)),
        *((["deny"], StoreError, 503), (["allow", "deny"], StoreError, 503)),
        *(([], StoreError, 503), (["allow"], StoreBusyError, 503)),
    ],
)
def test_store_that_fails_while_the_platform_is_asked(
    when: list[Any], failure: type[StoreError], status: int
) -> None:
    """Is answered as the limits say for a store that is down; what this process knows of
    revocations counts. A store that is asked too much isn't down.
    """

    class Failing(MemoryStore):
        is_down = False

        async def reserve(self, *args: Any) -> Any:
            if self.is_down:
                raise failure("the store does not answer")
            return await super().reserve(*args)

    async def story() -> None:
        store, platform = Failing(), Slow(1.5)
        limits = [Limit("9/hour", name=each, on_unavailable=each) for each in when]
        gate = make_gate(
            platform.client(),
            agents=[Agent("faq", id="agent_1", limits=limits)],
            verifier=make_verifier(clock=time.time),
            store=store,
        )
        now = time.time()
        people = [as_user(who, iat=now - 60, exp=now + 600) for who in ("evil", "good")]
        tasks = await begun([visit(gate, *person) for person in people])
        await asyncio.sleep(1)
        await gate.revoke(ISSUER, "evil")
        store.is_down = True
        answers = await asyncio.gather(*tasks)
        expected = [401, 200] if status == 200 else [503, 503]
        assert [answer.status for answer in answers] == expected
        await gate.aclose()

    in_fast_time(story())


async def test_prompt_answers_cost_one_look_at_the_store() -> None:
    """Who was revoked is read in the step that reserves, and not once more."""

    class Counting(MemoryStore):
        asked = 0

        async def reserve(self, *args: Any) -> Any:
            self.asked += 1
            return await super().reserve(*args)

    store = Counting()
    gate = open_gate(Limit("3/day"), store=store)
    assert (await visit(gate, *as_user())).status == 200
    assert store.asked == 1


async def test_refused_callers_hold_up_no_others() -> None:
    """Each has the platform asked for some conversations, whose answers never come."""
    numbers = iter(range(10_000))

    class Numbering(EightAtATime):
        async def handle(self, request: httpx.Request) -> httpx.Response:
            self.answer = {"signed_url": SIGNED_URL, "conversation_id": f"conv_{next(numbers)}"}
            return await super().handle(request)

    service = Numbering(lambda request: "/conversations/" in request.url.path, None)
    gate = make_gate(
        XunaPlatform(API_KEY, http_transport=service.transport),
        agents=[Agent("faq", id="agent_1", limits=[Concurrent(9)], max_duration=60)],
    )
    people = [as_user(f"user-{n}") for n in range(5)]
    for person in people * 9:
        assert (await visit(gate, *person)).status == 200
    for _ in range(50):
        await asyncio.sleep(0)
    tasks = await begun([visit(gate, *person) for person in people])
    assert not statuses_of(tasks), "they wait for the platform's word"
    async with asyncio.timeout(1):
        assert (await visit(gate, *as_user("another"))).status == 200
    await end(tasks)


class Talks(EightAtATime):
    """A platform that numbers conversations, and knows of the end of some."""

    def __init__(self, is_slow: Callable[[str], bool] = bool) -> None:
        super().__init__(lambda request: is_slow(request.url.path.rpartition("/")[2]), None)
        self.issued = 0
        self.looked_up: list[str] = []

    async def handle(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        if name.startswith("conv_"):
            self.looked_up.append(name)
            if self.hangs(request):
                await asyncio.Event().wait()
            ended = {"status": "done", "metadata": {"call_duration_secs": 5}}
            return httpx.Response(200, json=ended)
        self.issued += 1
        known = {"signed_url": SIGNED_URL, "conversation_id": f"conv_{self.issued}"}
        return httpx.Response(200, json=known)

    def gate(self, most: int, per: Any) -> XunaGate:
        platform = XunaPlatform(API_KEY, http_transport=self.transport)
        return open_gate(Concurrent(most, per=per), platform=platform)


async def let_all_wait() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


@pytest.mark.parametrize("strangers", ["visitors", "accounts"])
async def test_refused_ones_take_no_place_of_a_refused_caller(strangers: str) -> None:
    """Whose conversation ended, while others' look-ups hang: those of visitors with any number of
    addresses, or of one account.
    """
    is_visitors = strangers == "visitors"
    theirs = 60 if is_visitors else 9
    platform = Talks(lambda name: int(name.removeprefix("conv_")) <= theirs)
    gate = platform.gate(1 if is_visitors else 9, per="address" if is_visitors else "subject")

    def crowd() -> list[Any]:
        if is_visitors:
            return [visit(gate, host=f"198.51.{number}.1") for number in range(theirs)]
        return [visit(gate, *as_user("greedy")) for _ in range(theirs)]

    for story in crowd():
        assert (await story).status == 200
    for _ in range(1 if is_visitors else 9):
        assert (await visit(gate, *as_user())).status == 200
    await let_all_wait()
    tasks = await begun(crowd())
    assert set(statuses_of(tasks)) <= {429}
    assert len(platform.looked_up) == (REFUSED_ASK if is_visitors else REFUSED_OF_ONE)
    async with asyncio.timeout(1):
        assert (await visit(gate, *as_user())).status == 200
    await end(tasks)


def test_what_found_no_place_is_asked_for_at_once() -> None:
    """It doesn't rest as what was asked for does."""

    async def story() -> None:
        platform = Talks(lambda name: is_slow)
        gate, people = platform.gate(8, per="subject"), [as_user(f"user-{n}") for n in range(9)]
        is_slow = True
        for person in people * 8:
            assert (await visit(gate, *person)).status == 200
        told = await asyncio.gather(*[visit(gate, *person) for person in people])
        assert [answer.status for answer in told] == [429] * 9
        assert len(platform.looked_up) == REFUSED_ASK
        is_slow = False
        assert (await visit(gate, *people[-1])).status == 200

    in_fast_time(story())


def test_unsettled_conversations_of_one_caller() -> None:
    """So many are looked at when they end, so that others' are; two at a time."""

    async def story() -> None:
        events: list[Event] = []
        at_once = [0, 0]

        async def handle(request: httpx.Request) -> httpx.Response:
            if "/conversations/" not in request.url.path:
                return httpx.Response(200, json={"token": "a.b.c", "conversation_id": name()})
            at_once[0] += 1
            at_once[1] = max(at_once)
            await asyncio.sleep(0.001)
            at_once[0] -= 1
            return httpx.Response(404)

        numbers = iter(range(10_000))

        def name() -> str:
            return f"conv_{next(numbers)}"

        gate = make_gate(
            XunaPlatform(API_KEY, http_transport=httpx.MockTransport(handle)),
            agents=[Agent("faq", id="agent_1", limits=[Concurrent(9999)], max_duration=60)],
            store=MemoryStore(monotonic=seconds),
            on_event=[events.append],
        )
        core_of(gate).pipeline.settlement._now = seconds
        for caller in [as_user("greedy")] * (EXPECTED_OF_ONE + 5) + [as_user("modest")] * 2:
            assert (await visit(gate, *caller, path="/conversation-token")).status == 200
        await asyncio.sleep(900 + 60 + 7200 + 30)
        told = Counter(event.subject for event in events if event.name == "settlement_expired")
        assert told == {"greedy": EXPECTED_OF_ONE, "modest": 2}
        assert at_once[1] == 2
        assert not core_of(gate).pipeline.settlement._owned
        await gate.aclose()

    in_fast_time(story())


def test_log_lines_name_options(caplog: pytest.LogCaptureFixture) -> None:
    """What is full says which option makes room."""

    async def story() -> None:
        gate = open_gate(store=MemoryStore(1))
        for number in range(2):
            await visit(gate, *as_user(f"user-{number}"), path="/ticket", method="POST")

    with caplog.at_level(logging.WARNING):
        asyncio.run(story())
    assert "full of tickets: MemoryStore(max_entries=…, regions={Region.TICKETS: …})" in caplog.text
