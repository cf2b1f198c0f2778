"""Limits at the HTTP face: what is answered, what counts, and what is given back."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from support.doubles import CountedPlatform, ask, bearer, make_gate
from support.signing import RSA, good_claims

from xuna_middleware import (
    Agent,
    Concurrent,
    Event,
    Limit,
    MemoryStore,
    TalkTime,
    XunaGate,
    XunaPlatform,
    claim,
    deny,
)
from xuna_middleware.stores import (
    Charge,
    MergeUsage,
    PendingSettlement,
    QuotaStatus,
    ReserveResult,
    RevocationCheck,
    StoreError,
)
from xuna_middleware.stores.protocol import Wanted

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limited(*limits: Any, **options: Any) -> XunaGate:
    """Return a gate with one agent that has these limits."""
    agent = {key: options.pop(key) for key in list(options) if key in AGENT_OPTIONS}
    agents = [Agent("support", id="agent_1", limits=limits, **agent)]
    return make_gate(options.pop("platform", None), agents=agents, **options)


AGENT_OPTIONS = ("max_duration", "dynamic_variables", "client_variables", "allow")


def as_user(subject: str = "user-1") -> list[tuple[bytes, bytes]]:
    """Return the headers of somebody."""
    return bearer(RSA.token(good_claims(sub=subject)))


async def left(gate: XunaGate, headers: Any) -> list[int]:
    """Return what GET /agents says is left of each limit."""
    answer = await ask(gate, "/agents", headers=headers)
    return [limit["left"] for limit in answer.json()["agents"][0]["limits"]]


@pytest.fixture
def me() -> list[tuple[bytes, bytes]]:
    return as_user()


async def test_answer_when_a_limit_is_reached(me: Any) -> None:
    """429 says which, how long to wait, and nothing of anybody else."""
    platform = CountedPlatform()
    gate = limited(Limit("2/minute"), platform=platform)
    for path in ("/get-signed-url", "/conversation-token"):
        assert (await ask(gate, path, headers=me)).status == 200
    answer = await ask(gate, headers=me)
    assert answer.status == 429
    assert len(platform.requests) == 2, "nothing was issued"
    assert 1 <= int(answer.header("Retry-After") or 0) <= 60
    assert answer.header("RateLimit-Policy") == '"support: 2/minute per subject";q=2;w=60'
    limit = answer.header("RateLimit") or ""
    assert re.fullmatch(r'"support: 2/minute per subject";r=0;t=(60|59)', limit)
    assert answer.header("Content-Type") == "application/problem+json"
    assert answer.header("Cache-Control") == "no-store"
    assert answer.json() == {
        "type": QUOTA_EXCEEDED,
        "title": "Quota exceeded",
        "status": 429,
        "detail": "A limit is reached.",
        "code": "quota_exceeded",
        "violated-policies": ["support: 2/minute per subject"],
    }


async def test_another_caller_is_served() -> None:
    """A limit per subject is each subject's own."""
    gate = limited(Limit("1/minute"))
    for subject in ("a", "b"):
        assert (await ask(gate, headers=as_user(subject))).status == 200
    assert (await ask(gate, headers=as_user("a"))).status == 429


async def test_window_begins_with_its_first_use_and_ends(me: Any) -> None:
    """By the store's clock; Retry-After is true."""
    clock = Clock()
    gate = limited(Limit("1/minute"), store=MemoryStore(monotonic=clock))
    assert (await ask(gate, headers=me)).status == 200
    clock.now += 20
    refused = await ask(gate, headers=me)
    assert refused.header("Retry-After") == "40"
    clock.now += 39.9
    assert (await ask(gate, headers=me)).status == 429
    clock.now += 0.1
    assert (await ask(gate, headers=me)).status == 200


