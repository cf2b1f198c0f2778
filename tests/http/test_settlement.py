"""Reservations are settled with the true length of their conversations, or count in full."""

import asyncio
from typing import Any

import httpx
import pytest
from support.conversations import ME, Conversations, issue, left
from support.doubles import (
    API_KEY,
    ask,
    bearer,
    in_fast_time,
    make_gate,
    make_verifier,
    seconds,
)
from support.signing import RSA, good_claims

from xuna_middleware import (
    Agent,
    Concurrent,
    ConfigurationError,
    Event,
    Limit,
    MemoryStore,
    TalkTime,
    XunaPlatform,
)
from xuna_middleware.errors import UnavailableError
from xuna_middleware.gate import core_of
from xuna_middleware.stores import StoreError


@pytest.mark.parametrize("path", ["/get-signed-url", "/conversation-token"])
async def test_conversation_that_ended_frees_its_slot(path: str) -> None:
    """Whoever hangs up may call again at once: the platform is asked when they are refused."""
    events: list[Event] = []
    platform = Conversations()
    gate = platform.gate(Concurrent(1), on_event=[events.append])
    assert await issue(gate, path) == 200
    platform.end(1, 7)
    assert await issue(gate, path) == 200
    settled = [event for event in events if event.name == "settled"]
    assert [(e.conversation_id, e.seconds, e.subject, e.agent) for e in settled] == [
        ("conv_1", 7.0, "user-1", "support")
    ]


async def test_unused_time_comes_back() -> None:
    """A minute was reserved each time, seven seconds were talked."""
    platform = Conversations()
    gate = platform.gate(TalkTime("2 minutes/day"))
    assert [await issue(gate), await issue(gate)] == [200, 200]
    platform.end(1, 7)
    assert await issue(gate) == 429, "53 seconds are less than a minute"
    assert await left(gate) == [53]


async def test_time_adds_up() -> None:
    """Once enough is over, the next conversation fits."""
    platform = Conversations()
    gate = platform.gate(TalkTime("2 minutes/day"))
    assert [await issue(gate), await issue(gate)] == [200, 200]
    platform.end(1, 7)
    platform.end(2, 30, status="failed")
    assert await issue(gate) == 200
    assert await left(gate) == [120 - 7 - 30 - 60]


@pytest.mark.parametrize(
    "told",
    [
        None,
        {"status": "in-progress", "metadata": {"call_duration_secs": 7}},
        {"status": "processing", "metadata": {"call_duration_secs": 7}},
        {"status": "done"},
        {"status": "done", "metadata": {}},
        {"status": "done", "metadata": {"call_duration_secs": "7"}},
        {"status": "done", "metadata": {"call_duration_secs": -1}},
        {"status": "done", "metadata": {"call_duration_secs": True}},
        {"status": "done", "metadata": {"call_duration_secs": 1e9}},
        {"status": "done", "metadata": [7]},
        {"metadata": {"call_duration_secs": 7}},
        [],
    ],
)
async def test_what_is_no_evidence_gives_nothing_back(told: Any) -> None:
    """A conversation that runs, is unknown, or of which nothing certain is said, counts in full."""
    platform = Conversations()
    gate = platform.gate(Concurrent(1))
    assert await issue(gate) == 200
    if told is not None:
        platform.told["conv_1"] = told
    assert await issue(gate) == 429
    assert platform.looked_up == ["conv_1"]


@pytest.mark.parametrize("status", [302, 401, 404, 429, 500])
async def test_platform_that_does_not_say(status: int) -> None:
    """It counts in full, and the caller gets the same 429."""
    platform = Conversations(status=status)
    gate = platform.gate(Concurrent(1))
    await issue(gate)
    platform.end(1, 7)
    assert await issue(gate) == 429


def test_platform_that_hangs() -> None:
    """A refused caller waits three seconds at most."""

    async def story() -> None:
        async def hang(request: httpx.Request) -> httpx.Response:
            if "conv_" in request.url.path:
                await asyncio.Event().wait()
            return httpx.Response(200, json={"token": "a.b.c", "conversation_id": "conv_1"})

        platform = XunaPlatform(API_KEY, http_transport=httpx.MockTransport(hang))
        agents = [Agent("support", id="agent_1", limits=[Concurrent(1)])]
        gate = make_gate(platform, agents=agents, verifier=make_verifier())
        assert await issue(gate, "/conversation-token") == 200
        began = seconds()
        assert await issue(gate, "/conversation-token") == 429
        assert seconds() - began <= 3.1

    in_fast_time(story())


