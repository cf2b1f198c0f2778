"""Live conversations of one process: their leases, and what the store says about them."""

import asyncio
from typing import Any

import pytest
from support.doubles import in_fast_time
from support.scripted import ScriptedLine
from support.talking import Talk

from xuna_middleware import MemoryStore, RelayRules
from xuna_middleware.relay.client import Client
from xuna_middleware.relay.close_codes import (
    ENDED_BY_OPERATOR,
    GOING_AWAY,
    LEASE_LOST,
    MAX_DURATION,
    REVOKED,
    CloseReason,
)
from xuna_middleware.relay.live import LiveConversation, LiveSession, Sessions, new_session_id
from xuna_middleware.relay.pumps import Relay
from xuna_middleware.stores import StoreError
from xuna_middleware.stores.protocol import Lease, LeaseStatus, RevocationCheck


class Store(MemoryStore):
    """A store that counts its beats, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.beats: list[int] = []
        self.fails: Exception | None = None

    async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
        self.beats.append(len(leases))
        if self.fails is not None:
            raise self.fails
        return await super().hold(leases)


def new_live(
    store: MemoryStore,
    subject: str = "user-1",
    *,
    lease_required: bool = True,
    issued_at: float = 10.0,
) -> LiveConversation:
    session = LiveSession(
        id=new_session_id(), issuer="i", subject=subject, agent="support", started_at=1.0
    )
    return LiveConversation(
        session, store, (), RevocationCheck(subject, issued_at), lease_required=lease_required
    )


def carried(live: LiveConversation) -> "asyncio.Task[CloseReason]":
    """Let a relay carry it, with two ends that say nothing."""
    talk = Talk()
    client = Client({"type": "websocket"}, talk.receive, talk.send)

    async def renew(token: str) -> str:
        return token

    line = ScriptedLine("{}")
    relay = Relay(
        client,
        line,
        RelayRules(),
        first="{}",
        renew=renew,
        told=live.set_conversation_id,
        ended=live.word,
        deadlines=live.deadlines,
    )
    return asyncio.ensure_future(relay.run(3_600))


def test_beats_while_there_is_somebody() -> None:
    """One beat for all, every five seconds; none when all have left, and again for the next."""

    async def story() -> None:
        store = Store()
        sessions = Sessions(store)
        for _ in range(2):
            lives = [new_live(store, f"user-{number}") for number in range(3)]
            for live in lives:
                await sessions.enter(live)
            assert len(sessions) == 3
            store.beats.clear()
            await asyncio.sleep(21)
            assert 4 <= len(store.beats) <= 5, "one at once, since nobody knows what was before"
            assert set(store.beats) == {3}
            assert len(await sessions.all()) == 3
            for live in lives:
                await sessions.leave(live)
            await asyncio.sleep(6)
            store.beats.clear()
            await asyncio.sleep(60)
            assert store.beats == []
            assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await sessions.all() == ()

    in_fast_time(story())


async def test_word_from_elsewhere_comes_at_once() -> None:
    """Not at the next beat: the store wakes whoever holds it."""
    store = Store()
    sessions = Sessions(store)
    one, other = new_live(store), new_live(store, "user-2")
    for live in (one, other):
        await sessions.enter(live)
    carrying = [carried(live) for live in (one, other)]
    assert await Sessions(store).end(one.session.id)
    async with asyncio.timeout(2):
        assert await carrying[0] == ENDED_BY_OPERATOR
    await store.revoke("user-2", 10.0, 60)
    async with asyncio.timeout(2):
        assert await carrying[1] == REVOKED
    for live in (one, other):
        await sessions.leave(live)
    await sessions.aclose()


async def test_end_of_what_there_is_not() -> None:
    """Nobody is told that it ends."""
    assert not await Sessions(Store(), Store()).end("ses_1")


async def test_word_before_anything_is_carried() -> None:
    """The first one counts, as soon as there is a relay."""
    live = new_live(Store())
    live.end(REVOKED)
    live.end(MAX_DURATION)
    assert await carried(live) == REVOKED


async def test_fresh_token_before_anything_is_carried() -> None:
    """The standing is the new one; there is no deadline yet."""
    live = new_live(Store())
    live.renew(RevocationCheck("user-1", 99.0), 1.0)
    assert live.lease.standing == RevocationCheck("user-1", 99.0)


async def test_name_that_the_platform_tells() -> None:
    """The first name stays."""
    live = new_live(Store())
    live.set_conversation_id("conv_1")
    live.set_conversation_id("conv_2")
    assert live.session.conversation_id == "conv_1"
    assert '"conversation_id":"conv_1"' in live.lease.about


async def test_lease_that_need_not_be_held() -> None:
    """Where the operator leaves limits open, a store that is away ends nothing."""
    store = Store()
    store.fails = StoreError("away")
    sessions = Sessions(store)
    with pytest.raises(StoreError):
        await sessions.enter(new_live(store))
    live = new_live(store, lease_required=False)
    await sessions.enter(live)
    assert len(sessions) == 1
    await sessions.leave(live)


@pytest.mark.parametrize("error", [StoreError("away"), RuntimeError("cAnArY")])
def test_lease_that_runs_out(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the store raises: nobody could end it any more, so it ends by itself."""

    async def story() -> None:
        store = Store()
        sessions = Sessions(store)
        live = new_live(store)
        await sessions.enter(live)
        carrying = carried(live)
        await asyncio.sleep(1)
        store.fails = error
        began = asyncio.get_running_loop().time()
        assert await carrying == LEASE_LOST
        assert 28 <= asyncio.get_running_loop().time() - began <= 36
        await sessions.leave(live)

    in_fast_time(story())
    assert "could not be renewed" in caplog.text
    assert "cAnArY" not in caplog.text


