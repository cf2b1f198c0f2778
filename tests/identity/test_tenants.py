"""Issuers that a function of the operator's knows: exactly, boundedly, and never open."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import httpx
import pytest
from support.doubles import ask, bearer, echo_app, in_fast_time, make_gate, make_verifier, seconds
from support.proxies import Published
from support.signing import CANARY, EC, RSA, good_claims, jwks, proof, thumbprint

from xuna_middleware import (
    ConfigurationError,
    Credentials,
    Identity,
    JWTVerifier,
    TenantVerifiers,
    XunaGate,
    XunaMiddleware,
)
from xuna_middleware.gate import core_of
from xuna_middleware.identity import VerifierTraits

TENANT: Final = "https://one.example.com"
PUBLIC: Final = "https://acme.com/xuna"
ASYMMETRIC: Final = make_verifier(dpop="accepted").traits.dpop_algorithms


def of(issuer: Any, **changes: Any) -> str:
    return RSA.token(good_claims(iss=issuer, **changes))


async def status(gate: XunaGate, token: str) -> int:
    return (await ask(gate, headers=bearer(token))).status


class Table:
    """A table of tenants, counted; what is asked of it may fail, hang or be wrong."""

    def __init__(self, *issuers: str) -> None:
        self.asked: Counter[str] = Counter()
        self.verifiers: dict[str, Any] = {one: make_verifier(issuer=one) for one in issuers}
        self.before: Callable[[], Any] | None = None

    async def __call__(self, issuer: str) -> Any:
        self.asked[issuer] += 1
        if self.before is not None:
            await self.before()
        return self.verifiers.get(issuer)


async def test_a_tenant_is_found_and_kept() -> None:
    """Asked once, then known; a token of another tenant's issuer is not this one's."""
    table = Table(TENANT)
    gate = make_gate(verifier=TenantVerifiers(table))
    for number in range(3):
        assert await status(gate, of(TENANT, jti=str(number))) == 200
    assert await status(gate, of("https://two.example.com")) == 401
    assert table.asked == {TENANT: 1, "https://two.example.com": 1}
    assert repr(core_of(gate).authentication.verifiers[0]) == "TenantVerifiers(1 of at most 1000)"


async def test_plain_function_and_fixed_issuers_beside_it() -> None:
    """The fixed ones come first; the function is asked for the rest, sync or async."""
    asked: list[str] = []

    def resolve(issuer: str) -> JWTVerifier:
        asked.append(issuer)
        return make_verifier(issuer=issuer)

    gate = make_gate(verifier=[TenantVerifiers(resolve), make_verifier()])
    assert await status(gate, RSA.token()) == 200
    assert asked == []
    assert await status(gate, of(TENANT)) == 200
    assert asked == [TENANT]


@pytest.mark.parametrize(
    "issuer",
    [
        None,
        "",
        1,
        ["https://one.example.com"],
        "one",
        "ftp://one.example.com",
        "http://one.example.com",
        "https://one.example.com/" + "x" * 255,
        "https://a b.example.com",
        "https://one.example.com#x",
        "https://user@one.example.com",
        "https://é.example.com",
        "javascript:alert(1)",
    ],
)
async def test_what_could_not_be_an_issuer_is_not_asked_for(issuer: Any) -> None:
    """A stranger's word reaches the function only where it could be an address of a provider."""
    table = Table(TENANT)
    assert await status(make_gate(verifier=TenantVerifiers(table)), of(issuer)) == 401
    assert table.asked == {}


async def test_opaque_token_is_nobodys() -> None:
    """No JWT, no issuer, no question."""
    table = Table(TENANT)
    assert await status(make_gate(verifier=TenantVerifiers(table)), "opaque") == 401
    assert table.asked == {}


