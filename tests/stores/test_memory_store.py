"""The store in memory: the contract, its clock and its bound."""

import asyncio
from threading import Barrier, Thread
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from xuna_middleware import ConfigurationError, MemoryStore
from xuna_middleware.stores import (
    Charge,
    MergeUsage,
    PendingSettlement,
    Region,
    RevocationCheck,
    StoreError,
)
from xuna_middleware.stores.memory import entries
from xuna_middleware.stores.protocol import taken_parts

from .contract import StoreContract, window
from .lease_contract import LeaseContract, leased, listening, make_lease, talking


class TestMemoryStore(StoreContract, LeaseContract):
    """In memory."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def in_heaps(store: MemoryStore) -> int:
    """Return how many ends a store knows, of what is there and of what was removed."""
    own = store._entries
    return sum(len(heap) for heaps in (own._ends, own._swept) for heap in heaps.values())


async def test_value_ends_in_time() -> None:
    """It is there until its last second, and not in it."""
    clock = Clock()
    store = MemoryStore(monotonic=clock)
    await store.put("a", b"a", 10, Region.TICKETS)
    await store.put("b", b"b", 10, Region.TICKETS)
    clock.now += 9.99
    assert await store.put("a", b"", 10, Region.TICKETS) is False
    assert await store.take("a") == b"a"
    clock.now += 0.01
    assert await store.take("b") is None
    assert await store.put("b", b"anew", 10, Region.TICKETS) is True


async def test_full_store_refuses_and_forgets_nothing() -> None:
    """A used proof that was forgotten could be used again; room comes with time only."""
    clock = Clock()
    store = MemoryStore(2, monotonic=clock)
    await store.put("a", b"", 10, Region.TICKETS)
    await store.put("b", b"", 20, Region.TICKETS)
    with pytest.raises(StoreError, match="full"):
        await store.put("c", b"", 10, Region.TICKETS)
    assert await store.put("a", b"", 10, Region.TICKETS) is False
    clock.now += 10
    assert await store.put("c", b"", 10, Region.TICKETS) is True
    assert await store.put("b", b"", 10, Region.TICKETS) is False


async def test_what_was_taken_makes_room_and_leaves_nothing() -> None:
    """Putting and taking without end neither fills the store nor makes it grow."""
    store = MemoryStore(10, monotonic=Clock())
    for number in range(9):
        assert await store.put(f"kept-{number}", b"", 20, Region.TICKETS)
    for _ in range(1000):
        assert await store.put("a", b"", 10, Region.TICKETS)
        assert await store.take("a") == b""
    assert store.held(Region.TICKETS) == 9
    assert in_heaps(store) <= 10 + 2 * 64


@pytest.mark.parametrize("taken", [3040, 4500])  # while it goes through them, and afterwards
async def test_what_was_taken_is_forgotten_a_few_at_a_time(taken: int) -> None:
    """No request goes through all of it; what is there ends in its time, and what comes meanwhile,
    and the heap has at most some more of what was removed than of what is there.
    """
    clock = Clock()
    store = MemoryStore(monotonic=clock)
    for number in range(5000):
        await store.put(f"a-{number}", b"", 10 + number % 7, Region.TICKETS)
    worst = most = 0
    for number in range(taken):
        before = in_heaps(store)
        assert await store.take(f"a-{number}") == b""
        worst = max(worst, before - in_heaps(store))
        if number % 3 == 0:
            await store.put(f"b-{number}", b"", 8 + number % 11, Region.TICKETS)
        most = max(most, in_heaps(store) - 2 * store.held(Region.TICKETS))
    assert 0 < worst <= entries.FEW
    assert most <= entries.FEW + 5000 // entries.FEW
    assert any(map(len, store._entries._swept.values())) == (taken == 3040)
    for second in range(1, 20):
        clock.now = 1000.0 + second
        old = [1 for number in range(taken, 5000) if 10 + number % 7 > second]
        new = [1 for number in range(0, taken, 3) if 8 + number % 11 > second]
        assert store.held(Region.TICKETS) == len(old) + len(new)
    assert in_heaps(store) == 0
    assert not store._kept


async def test_what_was_given_back_leaves_nothing() -> None:
    """Whoever was refused after all, by the platform say, takes up no room."""
    store = MemoryStore(10, monotonic=Clock())
    for number in range(1000):
        wanted = [(f"visitors/{number}", window(9)), ("common/all", window(9))]
        await store.give_back(taken_parts(wanted, await store.reserve(wanted)))
    assert [store.held(region) for region in Region] == [0] * len(Region)
    assert in_heaps(store) <= 10 + 2 * 64
    assert not store._principals


async def test_what_ended_is_removed_a_few_at_a_time() -> None:
    """No request waits for all of it, and what is not removed yet takes no room from others."""
    clock = Clock()
    store = MemoryStore(5000, monotonic=clock)
    for number in range(5000):
        await store.put(f"ticket-{number}", b"", 10, Region.TICKETS)
        await store.reserve([(f"callers/{number}", window(9, seconds=10))])
    clock.now += 11
    for number in range(10):
        before = len(store._kept) + len(store._principals)
        assert await store.put(f"new-{number}", b"", 600, Region.TICKETS)
        assert (await store.reserve([(f"callers/new-{number}", window(9))])).taken
        removed = before + 2 - len(store._kept) - len(store._principals)
        assert 0 < removed <= 2 * entries.AT_ONCE + 2
    for number in range(10, 100):
        await store.put(f"new-{number}", b"", 600, Region.TICKETS)
    assert len(store._kept) == 100
    assert store.held(Region.TICKETS) == 100


async def test_what_ended_is_not_there_before_it_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is removed here but by who needs the room; each verb takes it for gone."""
    monkeypatch.setattr(entries, "AT_ONCE", 0)
    clock = Clock()
    store = MemoryStore(2, monotonic=clock)
    wanted = [("visitors/v", window(9, seconds=10))]
    await store.put("a", b"old", 10, Region.TICKETS)
    await store.put("b", b"old", 10, Region.TICKETS)
    note = PendingSettlement("n", taken_parts(wanted, await store.reserve(wanted)), "", 10)
    await store.remember(note)
    await store.move(
        MergeUsage("visitors/v", "callers/p", 10), [("departed/v", window(1, seconds=10))]
    )
    await store.hold([make_lease(name="lease")])
    await store.revoke("callers/p", 5.0, 10)
    clock.now += 11
    assert len(store._kept) == 2
    assert await store.put("a", b"new", 10, Region.TICKETS)
    assert await store.take("b") is None
    assert await store.take("a") == b"new"
    assert not await store.is_pending("n")
    assert await store.settle("n", 0) is None
    assert await store.leases() == ()
    assert not await store.end("lease")
    assert (await store.reserve((), None, RevocationCheck("callers/p", 1.0))).taken
    (level,) = await store.look([("departed/v", window(1))])
    assert level.left == 1
    assert (await store.reserve([("visitors/v", window(9))])).taken
    (level,) = await store.look([("callers/p", window(9))])
    assert level.left == 9, "who was a visitor once is a visitor again"
    for number in range(2):
        assert await store.put(f"more-{number}", b"", 10, Region.TICKETS)


