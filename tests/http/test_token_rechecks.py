"""Opaque tokens that their provider takes back while a conversation that they opened runs."""

import asyncio
import copy
import gc
import json
import logging
import pickle
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import redis
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from stores.redis_server import running_redis
from support.doubles import ask, in_fast_time, make_gate, make_verifier
from support.relay_stage import REFRESH, URL, Pair, Stage, agent, on_stage
from support.signing import CANARY, ISSUER, NOW, RSA, good_claims
from support.talking import Talk, talking

from xuna_middleware import (
    ConfigurationError,
    Credentials,
    Identity,
    IntrospectionVerifier,
    InvalidTokenError,
    MemoryStore,
    RedisStore,
    TenantVerifiers,
    Verifier,
    XunaGate,
    XunaMiddleware,
    get_identity,
)
from xuna_middleware.identity import VerifierTraits
from xuna_middleware.identity.rechecks import HeldToken
from xuna_middleware.identity.tenants import Resolve
from xuna_middleware.identity.tickets.sealing import seal, unseal
from xuna_middleware.identity.tickets.tickets import PREFIX

TOKEN: Final = f"opaque-{CANARY}-0001"
FRESH: Final = f"opaque-{CANARY}-0002"
ANSWER: Final[Mapping[str, Any]] = {
    "active": True,
    "sub": "user-1",
    "client_id": "app",
    "scope": "voice:talk",
    "iat": NOW - 10,
}
INACTIVE: Final = {"active": False}
#: The default interval, and what one call and the loop's own steps may take in these tests.
INTERVAL: Final = 60.0
MORE: Final = 1.0

Story = Callable[[], Coroutine[Any, Any, None]]

#: Opaque tokens may live longer than a day.
LONG_LIVED: Final = VerifierTraits(max_token_seconds=31 * 86_400)


@dataclass
class Provider:
    """A provider in this process: what it says of each token, and how often it was asked."""

    answers: dict[str, Any] = field(
        default_factory=lambda: {TOKEN: dict(ANSWER), FRESH: dict(ANSWER)}
    )
    asked: Counter[str] = field(default_factory=Counter)
    fails: bool = False
    #: What the provider answers about tokens that it never made, where that is not "inactive".
    of_strangers: int = 200
    #: Held while a question waits for its answer.
    gate: asyncio.Event | None = None
    #: Set when a question waits there.
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, request: httpx.Request) -> httpx.Response:
        token = parse_qs(request.content.decode())["token"][0]
        self.asked[token] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.gate is not None:
                self.waits.set()
                await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.fails:
            return httpx.Response(500)
        status = 200 if token in self.answers else self.of_strangers
        return httpx.Response(status, json=self.answers.get(token, INACTIVE))

    def verifier(self, **options: Any) -> IntrospectionVerifier:
        defaults: dict[str, Any] = {
            "client_id": "gate",
            "client_secret": f"{CANARY}-secret",
            "client_ids": ("app",),
            "introspection_endpoint": f"{ISSUER}/introspect",
            "http_transport": httpx.MockTransport(self.handle),
            "clock": lambda: NOW,
        }
        verifier = IntrospectionVerifier(ISSUER, **{**defaults, **options})
        for endpoint in (verifier._endpoint, verifier._known_endpoint):
            endpoint._now = elapsed  # how long it is left alone, in the time of the test
        return verifier


@asynccontextmanager
async def staged(
    provider: Provider, *agents: Any, verifier: Any = None, **options: Any
) -> AsyncIterator[Stage]:
    """Put a gate on stage whose callers come with opaque tokens."""
    async with on_stage(*agents, **options) as stage:
        with stage.gate.overridden(verifier=verifier or provider.verifier()):
            yield stage


def as_bearer(token: str = TOKEN) -> list[Pair]:
    return [(b"authorization", f"Bearer {token}".encode())]


def elapsed() -> float:
    return asyncio.get_running_loop().time()