@pytest.mark.parametrize("issuer", [TENANT + "/", "https://ONE.example.com", None])
async def test_verifier_of_another_issuer_is_a_mistake(
    issuer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """By slash, by case or by none: 503 for the operator to fix, never open."""

    class Wrong:
        def __init__(self) -> None:
            self.issuer = issuer

        async def verify(self, credentials: Credentials) -> Identity:
            return Identity(subject="anybody")

    gate = make_gate(verifier=TenantVerifiers(lambda _: Wrong()))
    assert await status(gate, of(TENANT)) == 503
    assert "configuration: the function that finds verifiers" in caplog.text


async def test_function_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """503 with its traceback in the log; asked again a second later, not at once."""
    now = [0.0]

    asked: list[str] = []

    def resolve(issuer: str) -> Any:
        asked.append(issuer)
        raise LookupError("the table is away")

    table = TenantVerifiers(resolve, monotonic=lambda: now[0])
    gate = make_gate(verifier=table)
    answer = await ask(gate, headers=bearer(of(TENANT)))
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert "the table is away" in caplog.text
    assert CANARY not in caplog.text
    caplog.clear()
    assert await status(gate, of(TENANT)) == 503
    assert "the table is away" not in caplog.text
    assert asked == [TENANT]
    now[0] += 1.0
    logging.getLogger("xuna_middleware").debug("later")
    table._resolve = lambda issuer: make_verifier(issuer=issuer)
    assert await status(gate, of(TENANT)) == 200


def test_function_that_hangs() -> None:
    """Two seconds, then 503; the known tenants don't wait for it."""

    async def story() -> None:
        table = Table(TENANT, "https://two.example.com")
        gate = make_gate(verifier=TenantVerifiers(table))
        assert await status(gate, of(TENANT)) == 200
        table.before = asyncio.Event().wait
        slow = asyncio.create_task(status(gate, of("https://two.example.com")))
        await asyncio.sleep(0.1)
        began = seconds()
        assert await status(gate, of(TENANT)) == 200
        assert seconds() == began
        assert await slow == 503
        assert seconds() - began < 2

    in_fast_time(story())


async def test_many_at_once_share_one_question() -> None:
    """A hundred callers of a new tenant; one of them hanging up changes nothing for the rest."""
    table = Table(TENANT)
    go = asyncio.Event()
    table.before = go.wait
    gate = make_gate(verifier=TenantVerifiers(table))
    callers = [asyncio.create_task(status(gate, of(TENANT, jti=str(n)))) for n in range(100)]
    await asyncio.sleep(0)
    callers[0].cancel()
    go.set()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert answers[1:] == [200] * 99
    assert table.asked == {TENANT: 1}


async def test_questions_at_once_are_bounded() -> None:
    """A crowd of made-up issuers: so many questions at once, 64 wait, 503 without one beyond."""
    table = Table()
    go = asyncio.Event()
    table.before = go.wait
    gate = make_gate(verifier=TenantVerifiers(table, max_concurrent=3))
    made_up = [f"https://{number}.example.com" for number in range(100)]
    callers = [asyncio.create_task(status(gate, of(issuer))) for issuer in made_up]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(table.asked) == 3
    go.set()
    answers = Counter(await asyncio.gather(*callers))
    assert answers == {401: 3 + 64, 503: 33}


async def test_first_users_of_many_tenants_at_once() -> None:
    """After a start: the function answers without delay, and nobody is sent away."""
    issuers = [f"https://t{number}.example.com" for number in range(60)]
    gate = make_gate(verifier=TenantVerifiers(lambda issuer: make_verifier(issuer=issuer)))
    told = await asyncio.gather(*[status(gate, of(issuer)) for issuer in issuers])
    assert told == [200] * 60


async def test_look_ups_that_wait_take_no_place() -> None:
    """Room is looked for once more when their turn comes: nothing is looked up and begun to be let
    go at once.
    """
    issuers = [f"https://t{number}.example.com" for number in range(40)]
    table, go = Table(), asyncio.Event()
    table.verifiers = {issuer: closing(issuer) for issuer in issuers}
    table.before = go.wait
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=4, max_concurrent=4))
    callers = [asyncio.create_task(status(gate, forged(issuer))) for issuer in issuers]
    await settled()
    go.set()
    assert Counter(await asyncio.gather(*callers)) == {401: 4, 503: 36}
    assert len(table.asked) == 4
    assert not any(each.closed for each in table.verifiers.values())
    await gate.aclose()