def test_one_lookup_that_hangs() -> None:
    """Takes nothing from what another one freed."""

    async def story() -> None:
        platform = Conversations()

        async def handle(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("conv_1"):
                await asyncio.Event().wait()
            return await platform.handle(request)

        client = XunaPlatform(API_KEY, http_transport=httpx.MockTransport(handle))
        agents = [Agent("support", id="agent_1", limits=[Concurrent(2)])]
        gate = make_gate(client, agents=agents)
        assert [await issue(gate), await issue(gate)] == [200, 200]
        platform.end(2, 7)
        began = seconds()
        assert await issue(gate) == 200
        assert seconds() - began <= 3.1

    in_fast_time(story())


async def test_flood_of_refused_requests_asks_once() -> None:
    """The same conversation is asked for once in five seconds, whoever asks."""
    platform = Conversations()
    gate = platform.gate(Concurrent(1))
    await issue(gate)
    for _ in range(20):
        assert await issue(gate) == 429
    assert platform.looked_up == ["conv_1"]


@pytest.mark.parametrize("pause", [0.01, 10.0])
async def test_whole_of_a_budget_can_be_used(pause: float) -> None:
    """Of all together, by short conversations, though 120 were open when it was exhausted: 358 of
    twenty seconds in two hours, since a minute more must fit each time.
    """
    clock, platform = Clock(), Conversations()
    gate = platform.gate(TalkTime("2 hours/day", per="all"), store=MemoryStore(monotonic=clock))
    core_of(gate).pipeline.settlement._now = clock
    issued, refused = 0, 0
    while refused < 50:
        status = await issue(gate, sub=f"user-{issued % 9}")
        clock.now += pause
        if status == 200:
            issued, refused = issued + 1, 0
            platform.end(issued, 20)
        else:
            refused, clock.now = refused + 1, clock.now + 1
    assert issued == (7200 - 60) // 20 + 1 == 358
    assert await left(gate) == [7200 - 358 * 20]
    assert len(platform.looked_up) == 358, "each was over at once"


async def test_credentials_that_nobody_used_stand_before_none() -> None:
    """Refused now and then, a caller has all of them asked for in turn, the oldest first."""
    clock, platform = Clock(), Conversations()
    gate = platform.gate(TalkTime("60 minutes/day"), store=MemoryStore(monotonic=clock))
    core_of(gate).pipeline.settlement._now = clock
    for _ in range(60):
        assert await issue(gate) == 200
    platform.end(60, 0)
    statuses = []
    while 200 not in statuses:
        clock.now += 60
        statuses.append(await issue(gate))
    assert statuses == [429] * 7 + [200]
    turn = [*range(1, 61), 1, 2, 3, 4]
    assert platform.looked_up == [f"conv_{number}" for number in turn]


async def test_rates_are_not_given_back() -> None:
    """A credential was issued, however short the conversation; nobody is asked."""
    platform = Conversations()
    gate = platform.gate(Limit("1/hour"), Concurrent(3))
    await issue(gate)
    platform.end(1, 0)
    assert await issue(gate) == 429
    assert platform.looked_up == []


async def test_another_process_settles() -> None:
    """What one process issued is settled by whichever is asked next."""
    platform, store = Conversations(), MemoryStore()
    one, other = (platform.gate(Concurrent(1), store=store) for _ in range(2))
    assert await issue(one) == 200
    platform.end(1, 7)
    assert await issue(other) == 200


async def test_settled_by_the_operator() -> None:
    """A webhook of one's own says the length; a second time changes nothing."""
    platform = Conversations()
    gate = platform.gate(TalkTime("1 hour/day"), Concurrent(1))
    await issue(gate)
    assert await left(gate) == [3540, 0]
    assert await gate.settle("conv_1", 12.5) is True
    assert await left(gate) == [3587, 1]
    assert await gate.settle("conv_1", 0) is False
    assert await gate.settle("conv_99", 1) is False
    assert await left(gate) == [3587, 1]


@pytest.mark.parametrize("length", [-1, float("nan"), float("inf"), True, "7", None, 1e9])
async def test_lengths_that_are_none(length: Any) -> None:
    """A wrong call is told at once."""
    with pytest.raises(ConfigurationError, match="seconds"):
        await Conversations().gate().settle("conv_1", length)


async def test_settling_while_the_store_is_down() -> None:
    """The caller learns that it is not done, and can try again."""

    class Down(MemoryStore):
        async def settle(self, name: str, milliseconds: int) -> str | None:
            raise StoreError("the store does not answer")

    with pytest.raises(UnavailableError):
        await Conversations().gate(store=Down()).settle("conv_1", 1)


async def test_note_that_could_not_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    """The credential is out, so it counts in full, and the log says so."""

    class Forgetful(MemoryStore):
        async def remember(self, note: Any) -> None:
            raise StoreError("the store does not answer")

    platform = Conversations()
    gate = platform.gate(Concurrent(1), store=Forgetful())
    assert await issue(gate) == 200
    platform.end(1, 7)
    assert await issue(gate) == 429
    assert "counts in full" in caplog.text


async def test_closing_waits_for_notes() -> None:
    """A gate that closes right after an answer has noted its conversation."""
    platform, store = Conversations(), MemoryStore()
    gate = platform.gate(Concurrent(1), store=store)
    headers = bearer(RSA.token(good_claims(**ME)))
    assert (await ask(gate, headers=headers)).status == 200
    await gate.aclose()
    assert await store.settle("conv_1", 0) is not None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_nobody_settles_is_told() -> None:
    """Once, when it can't be settled any more; it counted in full all the time."""

    async def story() -> None:
        events: list[Event] = []
        platform = Conversations()
        store = MemoryStore(monotonic=seconds)
        gate = platform.gate(TalkTime("1 hour/day"), store=store, on_event=[events.append])
        core_of(gate).pipeline.settlement._now = seconds
        assert await issue(gate) == 200
        assert await issue(gate) == 200
        assert await gate.settle("conv_2", 5)
        await asyncio.sleep(900 + 60 + 7200 - 1)
        assert [event.name for event in events].count("settlement_expired") == 0
        await asyncio.sleep(2)
        told = [event for event in events if event.name == "settlement_expired"]
        assert [(e.conversation_id, e.subject, e.agent) for e in told] == [
            ("conv_1", "user-1", "support")
        ]
        assert await left(gate) == [3600 - 60 - 5]
        assert await gate.settle("conv_1", 1) is False
        assert platform.looked_up == ["conv_1"], "what was settled is asked for no more"
        await gate.aclose()

    in_fast_time(story())


def test_platform_is_asked_before_time_counts_in_full() -> None:
    """Once more, at the end: nobody was refused meanwhile, so nobody asked before."""

    async def story() -> None:
        events: list[Event] = []
        platform = Conversations()
        store = MemoryStore(monotonic=seconds)
        gate = platform.gate(TalkTime("1 hour/day"), store=store, on_event=[events.append])
        core_of(gate).pipeline.settlement._now = seconds
        assert await issue(gate) == 200
        platform.end(1, 7)
        await asyncio.sleep(900 + 60 + 7200 + 1)
        told = [event for event in events if event.name in ("settled", "settlement_expired")]
        assert [(event.name, event.seconds) for event in told] == [("settled", 7.0)]
        assert await left(gate) == [3600 - 7]
        await gate.aclose()

    in_fast_time(story())


def test_platform_that_hangs_at_the_end() -> None:
    """It counts in full three seconds later; a gate that closes meanwhile leaves nothing behind."""

    async def story() -> None:
        async def handle(request: httpx.Request) -> httpx.Response:
            if "conv_" in request.url.path:
                await asyncio.Event().wait()
            return await platform.handle(request)

        events: list[Event] = []
        platform = Conversations()
        client = XunaPlatform(API_KEY, http_transport=httpx.MockTransport(handle))
        agents = [Agent("support", id="agent_1", limits=[TalkTime("1 hour/day")], max_duration=60)]
        store = MemoryStore(monotonic=seconds)
        gate = make_gate(client, agents=agents, store=store, on_event=[events.append])
        settlement = core_of(gate).pipeline.settlement
        settlement._now = seconds
        assert await issue(gate) == 200
        await asyncio.sleep(900 + 60 + 7200 + 1)
        assert "settlement_expired" not in [event.name for event in events]
        await asyncio.sleep(3)
        assert [event.name for event in events].count("settlement_expired") == 1
        assert await issue(gate) == 200
        await asyncio.sleep(900 + 60 + 7200 + 1)
        waiting = set(settlement._expiring)
        assert len(waiting) == 1
        await gate.aclose()
        await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [True]

    in_fast_time(story())