async def ended_within(talk: Talk, ending: tuple[int, str], seconds: float) -> None:
    """See that it ends so, and in time."""
    began = elapsed()
    assert await talk.ending(within=seconds + MORE) == ending
    assert elapsed() - began <= seconds + MORE


def fast(story: Story) -> None:
    in_fast_time(story())


async def opened_directly(stage: Stage, token: str = TOKEN) -> dict[str, Any]:
    return {"headers": as_bearer(token)}


async def opened_by_signed_url(stage: Stage, token: str = TOKEN) -> dict[str, Any]:
    return {"query": f"ticket={await stage.ticket(as_bearer(token))}"}


async def opened_by_ticket(stage: Stage, token: str = TOKEN) -> dict[str, Any]:
    answer = await stage.ask("/ticket", as_bearer(token), method="POST")
    return {"query": f"ticket={answer.json()['ticket']}"}


async def opened_by_own_route(stage: Stage, token: str = TOKEN) -> dict[str, Any]:
    """As a route of the app's own does: `gate.identity()`, then `gate.issue()`."""
    connection = HTTPConnection({"type": "http", "path": "/own", "headers": as_bearer(token)})
    identity = await stage.gate.identity(connection)
    issued = await stage.gate.issue(identity, transport="websocket", connection=connection)
    return {"query": urlsplit(issued.to_dict()["signed_url"]).query}


OPENED: Final = (opened_directly, opened_by_signed_url, opened_by_ticket, opened_by_own_route)


@pytest.mark.parametrize("way", OPENED)
def test_revoked_by_its_provider(way: Callable[..., Any]) -> None:
    """However it was opened: 4411 within the interval and one call, and one line says why."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage, talking(stage.app, **await way(stage)) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            await asyncio.sleep(3 * INTERVAL)
            assert not talk.over.is_set()
            provider.answers[TOKEN] = INACTIVE
            await ended_within(talk, (4411, "revoked"), INTERVAL)
            event = await stage.ended()
            assert (event.close_code, event.cause) == (4411, "gate: revoked")
            (refused,) = stage.named("refused")
            assert (refused.code, refused.subject) == ("invalid_token", "user-1")
            assert str(refused.cause).startswith("inactive")
            assert (await stage.ask("/get-signed-url", as_bearer())).status == 401

    fast(story)


@pytest.mark.parametrize("way", [opened_by_signed_url, opened_by_ticket])
def test_revoked_between_ticket_and_opening(way: Callable[..., Any]) -> None:
    """The first question of a conversation that a ticket opened comes at once."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage:
            opening = await way(stage)
            provider.answers[TOKEN] = INACTIVE
            async with talking(stage.app, **opening) as talk:
                await talk.begin()
                await ended_within(talk, (4411, "revoked"), 1)

    fast(story)


def test_revoked_before_the_first_frame() -> None:
    """The platform hears nothing then."""

    async def story() -> None:
        provider = Provider()
        verifier = provider.verifier(recheck_seconds=2)
        async with staged(provider, verifier=verifier) as stage:
            async with talking(stage.app, headers=as_bearer()) as talk:
                await talk.accepted()
                provider.answers[TOKEN] = INACTIVE
                await ended_within(talk, (4411, "revoked"), 2)
            assert not stage.platform.conversations

    fast(story)