async def test_unknown_is_remembered_boundedly() -> None:
    """The same made-up issuer asks once in ten seconds; ten thousand of them take no room."""
    now, table = [0.0], Table()
    tenants = TenantVerifiers(table, monotonic=lambda: now[0])
    gate = make_gate(verifier=tenants)
    assert [await status(gate, of(TENANT)) for _ in range(5)] == [401] * 5
    assert table.asked == {TENANT: 1}
    now[0] += 10
    table.verifiers[TENANT] = make_verifier(issuer=TENANT)
    assert await status(gate, of(TENANT)) == 200
    for number in range(4200):
        tenants._unknown.put(f"https://{number}.example.com", 0.0)
    assert len(tenants._unknown) == 4096


class Closing(JWTVerifier):
    """A verifier that says when it is closed, and can hold a request up."""

    closed = 0
    hold: asyncio.Event | None = None

    async def verify(self, credentials: Credentials) -> Identity:
        if self.hold is not None:
            await self.hold.wait()
        assert self.closed == 0, "closed while somebody was with it"
        return await super().verify(credentials)

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


def closing(issuer: str = TENANT) -> Closing:
    from support.signing import NOW

    return Closing(issuer=issuer, audience="voice", jwks=jwks(RSA), clock=lambda: NOW)


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_asked_again_after_a_while() -> None:
    """The same verifier goes on; another replaces it, and none ends it: each closed when unused."""
    now, table = [0.0], Table()
    gate = make_gate(verifier=TenantVerifiers(table, cache_seconds=60, monotonic=lambda: now[0]))
    first, second = closing(), closing()
    table.verifiers[TENANT] = first
    assert await status(gate, of(TENANT)) == 200
    now[0] += 60
    assert await status(gate, of(TENANT)) == 200
    assert (table.asked[TENANT], first.closed) == (2, 0)
    first.hold = asyncio.Event()
    held = asyncio.create_task(status(gate, of(TENANT, jti="held")))
    await settled()
    table.verifiers[TENANT] = second
    now[0] += 60
    assert await status(gate, of(TENANT)) == 200
    await settled()
    assert first.closed == 0
    first.hold.set()
    assert await held == 200
    await settled()
    assert first.closed == 1
    del table.verifiers[TENANT]
    now[0] += 60
    assert await status(gate, of(TENANT)) == 401
    await settled()
    assert second.closed == 1


async def test_the_least_used_goes_first() -> None:
    """No more than `most` are kept; what goes is closed, and found again when it comes."""
    issuers = [f"https://{name}.example.com" for name in "abc"]
    table = Table()
    table.verifiers = {issuer: closing(issuer) for issuer in issuers}
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=2))
    for issuer in (issuers[0], issuers[1], issuers[0], issuers[2]):
        assert await status(gate, of(issuer)) == 200
    await settled()
    assert [table.verifiers[issuer].closed for issuer in issuers] == [0, 1, 0]
    await gate.aclose()
    assert [table.verifiers[issuer].closed for issuer in issuers] == [1, 1, 1]


async def test_what_was_let_go_begins_again() -> None:
    """A table that returns the same verifier again gets it working again, keys fetched anew."""
    issuers = [f"https://{name}.example.com" for name in "ab"]
    keys = Published({f"{issuer}/keys": httpx.Response(200, json=jwks(RSA)) for issuer in issuers})
    table = Table()
    table.verifiers = {
        issuer: make_verifier(
            issuer=issuer, jwks_uri=f"{issuer}/keys", http_transport=keys.transport
        )
        for issuer in issuers
    }
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=1))
    for issuer in (*issuers, *issuers):
        assert await status(gate, of(issuer)) == 200
        await settled()
    await gate.aclose()
    assert await status(gate, of(issuers[0], jti="after the end")) == 200
    await gate.aclose()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


class Restarting(JWTVerifier):
    """A verifier that takes its time to close, works only between its start and that, and can hold
    a request up.
    """

    is_running = False
    hold: asyncio.Event | None = None
    closes: asyncio.Event | None = None

    def start(self) -> None:
        self.is_running = True

    async def verify(self, credentials: Credentials) -> Identity:
        assert self.is_running, "not started"
        identity = await super().verify(credentials)
        if self.hold is not None:
            await self.hold.wait()
        assert self.is_running, "closed while somebody was with it"
        return identity

    async def aclose(self) -> None:
        if self.closes is not None:
            await self.closes.wait()
        self.is_running = False