async def test_what_is_given_back_prolongs_nothing() -> None:
    """A day's limit that was given back leaves the hour's to its hour."""
    clock = Clock()
    store = MemoryStore(1, monotonic=clock)
    await store.reserve([("callers/a", window(9, seconds=3600))])
    daily = [("callers/a", window(9, field="daily", seconds=86_400))]
    await store.give_back(taken_parts(daily, await store.reserve(daily)))
    (level,) = await store.look([("callers/a", window(9, seconds=3600))])
    assert level.left == 8
    clock.now += 3601
    assert store.held(Region.CALLERS) == 0


async def test_what_fills_one_region_leaves_the_others_alone() -> None:
    """What visitors can write doesn't crowd out callers, nor either of them operators."""
    store = MemoryStore(3, monotonic=Clock())
    for number in range(3):
        await store.reserve([(f"visitors/{number}", window(9))])
        await store.put(f"ticket-{number}", b"", 60, Region.VISITORS_TICKETS)
        await store.put(f"puzzle-{number}", b"", 60, Region.PUZZLES)
        await store.remember(PendingSettlement(f"note-{number}", (), "", 60))
        await store.move(MergeUsage("v", "p", 60), [(f"departed/{number}", window(1))])
    for refused in (
        store.reserve([("visitors/x", window(9))]),
        store.put("ticket-x", b"", 60, Region.VISITORS_TICKETS),
        store.put("puzzle-x", b"", 60, Region.PUZZLES),
        store.remember(PendingSettlement("note-x", (), "", 60)),
        store.move(MergeUsage("v", "p", 60), [("departed/x", window(1))]),
    ):
        with pytest.raises(StoreError, match=r"full of .*MemoryStore\(max_entries="):
            await refused
    for caller in "abc":
        wanted = [(f"callers/{caller}", window(9)), ("common/all", window(9))]
        assert (await store.reserve(wanted)).taken
    with pytest.raises(StoreError, match="full of callers"):
        await store.reserve([("callers/x", window(9))])
    assert await store.put("ticket", b"", 60, Region.TICKETS)
    assert await store.put("proof", b"", 60, Region.PROOFS)
    await store.revoke("callers/a", 1.0, 60)
    assert (await store.reserve([("switches/entrance", window(9))])).taken
    assert (await store.hold([make_lease()]))[0].word == ""