async def test_three_limits_in_one_answer(me: Any) -> None:
    """All policies are told; violated are those that have too little left."""
    gate = limited(
        Concurrent(1),
        TalkTime("10 minutes/day", name="daily"),
        max_duration=400,
        limits=[Limit("9/hour", per="all")],
    )
    assert (await ask(gate, headers=me)).status == 200
    answer = await ask(gate, headers=me)
    assert answer.header("RateLimit-Policy") == (
        '"9/hour per all";q=9;w=3600, '
        '"support: 1 at once per subject";q=1;qu="concurrent-requests", '
        '"support: daily";q=600;w=86400;qu="seconds"'
    )
    violated = answer.json()["violated-policies"]
    assert violated == ["support: 1 at once per subject", "support: daily"]
    assert 86_000 < int(answer.header("Retry-After") or 0) <= 86_400


async def test_what_is_left(me: Any) -> None:
    """GET /agents tells each limit in its unit, and takes nothing."""
    gate = limited(
        Limit("3/hour"), Concurrent(2), TalkTime("10 minutes/day", name="daily"), max_duration=90
    )
    before = (await ask(gate, "/agents", headers=me)).json()["agents"][0]["limits"]
    assert before == [
        {
            "limit": "support: 3/hour per subject",
            "unit": "credentials",
            "most": 3,
            "left": 3,
            "seconds": 0,
        },
        {
            "limit": "support: 2 at once per subject",
            "unit": "conversations",
            "most": 2,
            "left": 2,
            "seconds": 0,
        },
        {"limit": "support: daily", "unit": "seconds", "most": 600, "left": 600, "seconds": 0},
    ]
    await ask(gate, headers=me)
    after = (await ask(gate, "/agents", headers=me)).json()["agents"][0]["limits"]
    assert [limit["left"] for limit in after] == [2, 1, 510]
    assert [limit["seconds"] for limit in after] == [3600, pytest.approx(990, abs=25), 86_400]


async def test_no_limits_are_not_mentioned(me: Any) -> None:
    """An agent without limits looks as before."""
    answer = await ask(limited(), "/agents", headers=me)
    assert answer.json() == {"agents": [{"name": "support", "transports": ["websocket", "webrtc"]}]}


def says_no(who: Any) -> Any:
    return deny("no", "No.")


def raises(who: Any) -> Any:
    raise LookupError


@pytest.mark.parametrize(
    ("options", "request_", "status"),
    [
        ({"allow": says_no}, {}, 403),
        ({"allow": raises}, {}, 503),
        ({"dynamic_variables": {"plan": claim("plan")}}, {}, 403),
        ({"dynamic_variables": {"plan": raises}}, {}, 503),
        ({}, {"query": b"agent=other"}, 404),
        ({}, {"method": "HEAD"}, 405),
        ({}, {"method": "POST", "body": b'{"dynamic_variables": {"x": 1}}'}, 400),
    ],
)
async def test_refused_requests_cost_nothing(
    me: Any, options: dict[str, Any], request_: dict[str, Any], status: int
) -> None:
    """Whatever refuses them, before the reservation or after it."""
    store = MemoryStore()
    gate = limited(Limit("1/hour"), Concurrent(1), store=store, **options)
    json = [(b"content-type", b"application/json")]
    for _ in range(3):
        assert (await ask(gate, headers=[*me, *json], **request_)).status == status
    assert await left(limited(Limit("1/hour"), Concurrent(1), store=store), me) == [1, 1]


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
async def test_failed_issues_cost_nothing(me: Any, status: int) -> None:
    """What the platform did not give is given back, each time."""
    events: list[Event] = []
    platform = XunaPlatform("key-12345678", http_transport=httpx.MockTransport(answering(status)))
    gate = limited(
        Limit("1/hour"),
        TalkTime("1 minute/hour"),
        max_duration=60,
        platform=platform,
        on_event=[events.append],
    )
    for _ in range(3):
        assert (await ask(gate, headers=me)).status in (502, 503)
    assert await left(gate, me) == [1, 60]
    told = [event.name for event in events if event.name in ("reserved", "released", "issued")]
    assert told == ["reserved", "released"] * 3