def restarting(issuer: str) -> Restarting:
    from support.signing import NOW

    return Restarting(issuer=issuer, audience="voice", jwks=jwks(RSA), clock=lambda: NOW)


async def test_what_is_found_again_while_it_is_closed() -> None:
    """Begins when it is closed, and not before: the closing would end it."""
    issuers = [f"https://{name}.example.com" for name in "ab"]
    table = Table()
    one, _ = (restarting(issuer) for issuer in issuers)
    table.verifiers = {issuers[0]: one, issuers[1]: restarting(issuers[1])}
    one.closes = asyncio.Event()
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=1))
    assert await status(gate, of(issuers[0])) == 200
    assert await status(gate, of(issuers[1])) == 200
    again = asyncio.create_task(status(gate, of(issuers[0], jti="again")))
    await settled()
    one.closes.set()
    assert await again == 200
    await settled()
    assert one.is_running
    await gate.aclose()
    assert not one.is_running


async def test_what_is_found_again_while_somebody_is_with_it() -> None:
    """Is closed for the last of all who are with it, under whichever look-up they found it."""
    issuers = [f"https://{name}.example.com" for name in "ab"]
    table = Table()
    one = restarting(issuers[0])
    table.verifiers = {issuers[0]: one, issuers[1]: restarting(issuers[1])}
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=1))
    assert await status(gate, of(issuers[0])) == 200
    one.hold = first = asyncio.Event()
    early = asyncio.create_task(status(gate, of(issuers[0], jti="early")))
    await settled()
    assert await status(gate, of(issuers[1])) == 200
    one.hold = second = asyncio.Event()
    late = asyncio.create_task(status(gate, of(issuers[0], jti="late")))
    await settled()
    first.set()
    assert await early == 200
    await settled()
    assert one.is_running
    one.hold = third = asyncio.Event()
    last = asyncio.create_task(status(gate, of(issuers[0], jti="last")))
    await settled()
    assert await status(gate, of(issuers[1], jti="again")) == 200
    second.set()
    third.set()
    assert [await late, await last] == [200, 200]
    await settled()
    await gate.aclose()
    assert not any(each.is_running for each in table.verifiers.values())


async def test_too_few_at_once() -> None:
    """Let go before its first caller had it: 503, and no verifier that is closed is used."""
    issuers = [f"https://{name}.example.com" for name in "abc"]
    table, go = Table(), asyncio.Event()
    table.verifiers = {issuer: closing(issuer) for issuer in issuers}
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=1, max_concurrent=2))
    for verifier in table.verifiers.values():
        verifier.hold = asyncio.Event()
    first = asyncio.create_task(status(gate, of(issuers[0])))
    await settled()
    table.before = go.wait
    others = [asyncio.create_task(status(gate, of(issuer))) for issuer in issuers[1:]]
    await settled()
    go.set()
    await settled()
    for verifier in table.verifiers.values():
        verifier.hold.set()
    assert [await first, *await asyncio.gather(*others)] == [200, 200, 503]
    await settled()
    await gate.aclose()
    assert [each.closed for each in table.verifiers.values()] == [1, 1, 1]


def forged(issuer: str, **changes: Any) -> str:
    head, payload, signature = of(issuer, **changes).split(".")
    return f"{head}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def test_known_tenant_among_made_up_issuers() -> None:
    """Strangers hold all places of look-ups: a tenant whose `keep` has ended is looked up apart."""

    async def story() -> None:
        now, table = [0.0], Table(TENANT)
        gate = make_gate(verifier=TenantVerifiers(table, monotonic=lambda: now[0]))
        assert await status(gate, of(TENANT)) == 200
        now[0] += 300

        hanging = asyncio.Event()
        table.before = hanging.wait
        made_up = [f"https://made-up-{number}.example.com" for number in range(80)]
        strangers = [asyncio.create_task(status(gate, of(issuer))) for issuer in made_up]
        await asyncio.sleep(0.1)
        table.before = None
        assert await status(gate, of(TENANT)) == 200
        hanging.set()
        assert Counter(await asyncio.gather(*strangers)) == {401: 8 + 64, 503: 8}

    in_fast_time(story())