async def test_a_region_of_its_own_size() -> None:
    """Where the operator says so; the others keep theirs."""
    store = MemoryStore(2, regions={Region.PROOFS: 3}, monotonic=Clock())
    for number in range(3):
        assert await store.put(f"proof-{number}", b"", 60, Region.PROOFS)
    for region in (Region.PROOFS, Region.TICKETS):
        await store.put("ticket-1", b"", 60, Region.TICKETS)
        await store.put("ticket-2", b"", 60, Region.TICKETS)
        with pytest.raises(StoreError, match=f"full of {region}"):
            await store.put("one more", b"", 60, region)


@pytest.mark.parametrize(
    "regions", [{Region.PROOFS: 0}, {Region.PROOFS: "1"}, {"proof": 3}, {Region.PROOFS: True}]
)
def test_regions_that_make_no_sense(regions: Any) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="regions"):
        MemoryStore(regions=regions)


async def test_full_store_holds_on_to_what_runs() -> None:
    """Conversations that are held already go on, can be ended and let go; new ones are refused."""
    clock = Clock()
    store, wanted = MemoryStore(3, monotonic=clock), ("a", leased(2))
    lease = await talking(store, wanted)
    for person in "bcd":
        await store.revoke(person, 1.0, 1000)
    for person in "cd":
        await store.reserve([(person, window(9, seconds=1000))])
        await store.hold([make_lease()._replace(seconds=1000)])
    for _ in range(20):
        clock.now += 9
        (held,) = await store.hold([lease])
        (level,) = await store.look([wanted])
        assert level.left == 1
        assert 10 <= level.seconds <= 10.2
        lease = lease._replace(slots=held.slots)
        for refused in (
            store.hold([lease, make_lease()]),
            store.hold([make_lease(Charge("x", "s", 1, 1, "slot"))]),
            store.revoke("x", 1.0, 60),
        ):
            with pytest.raises(StoreError, match="full"):
                await refused
    assert lease.about in await store.leases()
    assert await store.end(lease.name)
    await store.release_lease(lease.name, lease.slots)
    assert (await store.look([wanted]))[0].left == 2


async def test_what_ran_out_leaves_nothing() -> None:
    """Leases and revocations end by the store's clock, and make room."""
    clock = Clock()
    store, wanted = MemoryStore(3, monotonic=clock), ("a", leased(2))
    lease = await talking(store, wanted, standing=RevocationCheck("a", 1.0))
    await store.revoke("a", 1.0, 10)
    clock.now += 10.2
    assert await store.leases() == ()
    assert await store.end(lease.name) is False
    assert await store.look([wanted]) == ((2, 0),)
    assert not (await store.reserve([], standing=lease.standing)).is_revoked
    for person in "xyz":
        await store.revoke(person, 1.0, 60)