async def test_what_could_not_be_given_back_is_not_told_as_released(me: Any) -> None:
    """It stays counted."""

    class Keeping(MemoryStore):
        async def give_back(self, parts: Any) -> None:
            raise StoreError("the store does not answer")

    events: list[Event] = []
    platform = XunaPlatform("key-12345678", http_transport=httpx.MockTransport(answering(400)))
    gate = limited(Limit("1/hour"), platform=platform, store=Keeping(), on_event=[events.append])
    answers = [(await ask(gate, headers=me)).status for _ in range(2)]
    assert (answers[0] in (502, 503), answers[1]) == (True, 429)
    assert "released" not in {event.name for event in events}


def answering(status: int) -> Any:
    return lambda request: httpx.Response(status, json={"detail": "no"})


async def test_no_key_costs_nothing(me: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 503 for want of a setting is given back as well."""
    monkeypatch.delenv("XUNA_AI_API_KEY", raising=False)
    gate = limited(Limit("1/hour"), platform=XunaPlatform())
    for _ in range(2):
        assert (await ask(gate, headers=me)).status == 503
    assert await left(gate, me) == [1]


async def test_cancelled_requests_cost_nothing(me: Any) -> None:
    """A caller who goes away while the platform is asked gets their reservation back, once."""
    asked = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    platform = XunaPlatform("key-12345678", http_transport=httpx.MockTransport(never))
    gate = limited(Limit("2/hour"), platform=platform)
    for _ in range(2):
        asked.clear()
        request = asyncio.ensure_future(ask(gate, headers=me))
        await asked.wait()
        assert await left(gate, me) == [1]
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert await left(gate, me) == [2]


async def test_exactly_as_many_in_parallel(me: Any) -> None:
    """Two hundred at once, fifty get one."""
    platform = CountedPlatform()
    gate = limited(Limit("50/hour"), platform=platform)
    answers = await asyncio.gather(*(ask(gate, headers=me) for _ in range(200)))
    assert [answer.status for answer in answers].count(200) == 50
    assert len(platform.requests) == 50


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        ([Limit("9/hour")], False),
        ([Concurrent(9)], True),
        ([TalkTime("1 hour/day")], True),
        ([], False),
    ],
)
async def test_conversation_id_is_asked_for_where_it_counts(
    me: Any, limits: Sequence[Any], wanted: bool
) -> None:
    """Only where a conversation's end or length is counted."""
    platform = CountedPlatform()
    await ask(limited(*limits, platform=platform, max_duration=60), headers=me)
    assert ("include_conversation_id" in platform.requests[0].url.params) is wanted


async def test_addresses_through_proxies() -> None:
    """A stranger's X-Forwarded-For buys nothing; a listed proxy's is believed."""
    gate = limited(Limit("1/hour", per="address"), trusted_proxies=["10.0.0.1"])

    async def from_(peer: str, forwarded: str) -> int:
        headers = [*as_user(), (b"x-forwarded-for", forwarded.encode())]
        return (await ask(gate, headers=headers, client=(peer, 1))).status

    assert await from_("203.0.113.9", "1.1.1.1") == 200
    assert await from_("203.0.113.9", "2.2.2.2") == 429
    assert await from_("10.0.0.1", "198.51.100.1") == 200
    assert await from_("10.0.0.1", "9.9.9.9, 198.51.100.1") == 429
    assert await from_("10.0.0.1", "198.51.100.2") == 200


class Down(MemoryStore):
    """A store that answers nothing about counts, as one whose server is away."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = True

    async def reserve(
        self,
        wanted: Sequence[Wanted],
        move: MergeUsage | None = None,
        standing: RevocationCheck | None = None,
    ) -> ReserveResult:
        self._fail()
        return await super().reserve(wanted, move, standing)

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        self._fail()
        return await super().look(wanted)

    async def give_back(self, parts: Sequence[Charge]) -> None:
        self._fail()
        await super().give_back(parts)

    async def remember(self, note: PendingSettlement) -> None:
        self._fail()
        await super().remember(note)

    async def is_pending(self, name: str) -> bool:
        self._fail()
        return await super().is_pending(name)

    async def settle(self, name: str, milliseconds: int) -> str | None:
        self._fail()
        return await super().settle(name, milliseconds)

    def _fail(self) -> None:
        if self.is_down:
            raise StoreError("the store does not answer")


async def test_closed_while_the_store_is_down(me: Any) -> None:
    """By default: 503 with Retry-After, and nothing is issued."""
    platform, store = CountedPlatform(), Down()
    gate = limited(Limit("9/hour"), platform=platform, store=store)
    for path in ("/get-signed-url", "/conversation-token", "/agents"):
        answer = await ask(gate, path, headers=me)
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
        assert answer.header("Retry-After")
    assert not platform.requests
    store.is_down = False
    assert (await ask(gate, headers=me)).status == 200


async def test_open_while_the_store_is_down(me: Any) -> None:
    """By the operator's word; it is told to the hooks."""
    events: list[Event] = []
    gate = limited(Limit("1/hour", on_unavailable="allow"), store=Down(), on_event=[events.append])
    for _ in range(3):
        assert (await ask(gate, headers=me)).status == 200
    told = [event.limits for event in events if event.name == "limit_skipped"]
    assert told == [("support: 1/hour per subject",)] * 3
    assert (await ask(gate, "/agents", headers=me)).status == 200


async def test_counted_in_memory_while_the_store_is_down(me: Any) -> None:
    """By the operator's word; each process for itself."""
    gate = limited(
        Limit("2/hour", on_unavailable="local"),
        Limit("1/hour", name="open", on_unavailable="allow"),
        store=Down(),
    )
    answers = [(await ask(gate, headers=me)).status for _ in range(3)]
    assert answers == [200, 200, 429]
    assert await left(gate, me) == [0]


async def test_one_closed_limit_closes(me: Any) -> None:
    """However open the others are."""
    gate = limited(
        Limit("2/hour", on_unavailable="local"), Concurrent(1), max_duration=60, store=Down()
    )
    assert (await ask(gate, headers=me)).status == 503


async def test_store_that_dies_before_the_release(me: Any, caplog: Any) -> None:
    """The answer stays the platform's fault; what could not be given back is logged."""
    store = Down()
    store.is_down = False

    def fails(request: httpx.Request) -> httpx.Response:
        store.is_down = True
        return httpx.Response(500)

    platform = XunaPlatform("key-12345678", http_transport=httpx.MockTransport(fails))
    gate = limited(Limit("9/hour"), store=store, platform=platform)
    assert (await ask(gate, headers=me)).status == 502
    assert "could not be given back" in caplog.text


async def test_full_store_in_memory() -> None:
    """As many principals as it was told to hold; another one is refused until there is room."""
    clock = Clock()
    gate = limited(Limit("9/minute"), store=MemoryStore(2, monotonic=clock))
    answers = [(await ask(gate, headers=as_user(who))).status for who in "abca"]
    assert answers == [200, 200, 503, 200]
    clock.now += 60
    assert (await ask(gate, headers=as_user("c"))).status == 200


async def test_slots_of_agents_that_last_differently(me: Any) -> None:
    """A limit of the gate counts long and short conversations; no agent forgets another's early."""
    clock = Clock()
    agents = [
        Agent("long", id="agent_1", max_duration=7200),
        Agent("short", id="agent_2", max_duration=60),
    ]
    gate = make_gate(agents=agents, limits=[Concurrent(3)], store=MemoryStore(monotonic=clock))

    async def status(agent: str) -> int:
        return (await ask(gate, query=f"agent={agent}".encode(), headers=me)).status

    assert [await status("long"), await status("long"), await status("short")] == [200, 200, 200]
    assert await status("long") == 429
    clock.now += 1100.0  # the short one has ended
    assert [await status("short"), await status("short")] == [200, 429]
    clock.now += 7200.0
    assert [await status("short"), await status("long"), await status("long")] == [200, 200, 200]