async def test_forged_tokens_drop_no_live_tenant() -> None:
    """Two more tenants than `most`, named by nobody but strangers: the live ones stay, and what is
    looked up has a bound.
    """
    now = [0.0]
    issuers = [f"https://t{number}.example.com" for number in range(40)]
    live, dormant = issuers[:20], issuers[20:]
    table = Table()
    table.verifiers = {issuer: closing(issuer) for issuer in issuers}
    tenants = TenantVerifiers(table, max_entries=20, max_concurrent=4, monotonic=lambda: now[0])
    gate = make_gate(verifier=tenants)
    for issuer in live:
        assert await status(gate, of(issuer)) == 200
    answers: Counter[int] = Counter()
    for second in range(100):
        now[0] += 1
        for issuer in dormant:
            answers[await status(gate, forged(issuer, jti=str(second)))] += 1
    await settled()
    assert [table.asked[issuer] for issuer in live] == [1] * 20
    assert [table.verifiers[issuer].closed for issuer in live] == [0] * 20
    assert sum(table.asked[issuer] for issuer in dormant) <= 4 * 11
    assert set(answers) == {401, 503}
    assert repr(tenants) == "TenantVerifiers(24 of at most 20)"
    assert await status(gate, of(live[0])) == 200
    await gate.aclose()


async def test_forged_token_counts_as_no_use() -> None:
    """The tenant whose tokens were verified last stays, whoever else is named since."""
    issuers = [f"https://{name}.example.com" for name in "abc"]
    table = Table()
    table.verifiers = {issuer: closing(issuer) for issuer in issuers}
    gate = make_gate(verifier=TenantVerifiers(table, max_entries=2))
    for token in (of(issuers[0]), of(issuers[1]), forged(issuers[0]), of(issuers[2])):
        await status(gate, token)
    await settled()
    assert [table.verifiers[issuer].closed for issuer in issuers] == [1, 0, 0]


async def test_newcomer_that_is_verified_stays() -> None:
    """A tenant that strangers named first is a live one with its first good token."""
    now, table = [0.0], Table()
    issuers = [f"https://t{number}.example.com" for number in range(4)]
    table.verifiers = {issuer: closing(issuer) for issuer in issuers}
    tenants = TenantVerifiers(table, max_entries=2, max_concurrent=1, monotonic=lambda: now[0])
    gate = make_gate(verifier=tenants)
    assert await status(gate, forged(issuers[0])) == 401
    assert await status(gate, of(issuers[0])) == 200
    assert await status(gate, of(issuers[1])) == 200
    for issuer in issuers[2:]:
        now[0] += 10
        assert await status(gate, forged(issuer)) == 401
    assert await status(gate, of(issuers[0], jti="again")) == 200
    assert table.asked[issuers[0]] == 1


async def test_the_end_while_somebody_is_looked_up() -> None:
    """The look-up ends too: 503 for who waits, and nothing begins afterwards."""
    table = Table()
    table.verifiers[TENANT] = verifier = closing()
    table.before = asyncio.Event().wait
    gate = make_gate(verifier=TenantVerifiers(table))
    caller = asyncio.create_task(status(gate, of(TENANT)))
    await settled()
    await gate.aclose()
    assert await caller == 503
    assert repr(core_of(gate).authentication.verifiers[0]) == "TenantVerifiers(0 of at most 1000)"
    assert verifier.closed == 0


class Broken:
    """A verifier of somebody's own, some member of which raises."""

    issuer = TENANT
    ready = True

    def __init__(self, member: str) -> None:
        self.member = member

    def _pass(self, member: str) -> None:
        if member == self.member:
            raise RuntimeError(f"{member} is broken")

    def start(self) -> None:
        self._pass("start")

    async def verify(self, credentials: Credentials) -> Identity:
        return Identity(subject="anna", issuer=TENANT)

    async def aclose(self) -> None:
        self._pass("aclose")