async def test_tickets_refuse_no_counts() -> None:
    """However many there are, whoever signed in is counted all the same."""
    store = MemoryStore(100_000)
    for number in range(100_000):
        assert await store.put(f"ticket-{number}", b"", 60, Region.TICKETS)
    with pytest.raises(StoreError, match="full"):
        await store.put("ticket", b"", 60, Region.TICKETS)
    assert (await store.reserve([("a", window(9))])).taken
    lease = await talking(store, ("a", leased(2)))
    await store.revoke("b", 1.0, 60)
    assert await store.end(lease.name)


async def test_counts_refuse_no_proofs() -> None:
    """However many are counted, used proofs and tickets have room of their own."""
    store = MemoryStore(1000)
    for number in range(1000):
        assert (await store.reserve([(f"visitor-{number}", window(9))])).taken
    with pytest.raises(StoreError, match="full"):
        await store.reserve([("visitor", window(9))])
    for number in range(1000):
        assert await store.put(f"proof-{number}", b"", 60, Region.TICKETS)


def test_wakes_in_other_threads() -> None:
    """Each event loop has a waiter of its own; those that were closed meanwhile hear nothing."""
    store, ready, heard = MemoryStore(), Barrier(3), []

    async def wait() -> None:
        await listening(store)
        waiting = asyncio.ensure_future(store.wait_for_wakeup())
        await asyncio.sleep(0)
        ready.wait(10)
        await asyncio.wait_for(waiting, 10)
        heard.append(True)

    asyncio.run(listening(store))
    threads = [Thread(target=asyncio.run, args=(wait(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    ready.wait(10)
    asyncio.run(store.revoke("a", 1.0, 60))
    for thread in threads:
        thread.join(10)
    assert heard == [True, True]
    asyncio.run(listening(store))
    assert len(store._bell._rung) == 1


async def test_window_ends_for_all_that_was_taken_in_it() -> None:
    """It is anchored at its first use, and doesn't slide along with later ones."""
    clock = Clock()
    store, wanted = MemoryStore(monotonic=clock), [("a", window(2))]
    assert (await store.reserve(wanted)).taken
    clock.now += 50
    assert (await store.reserve(wanted)).taken
    clock.now += 9.9
    assert not (await store.reserve(wanted)).taken
    clock.now += 0.1
    assert (await store.look(wanted))[0].left == 2


async def test_closing_forgets_nothing() -> None:
    """A gate that starts again must not accept a proof again."""
    store = MemoryStore()
    await store.put("a", b"", 60, Region.TICKETS)
    await store.aclose()
    assert await store.put("a", b"", 60, Region.TICKETS) is False


@pytest.mark.parametrize("most", [0, -1, 1.5, True, "many"])
def test_bound_that_is_none(most: Any) -> None:
    """An option that makes no sense is refused with the fix."""
    with pytest.raises(ConfigurationError, match="max_entries"):
        MemoryStore(most)


class AgainstADictionary(RuleBasedStateMachine):
    """Any order of puts, takes and passing time, beside the simplest thing that could work."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = MemoryStore(monotonic=self.clock)
        self.model: dict[str, tuple[float, bytes]] = {}

    keys = st.sampled_from("abc")

    @rule(key=keys, value=st.binary(max_size=2), seconds=st.sampled_from([0.5, 1, 5]))
    def put(self, key: str, value: bytes, seconds: float) -> None:
        kept = key not in self.model
        if kept:
            self.model[key] = (self.clock.now + seconds, value)
        assert run(self.store.put(key, value, seconds, Region.TICKETS)) is kept

    @rule(key=keys)
    def take(self, key: str) -> None:
        assert run(self.store.take(key)) == self.model.pop(key, (0, None))[1]

    @rule(seconds=st.sampled_from([0.25, 0.5, 1, 4]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.model = {k: kept for k, kept in self.model.items() if kept[0] > self.clock.now}

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert set(self.model) <= set(self.store._kept)


def run(story: Any) -> Any:
    """Run a coroutine that never waits."""
    with pytest.raises(StopIteration) as stopped:
        story.send(None)
    return stopped.value.value


TestAgainstADictionary = AgainstADictionary.TestCase
TestAgainstADictionary.settings = settings(max_examples=60, stateful_step_count=30)