async def test_leave_without_having_entered() -> None:
    """Harmless."""
    store = Store()
    await Sessions(store).leave(new_live(store))


def test_gate_that_waits_for_nobody_for_ever() -> None:
    """Five seconds for what goes on; what doesn't end by then is left."""

    async def story() -> None:
        store = Store()
        sessions = Sessions(store)
        await sessions.aclose()
        live = new_live(store)
        await sessions.enter(live)
        carrying = carried(live)
        began = asyncio.get_running_loop().time()
        await sessions.aclose()
        assert asyncio.get_running_loop().time() - began == pytest.approx(5, abs=0.1)
        assert await carrying == GOING_AWAY
        assert asyncio.all_tasks() == {asyncio.current_task()}

    in_fast_time(story())


def test_shared_stores_are_asked_once_each() -> None:
    """Those of two stores beat together, each with its own."""

    async def story() -> None:
        shared, fallback = Store(), Store()
        sessions = Sessions(shared, fallback)
        lives = [new_live(shared), new_live(fallback, "user-2", lease_required=False)]
        for live in lives:
            await sessions.enter(live)
        await asyncio.sleep(6)
        assert set(shared.beats) == set(fallback.beats) == {1}
        assert {each.subject for each in await sessions.all()} == {"user-1", "user-2"}
        assert await sessions.end(lives[1].session.id)
        for live in lives:
            await sessions.leave(live)

    in_fast_time(story())


def test_a_lease_shows_no_more_than_is_told() -> None:
    """What is not known is left out."""
    session = LiveSession(id="ses_1", issuer="i", subject="s", agent="a", started_at=1.0)
    assert session.to_dict() == {
        "id": "ses_1",
        "issuer": "i",
        "subject": "s",
        "agent": "a",
        "started_at": 1.0,
    }
    assert new_session_id() != new_session_id()


def test_lease_of_a_conversation() -> None:
    """Held for thirty seconds."""

    async def story() -> Lease:
        return new_live(Store()).lease

    lease = in_fast_time(story())
    assert lease.seconds == 30
    assert lease.name.startswith("ses_")


def test_process_that_stood_still() -> None:
    """Its leases have run out, so others may have the slots: it ends what it carries, unasked."""

    async def story() -> None:
        store = Store()
        sessions = Sessions(store)
        live = new_live(store)
        await sessions.enter(live)
        carrying = carried(live)
        live.held_until = (
            asyncio.get_running_loop().time()
        )  # as if no beat had come for as long as a lease lasts
        assert await carrying == LEASE_LOST
        assert store.beats == [1]
        await sessions.leave(live)

    in_fast_time(story())


class Marked(Store):
    """A store that keeps of each lease whether it was said to be new."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[bool] = []

    async def hold(self, leases: Any) -> tuple[LeaseStatus, ...]:
        self.marks += [lease.is_new for lease in leases]
        return await super().hold(leases)


def test_only_the_first_lease_is_new() -> None:
    """A store can keep room for heartbeats that no opening takes."""

    async def story() -> None:
        store = Marked()
        sessions, live = Sessions(store), new_live(store)
        await sessions.enter(live)
        await asyncio.sleep(11)
        await sessions.leave(live)
        first, *beats = store.marks
        assert first
        assert beats
        assert not any(beats)

    in_fast_time(story())


class Unreleasing(MemoryStore):
    """A store that releases no lease."""

    async def release_lease(self, name: str, slots: Any) -> bool:
        raise StoreError("away")


async def test_leases_that_are_not_released_are_told_once_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One account can cause thousands of them."""
    store = Unreleasing()
    sessions = Sessions(store)
    for _ in range(50):
        assert await sessions.abandon(new_live(store))
        await sessions.leave(new_live(store))
    assert 1 <= caplog.text.count("ends by itself") < 50