async def test_tenant_that_cannot_begin(caplog: pytest.LogCaptureFixture) -> None:
    """As a function that fails: 503, said in the log, asked again after a second."""
    gate = make_gate(verifier=TenantVerifiers(lambda _: Broken("start")))
    assert await status(gate, of(TENANT)) == 503
    assert "start is broken" in caplog.text


async def test_tenant_that_cannot_end(caplog: pytest.LogCaptureFixture) -> None:
    """No caller hears of it; the operator does, and the others are closed all the same."""
    other = closing("https://two.example.com")
    table = Table()
    table.verifiers = {TENANT: Broken("aclose"), other.issuer: other}
    gate = make_gate(verifier=TenantVerifiers(table))
    for issuer in table.verifiers:
        assert await status(gate, of(issuer)) == 200
    await gate.aclose()
    assert "aclose is broken" in caplog.text
    assert other.closed == 1


@pytest.mark.parametrize("found", ["a text", 7, type("Deaf", (), {"issuer": TENANT})()])
async def test_something_that_is_no_verifier(found: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of the operator's is a 503 with the fix in the log."""
    gate = make_gate(verifier=TenantVerifiers(lambda _: found))
    assert await status(gate, of(TENANT)) == 503
    assert "configuration: the function that finds verifiers returned" in caplog.text


def test_two_event_loops_one_after_the_other() -> None:
    """Found on one loop, served and closed on another, as tests and reloading servers do."""
    verifier = closing()
    gate = make_gate(verifier=TenantVerifiers(lambda _: verifier))
    assert asyncio.run(status(gate, of(TENANT))) == 200

    async def again() -> int:
        answer = await status(gate, of(TENANT, jti="second loop"))
        await gate.aclose()
        return answer

    assert asyncio.run(again()) == 200
    assert verifier.closed == 1


async def test_bound_tokens_of_a_tenant() -> None:
    """A tenant's own `dpop=` holds; one without it is given none."""
    table = Table(TENANT)
    table.verifiers["https://two.example.com"] = make_verifier(
        issuer="https://two.example.com", dpop="required"
    )
    declared = VerifierTraits(dpop_algorithms=ASYMMETRIC)
    gate = make_gate(verifier=TenantVerifiers(table, traits=declared), public_url=PUBLIC)
    for issuer, expected in (("https://two.example.com", 200), (TENANT, 401)):
        token = of(issuer, cnf={"jkt": thumbprint(EC.jwk)})
        made = proof(EC, token, f"{PUBLIC}/get-signed-url", jti=issuer)
        headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
        assert (await ask(gate, headers=headers)).status == expected


async def test_verifier_that_has_nothing_to_start() -> None:
    """One method is enough for a tenant's verifier as for any."""

    class Own:
        issuer = TENANT

        async def verify(self, credentials: Credentials) -> Identity:
            return Identity(subject="anna", issuer=TENANT)

    gate = make_gate(verifier=TenantVerifiers(lambda _: Own()))
    assert await status(gate, of(TENANT)) == 200
    await gate.aclose()


async def test_ready_from_the_start() -> None:
    """Nobody is known yet, and that keeps nobody from being served."""
    app = XunaMiddleware(echo_app, make_gate(verifier=TenantVerifiers(Table())))
    assert (await ask(app, "/xuna/readyz")).json()["ready"] is True


@pytest.mark.parametrize(
    "options",
    [
        {"resolve": None},
        {"max_entries": 0},
        {"max_entries": True},
        {"max_concurrent": 0},
        {"cache_seconds": 0.5},
        {"cache_seconds": float("nan")},
        {"traits": {"dpop_algorithms": ("ES256",)}},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    """Refused when it is built."""
    with pytest.raises(ConfigurationError):
        TenantVerifiers(**{"resolve": Table(), **options})


def test_two_of_them() -> None:
    """Nobody could say which is asked."""
    with pytest.raises(ConfigurationError, match="TenantVerifiers"):
        make_gate(verifier=[TenantVerifiers(Table()), TenantVerifiers(Table())])