CHANGED: Final[Mapping[str, Mapping[str, Any]]] = {
    "another subject": {"sub": "user-2"},
    "another issuer": {"iss": "https://other.example.com"},
    "another client": {"client_id": "other"},
    "active in another spelling": {"active": "true"},
    "bound to a key": {"cnf": {"jkt": "x"}},
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_the_provider_would_not_be_believed(name: str) -> None:
    """What would be refused at the door ends what is running."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            provider.answers[TOKEN] = {**ANSWER, **CHANGED[name]}
            await ended_within(talk, (4411, "revoked"), INTERVAL)

    fast(story)


def test_scope_that_is_taken_back() -> None:
    """The agent's rule is asked again where the provider says something else than before."""

    async def story() -> None:
        provider, asked = Provider(), Counter[str]()

        def counted(identity: Identity) -> bool:
            asked[identity.subject] += 1
            return "voice:talk" in identity.scopes

        async with (
            staged(provider, agent(allow=counted)) as stage,
            talking(stage.app, headers=as_bearer()) as talk,
        ):
            await talk.begin()
            await asyncio.sleep(3 * INTERVAL)
            assert (asked["user-1"], provider.asked[TOKEN] > 3) == (1, True)
            provider.answers[TOKEN] = {**ANSWER, "scope": "voice:talk more"}
            await asyncio.sleep(3 * INTERVAL)
            assert asked["user-1"] == 2
            provider.answers[TOKEN] = {**ANSWER, "scope": "other"}
            await ended_within(talk, (4403, "access_denied"), INTERVAL)

    fast(story)


def test_end_that_comes_sooner() -> None:
    """A shortened `exp` ends the conversation then, with 4401; one left out changes nothing."""

    async def story() -> None:
        provider, now = Provider(), time.time()
        # The provider's clock is late, so that what has ended for the gate is good for its policy.
        verifier = provider.verifier(clock=lambda: now - 100)
        provider.answers[TOKEN] = {**ANSWER, "iat": now - 200, "exp": now + 3600}
        async with (
            staged(provider, verifier=verifier) as stage,
            talking(stage.app, headers=as_bearer()) as talk,
        ):
            await talk.begin()
            del provider.answers[TOKEN]["exp"]
            await asyncio.sleep(2 * INTERVAL)
            assert not talk.over.is_set()
            provider.answers[TOKEN]["exp"] = now - 1
            await ended_within(talk, (4401, "token_expired"), INTERVAL)

    fast(story)


def test_provider_that_does_not_answer() -> None:
    """Three times in a row: 4503, and not before; an answer between begins anew."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            for _ in range(2):
                provider.fails = True
                await asyncio.sleep(2 * INTERVAL * 0.75 - 1)
                provider.fails = False
                await asyncio.sleep(INTERVAL + 1)
                assert not talk.over.is_set()
            provider.fails = True
            began = elapsed()
            await ended_within(talk, (4503, "unavailable"), 3 * INTERVAL)
            assert elapsed() - began > 2 * INTERVAL * 0.75
            assert [each.code for each in stage.named("refused")] == ["unavailable"]

    fast(story)


def test_provider_that_hangs() -> None:
    """A question that is never answered counts as one without an answer."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            provider.gate = asyncio.Event()
            await ended_within(talk, (4503, "unavailable"), 3 * (INTERVAL + 5))

    fast(story)


def test_fresh_token_takes_over() -> None:
    """After a refresh the fresh token counts, and what becomes of the old one doesn't."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            await talk.say({"type": REFRESH, "token": FRESH})
            assert "code" not in await talk.heard(REFRESH)
            provider.answers[TOKEN] = INACTIVE
            before = provider.asked[TOKEN]
            await asyncio.sleep(3 * INTERVAL)
            assert (provider.asked[TOKEN], talk.over.is_set()) == (before, False)
            provider.answers[FRESH] = INACTIVE
            await ended_within(talk, (4411, "revoked"), INTERVAL)

    fast(story)


def test_answer_about_the_old_token_that_comes_late() -> None:
    """A provider that takes the old token back at a refresh ends nothing by that."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            await talk.heard("agent_response")
            await stage.ask("/get-signed-url", as_bearer(FRESH))  # remembered: asked no more
            provider.answers[TOKEN], provider.gate = INACTIVE, asyncio.Event()
            await provider.waits.wait()
            await talk.say({"type": REFRESH, "token": FRESH})
            assert "code" not in await talk.heard(REFRESH)
            provider.gate.set()
            provider.gate = None
            await asyncio.sleep(3 * INTERVAL)
            assert not talk.over.is_set()

    fast(story)


def test_refresh_that_is_refused_changes_nothing() -> None:
    """The old token is asked about as before."""

    async def story() -> None:
        provider = Provider()
        provider.answers[FRESH] = {**ANSWER, "sub": "user-2"}
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            await talk.say({"type": REFRESH, "token": FRESH})
            assert (await talk.heard(REFRESH))["code"] == "subject_mismatch"
            provider.answers[TOKEN] = INACTIVE
            await ended_within(talk, (4411, "revoked"), INTERVAL)

    fast(story)


@pytest.mark.parametrize("token", ["tok_\u00e9", "tok_ a", "tok_\n", "tok_" + "a" * 16_384, ""])
def test_fresh_token_that_no_header_could_hold(token: str) -> None:
    """It is a bad one, whatever `token_pattern` says, and the provider isn't asked."""

    async def story() -> None:
        provider = Provider()
        verifier = provider.verifier(token_pattern=r"(?s)opaque-.*|tok_.*")
        async with (
            staged(provider, verifier=verifier) as stage,
            talking(stage.app, headers=as_bearer()) as talk,
        ):
            await talk.begin()
            await talk.say({"type": REFRESH, "token": token})
            assert (await talk.heard(REFRESH))["code"] == "invalid_token"
            assert set(provider.asked) == {TOKEN}

    fast(story)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_strangers_whose_tokens_fail_cannot_end_it(status: int) -> None:
    """The provider fails at made-up tokens: it is left alone with those, and asked of good ones."""

    async def story() -> None:
        provider = Provider(of_strangers=status)
        async with staged(provider) as stage, talking(stage.app, headers=as_bearer()) as talk:
            await talk.begin()
            for number in range(5 * 60):
                await stage.ask("/agents", as_bearer(f"made-up-{number:016}"))
                await asyncio.sleep(1)
            assert provider.asked[TOKEN] >= 5
            provider.answers[TOKEN] = INACTIVE
            await ended_within(talk, (4411, "revoked"), INTERVAL)

    fast(story)


@pytest.mark.parametrize("retry_after", [{}, {"Retry-After": "10"}, {"Retry-After": "86400"}])
def test_strangers_who_use_up_what_the_provider_answers(retry_after: dict[str, str]) -> None:
    """It answers 20 questions a minute, and 429 to what is more; more than one made-up token comes
    a second. A question without an answer is asked again soon, and has one in the next minute.
    """

    async def story() -> None:
        provider, minutes = Provider(), Counter[int]()

        async def limited(request: httpx.Request) -> httpx.Response:
            minute = int(elapsed() // 60)
            minutes[minute] += 1
            answer = await provider.handle(request)
            await asyncio.sleep(0.03)
            return answer if minutes[minute] <= 20 else httpx.Response(429, headers=retry_after)

        verifier = provider.verifier(http_transport=httpx.MockTransport(limited))
        stop = asyncio.Event()

        async def strangers(stage: Stage) -> None:
            number = 0
            while not stop.is_set():
                await stage.ask("/agents", as_bearer(f"made-up-{number:016}"))
                await asyncio.sleep(0.8)
                number += 1

        async with (
            staged(provider, verifier=verifier) as stage,
            talking(stage.app, headers=as_bearer()) as talk,
        ):
            await talk.begin()
            flood = asyncio.ensure_future(strangers(stage))
            await asyncio.sleep(9 * 60)
            stop.set()
            await flood
            assert not talk.over.is_set()
            assert sum(count > 20 for count in minutes.values()) > 5, "they did use it up"

    fast(story)


def test_strangers_cannot_end_it() -> None:
    """Made-up tokens fill their own queue, and keep no conversation's question from being asked."""

    async def story() -> None:
        provider, hanging = Provider(), asyncio.Event()

        async def flooded(request: httpx.Request) -> httpx.Response:
            if b"made-up" in request.content:
                await hanging.wait()
            return await provider.handle(request)

        transport = httpx.MockTransport(flooded)
        verifier = provider.verifier(
            max_concurrent=1, max_queued=1, recheck_seconds=4, http_transport=transport
        )
        async with (
            staged(provider, verifier=verifier) as stage,
            talking(stage.app, headers=as_bearer()) as talk,
        ):
            await talk.begin()
            await talk.heard("agent_response")
            strangers = [
                asyncio.ensure_future(stage.ask("/get-signed-url", as_bearer(f"made-up-{n:016}")))
                for n in range(10)
            ]
            before = provider.asked[TOKEN]
            await asyncio.sleep(4.1)
            assert sum(each.done() for each in strangers) == 8, "two wait, the others are refused"
            assert provider.asked[TOKEN] == before + 1
            hanging.set()
            await asyncio.gather(*strangers)
            assert not talk.over.is_set()

    fast(story)


@pytest.mark.parametrize("how", ["hang up", "gate closes"])
def test_nothing_is_left(how: str) -> None:
    """No task and no question outlives the conversation, one under way included."""

    async def story() -> None:
        provider = Provider()
        async with staged(provider) as stage:
            async with talking(stage.app, headers=as_bearer()) as talk:
                await talk.begin()
                provider.gate = asyncio.Event()
                await provider.waits.wait()
                if how == "gate closes":
                    await stage.gate.aclose()
            await stage.ended()
            provider.gate.set()
            await asyncio.sleep(10)
            asked = provider.asked[TOKEN]
            await asyncio.sleep(10 * INTERVAL)
            assert provider.asked[TOKEN] == asked
            names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
            assert not [name for name in names if "Recheck" in name or "Questions" in name]

    fast(story)


def list_of(provider: Provider) -> list[Verifier]:
    return [provider.verifier(), make_verifier()]


def tenants_of(provider: Provider) -> Verifier:
    verifier = provider.verifier(token_pattern=r"[A-Za-z0-9._-]{16,2048}")
    resolve: Resolve = {ISSUER: verifier}.get
    return TenantVerifiers(resolve, traits=LONG_LIVED)


def tenants_in_a_list(provider: Provider) -> list[Verifier]:
    other = make_verifier(issuer="https://other.example.com")
    return [other, tenants_of(provider)]


@pytest.mark.parametrize("made", [list_of, tenants_of, tenants_in_a_list])
@pytest.mark.parametrize("way", [opened_directly, opened_by_signed_url])
def test_behind_lists_and_tenants(made: Callable[[Provider], Any], way: Callable[..., Any]) -> None:
    """The one verifier whose token it is gets asked; tenants' tokens have the form of JWTs."""
    token = TOKEN if made is list_of else RSA.token(good_claims())

    async def story() -> None:
        provider = Provider(answers={token: dict(ANSWER)})
        async with (
            staged(provider, verifier=made(provider)) as stage,
            talking(stage.app, **await way(stage, token)) as talk,
        ):
            await talk.begin()
            await asyncio.sleep(3 * INTERVAL)
            assert not talk.over.is_set()
            provider.answers[token] = INACTIVE
            await ended_within(talk, (4411, "revoked"), INTERVAL)

    fast(story)


THEIRS: Final = "https://theirs.example.com"


def of_theirs(provider: Provider) -> IntrospectionVerifier:
    """Return the verifier of another provider, whose tokens look the same."""
    transport = httpx.MockTransport(provider.handle)
    return IntrospectionVerifier(
        THEIRS,
        client_id="gate",
        client_secret=f"{CANARY}-secret",
        client_ids=("app",),
        introspection_endpoint=f"{THEIRS}/introspect",
        http_transport=transport,
        clock=lambda: NOW,
    )


async def issued_behind(outer: XunaGate, gate: XunaGate, *, both: bool = False) -> str:
    """Return the query of a URL that one gate issues to whom another one's middleware verified."""
    issued: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        identity = get_identity(scope)
        assert identity is not None
        if both:
            await gate.identity(request)
        url = await gate.issue(identity, transport="websocket", connection=request)
        issued.append(urlsplit(url.to_dict()["signed_url"]).query)
        await PlainTextResponse("done")(scope, receive, send)

    answer = await ask(
        XunaMiddleware(app, outer, prefix="/outer", protect=["/talk"]), "/talk", headers=as_bearer()
    )
    assert answer.status == 200, answer.body
    return issued[0]


def test_another_gates_token_goes_to_no_other_provider() -> None:
    """One gate verified the caller, another one issues: its provider never sees the token, and the
    conversation goes on, since nobody can be asked about it here.
    """

    async def story() -> None:
        ours, others = Provider(), Provider(answers={})
        outer = make_gate(verifier=ours.verifier())
        async with staged(others, verifier=of_theirs(others)) as stage:
            query = await issued_behind(outer, stage.gate)
            async with talking(stage.app, query=query) as talk:
                await talk.begin()
                await asyncio.sleep(3 * INTERVAL)
                assert not talk.over.is_set()
        assert not others.asked

    fast(story)


@pytest.mark.parametrize("how", ["both verify", "one verifier for both"])
def test_gates_in_one_request_keep_their_own_proofs(how: str) -> None:
    """What one gate verified is asked about there, whatever another one verified before."""

    async def story() -> None:
        provider, before = Provider(), Provider()
        verifier = provider.verifier()
        both = how == "both verify"
        outer = make_gate(verifier=before.verifier() if both else verifier)
        async with staged(provider, verifier=verifier) as stage:
            query = await issued_behind(outer, stage.gate, both=both)
            async with talking(stage.app, query=query) as talk:
                await talk.begin()
                before.answers[TOKEN] = INACTIVE
                await asyncio.sleep(3 * INTERVAL)
                assert not talk.over.is_set()
                provider.answers[TOKEN] = INACTIVE
                await ended_within(talk, (4411, "revoked"), INTERVAL)

    fast(story)


@pytest.mark.parametrize("jwts_first", [True, False])
def test_tickets_token_goes_to_no_other_provider(jwts_first: bool) -> None:
    """Gates of one name: the one that takes the ticket verifies JWTs of the ticket's issuer, and
    opaque tokens of another one. That provider never sees the token, and the ticket is a 401.
    """

    async def story() -> None:
        ours, others, store = Provider(), Provider(), MemoryStore()
        listed = [make_verifier(), of_theirs(others)]
        verifier = listed if jwts_first else listed[::-1]
        here = make_gate(verifier=ours.verifier(), store=store, agents=[agent()], public_url=URL)
        async with staged(others, verifier=verifier, store=store) as stage:
            answer = await ask(here, "/ticket", method="POST", headers=as_bearer())
            query = f"ticket={answer.json()['ticket']}"
            async with talking(stage.app, query=query) as talk:
                assert (await talk.refusal()).status == 401
            (refused,) = stage.named("refused")
            assert f"another issuer than '{ISSUER}'" in str(refused.cause)
        assert not others.asked

    fast(story)


def test_jwts_are_asked_about_by_nobody() -> None:
    """A JWT is good until its `exp`, beside a verifier that asks, too; it is kept nowhere."""

    async def story() -> None:
        provider, store = Provider(), MemoryStore()
        async with staged(provider, verifier=list_of(provider), store=store) as stage:
            token = RSA.token(good_claims(exp=NOW + 600))
            ticket = await stage.ticket(as_bearer(token))
            assert '"token": null' in record_in(store).decode()
            async with talking(stage.app, query=f"ticket={ticket}") as talk:
                await talk.begin()
                await asyncio.sleep(5 * INTERVAL)
                assert not talk.over.is_set()
        assert not provider.asked

    fast(story)


def record_in(store: MemoryStore) -> bytes:
    """Return the record of the one ticket in a store."""
    (kept,) = store._kept.values()
    return kept.value


def test_never_where_it_is_turned_off() -> None:
    """`recheck_seconds=None`; and a caller of an authenticator's is asked about by nobody."""

    async def story() -> None:
        provider = Provider()
        verifier = provider.verifier(recheck_seconds=None)
        async with (
            staged(provider, verifier=verifier) as stage,
            talking(stage.app, headers=as_bearer()) as talk,
        ):
            await talk.begin()
            provider.answers[TOKEN] = INACTIVE
            await asyncio.sleep(10 * INTERVAL)
            assert not talk.over.is_set()

    fast(story)


@pytest.mark.parametrize("seconds", [0, 0.5, 3601, -1, float("nan"), True, "60"])
def test_intervals_that_make_no_sense(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="recheck_seconds"):
        Provider().verifier(recheck_seconds=seconds)


class OwnVerifier:
    """A verifier of the user's own that can be asked again, and does as a test says."""

    def __init__(self) -> None:
        self.again: Callable[[], Identity] = self.known

    def known(self) -> Identity:
        return Identity(subject="user-1", issuer="own", claims={"iat": NOW})

    async def verify(self, credentials: Credentials) -> Identity:
        return self.known()

    async def recheck_interval(self, token: str) -> float | None:
        return 20

    async def recheck(self, token: str) -> Identity:
        return self.again()


def test_verifier_of_ones_own() -> None:
    """It has the two methods, and that is all; what it raises unexpectedly is no answer."""

    async def story() -> None:
        own = OwnVerifier()
        async with on_stage() as stage:
            with stage.gate.overridden(verifier=own):
                async with talking(stage.app, headers=as_bearer()) as talk:
                    await talk.begin()
                    await asyncio.sleep(100)
                    own.again = lambda: 1 / 0  # type: ignore[assignment,return-value]
                    await ended_within(talk, (4503, "unavailable"), 60)

    fast(story)


@pytest.mark.parametrize("way", [opened_directly, opened_by_signed_url])
def test_token_shows_nowhere(way: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    """Not in what is kept of the conversation, nor in an event, nor in a line, nor in a close."""
    caplog.set_level(logging.DEBUG)

    async def story() -> None:
        provider, store = Provider(), MemoryStore()
        verifier = provider.verifier(recheck_seconds=2)
        async with staged(provider, verifier=verifier, store=store) as stage:
            opening = await way(stage)
            caplog.clear()  # the ticket itself, in httpx's own lines of this test, is no token
            assert all(TOKEN.encode() not in value.value for value in store._kept.values())
            async with talking(stage.app, **opening) as talk:
                await talk.begin()
                provider.fails = True
                await ended_within(talk, (4503, "unavailable"), 6)
                seen = [repr(each) for each in gc.get_objects() if type(each).__name__ in KEEPERS]
                assert any("HeldToken(***)" in each for each in seen)
                assert CANARY not in " ".join(seen)
            assert CANARY not in repr(stage.events) + caplog.text + repr(talk.sent)

    fast(story)


#: What holds something of a running conversation.
KEEPERS: Final = ("_Conversation", "Order", "Caller", "Ticket", "HeldToken", "Live", "Recheck")


def test_held_token_is_masked() -> None:
    """In every rendering, and it can't be pickled."""
    token = HeldToken(TOKEN, ISSUER)
    assert {repr(token), str(token), f"{token}", repr(copy.deepcopy(token))} == {"HeldToken(***)"}
    with pytest.raises(TypeError):
        pickle.dumps(token)
    assert token.reveal() == TOKEN


async def test_store_alone_cannot_open_the_token() -> None:
    """The record holds it sealed by the ticket; the same token is sealed differently each time."""
    store, provider = MemoryStore(), Provider()
    records = []
    async with staged(provider, store=store) as stage:
        for _ in range(2):
            ticket = await stage.ticket(as_bearer())
            record = json.loads(record_in(store))
            records.append(record)
            assert TOKEN not in json.dumps(record)
            assert unseal(ticket, record["token"], ISSUER).reveal() == TOKEN
            name = next(iter(store._kept))
            for known in (name, name.removeprefix("ticket:"), PREFIX + "A" * 43):
                with pytest.raises(InvalidTokenError):
                    unseal(known, record["token"], ISSUER)
            store._kept.clear()
    assert records[0]["token"] != records[1]["token"]


@pytest.mark.parametrize(
    "how", ["changed", "cut off", "of another ticket", "for another provider", "no base64"]
)
async def test_sealed_token_that_somebody_changed(how: str) -> None:
    """401 before the accept; the ticket is used up."""
    store, provider = MemoryStore(), Provider()
    async with staged(provider, store=store) as stage:
        ticket = await stage.ticket(as_bearer())
        (kept,) = store._kept.values()
        record = json.loads(kept.value)
        sealed: str = record["token"]
        record["token"] = {
            "changed": sealed[:-8] + ("AAAA" if sealed[-8:-4] != "AAAA" else "BBBB") + sealed[-4:],
            "cut off": sealed[:16],
            "of another ticket": seal(PREFIX + "A" * 43, HeldToken(FRESH, ISSUER)),
            "for another provider": seal(ticket, HeldToken(TOKEN, "https://other.example.com")),
            "no base64": "é",
        }[how]
        kept.value = json.dumps(record).encode()
        async with talking(stage.app, query=f"ticket={ticket}") as talk:
            assert (await talk.refusal()).status == 401


async def test_redeemed_in_another_process() -> None:
    """Over Redis: the gate that takes the ticket never saw the token, and asks about it."""
    with running_redis() as server:
        first, second = Provider(), Provider()
        async with (
            staged(first, store=RedisStore(server.url, namespace="acme")) as one,
            staged(second, store=RedisStore(server.url, namespace="acme")) as other,
        ):
            ticket = await one.ticket(as_bearer())
            with redis.Redis.from_url(server.url) as client:
                values = [client.get(key) for key in client.keys("*ticket*")]
            assert len(values) == 1
            assert TOKEN not in str(values)
            second.answers[TOKEN] = INACTIVE
            async with talking(other.app, query=f"ticket={ticket}") as talk:
                await talk.begin()
                assert await talk.ending() == (4411, "revoked")
            assert (first.asked[TOKEN], second.asked[TOKEN]) == (1, 1)


async def test_one_question_for_all_who_ask_at_once() -> None:
    """Whatever is remembered of the token; a no is remembered from then on."""
    provider = Provider()
    verifier = provider.verifier()
    credentials = Credentials(scheme="bearer", token=TOKEN)
    await verifier.verify(credentials)
    await asyncio.gather(*[verifier.recheck(TOKEN) for _ in range(10)])
    assert provider.asked[TOKEN] == 2
    await verifier.verify(credentials)
    assert provider.asked[TOKEN] == 2
    provider.answers[TOKEN] = INACTIVE
    with pytest.raises(InvalidTokenError):
        await verifier.recheck(TOKEN)
    with pytest.raises(InvalidTokenError):
        await verifier.verify(credentials)
    assert provider.asked[TOKEN] == 3


async def test_questions_of_conversations_are_bounded() -> None:
    """`max_concurrent` of them run at once."""
    provider = Provider()
    tokens = [f"opaque-many-{number:06}" for number in range(100)]
    provider.answers = {token: {**ANSWER, "sub": token} for token in tokens}
    verifier = provider.verifier(max_concurrent=3)
    found = await asyncio.gather(*[verifier.recheck(token) for token in tokens])
    assert [each.subject for each in found] == tokens
    assert provider.most_at_once <= 3
