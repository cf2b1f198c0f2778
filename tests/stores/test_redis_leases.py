"""Leases and revocations in a real Redis that dies, forgets or takes no writes; many processes."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from xuna_middleware import RedisStore
from xuna_middleware.stores import Lease, Quota, RevocationCheck, StoreError
from xuna_middleware.stores.protocol import taken_parts

from .contract import StoreContract, new_key, window
from .lease_contract import ISSUED, PATIENCE, LeaseContract, leased, listening, make_lease, talking
from .redis_server import PASSWORD, RedisServer

#: Another process that holds one conversation until it is told to end it, and then lets it go.
HOLDER: Final = """
import asyncio, sys
from xuna_middleware import RedisStore
from xuna_middleware.stores import Lease, Quota, RevocationCheck
from xuna_middleware.stores.protocol import taken_parts
url, who, name = sys.argv[1:]
async def main():
    store = RedisStore(url, timeout=10, namespace="xuna")
    quota = Quota(field="s", most=2, amount=1, seconds=60, kind="slot", held=20)
    reserved = await store.reserve([(who, quota)])
    parts = taken_parts([(who, quota)], reserved)
    lease = Lease(name, "talk of " + name, 20, parts, RevocationCheck(who, 1700000000))
    await store.wait_for_wakeup()
    (held,) = await store.hold([lease])
    print("held", flush=True)
    while not held.word:
        await store.wait_for_wakeup()
        (held,) = await store.hold([lease._replace(slots=held.slots)])
    print(held.word, flush=True)
    sys.stdin.readline()
    await store.release_lease(name, held.slots)
    await store.aclose()
asyncio.run(main())
"""


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(redis.url, namespace="xuna")
    yield store
    await store.aclose()


class TestInACluster(StoreContract, LeaseContract):
    """In a cluster, with its own client: every script's keys are of one slot."""

    @pytest.fixture
    async def store(self, cluster: RedisServer) -> AsyncIterator[RedisStore]:
        from redis.asyncio import RedisCluster

        client: Any = RedisCluster(
            host="127.0.0.1", port=cluster.port, password=PASSWORD, max_connections=500
        )
        store = RedisStore(client=client, timeout=5, namespace="xuna")
        yield store
        await store.aclose()
        await client.aclose()


async def test_server_that_lost_everything(redis: RedisServer) -> None:
    """A running conversation is counted, listed and can be ended again after its next beat."""
    store, wanted = RedisStore(redis.url, namespace="xuna"), (new_key(), leased(3))
    leases = [await talking(store, wanted) for _ in range(2)]
    assert (await store.look([wanted]))[0].left == 1
    redis.kill()
    try:
        with pytest.raises(StoreError):
            await store.hold(leases)
    finally:
        redis.start()
    assert (await store.look([wanted]))[0].left == 3
    # For longer than before: with the same marks in the same fiftieth of its length, one of the two
    # would pass for the other until the next beat.
    held = await store.hold([lease._replace(seconds=20) for lease in leases])
    assert [each.word for each in held] == ["", ""]
    assert (await store.look([wanted]))[0].left == 1
    assert len(await store.leases()) == 2
    assert await store.end(leases[0].name)
    for lease in leases:
        await store.release_lease(lease.name, lease.slots)
    assert await store.look([wanted]) == ((3, 0),)
    await store.aclose()


def writing(store: RedisStore, lease: Lease) -> list[Any]:
    """Call each verb of leases and revocations that writes."""
    return [
        store.hold([lease]),
        store.release_lease(lease.name, lease.slots),
        store.end(lease.name),
        store.revoke("somebody", ISSUED, 60),
    ]


async def test_server_that_is_away(redis: RedisServer) -> None:
    """Nothing is known, and each verb says so."""
    store = RedisStore(redis.url, namespace="xuna")
    lease = await talking(store, (new_key(), leased(3)))
    redis.kill()
    try:
        reading = store.reserve([], standing=RevocationCheck("somebody", ISSUED))
        for verb in (*writing(store, lease), store.leases(), reading):
            with pytest.raises(StoreError) as caught:
                await verb
            assert "cAnArY" not in str(caught.value)
    finally:
        redis.start()
    await store.aclose()


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("ACL", "SETUSER", "default", "-@write"), ("ACL", "SETUSER", "default", "+@all")),
    ],
)
async def test_server_that_takes_no_writes(
    store: RedisStore, redis: RedisServer, spoil: tuple[str, ...], hint: tuple[str, ...]
) -> None:
    """A replica after a failover: each verb that writes says so, and nothing is half done."""
    wanted = [(new_key(), leased(3)), (new_key(), leased(3))]
    lease = await talking(store, *wanted)
    redis.command(*spoil)
    try:
        for verb in writing(store, lease):
            with pytest.raises(StoreError):
                await verb
    finally:
        redis.command(*hint)
    assert [level.left for level in await store.look(wanted)] == [2, 2]
    assert not (await store.reserve([], standing=RevocationCheck("somebody", ISSUED))).is_revoked
    assert (await store.hold([lease]))[0].word == ""


async def test_holder_in_another_process(store: RedisStore, redis: RedisServer) -> None:
    """It is seen, told at once that somebody ended or revoked it, and gives its slot back."""
    for ends in (True, False):
        who, name = new_key(), new_key()
        holder = await hold_elsewhere(redis, who, name)
        assert f"talk of {name}" in await store.leases()
        assert await left(store, who) == 1
        if ends:
            assert await store.end(name)
        else:
            await store.revoke(who, 1_700_000_000, 60)
        # Its next beat would be at its next wake only: it waits for nothing else.
        async with asyncio.timeout(PATIENCE):
            assert await line(holder) == ("ended" if ends else "revoked")
        assert await left(store, who) == 1
        await holder.communicate(b"\n")
        assert await left(store, who) == 2
        assert f"talk of {name}" not in await store.leases()


async def test_killed_holder_loses_its_lease(store: RedisStore, redis: RedisServer) -> None:
    """kill -9 while it talks: what it held stays until it runs out, and no longer."""
    who, name = new_key(), new_key()
    holder = await hold_elsewhere(redis, who, name)
    holder.kill()
    await holder.communicate()
    assert await left(store, who) == 1
    assert 0 < int(redis.command("PTTL", f"{{xuna}}:lease:{name}")[1:]) <= 20_000
    assert (await store.look([(who, leased(2))]))[0].seconds <= 20.4


async def hold_elsewhere(redis: RedisServer, who: str, name: str) -> asyncio.subprocess.Process:
    command = [sys.executable, "-c", HOLDER, redis.url, who, name]
    holder = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert await line(holder) == "held"
    return holder


async def line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def left(store: RedisStore, who: str) -> int:
    quota = Quota(field="s", most=2, amount=1, seconds=60, kind="slot")
    return (await store.look([(who, quota)]))[0].left


async def test_wakes_other_stores(store: RedisStore, redis: RedisServer) -> None:
    """Every store of the same namespace that listens, and none of another."""
    others = [
        RedisStore(redis.url, namespace="xuna"),
        RedisStore(redis.url, namespace="xuna"),
        RedisStore(redis.url, namespace="x"),
    ]
    for each in others:
        await listening(each)
    waiting = [asyncio.ensure_future(each.wait_for_wakeup()) for each in others]
    await store.revoke(new_key(), ISSUED, 1)
    await asyncio.wait_for(asyncio.gather(*waiting[:2]), PATIENCE)
    assert not waiting[2].done()
    await others[2].revoke(new_key(), ISSUED, 1)
    await asyncio.wait_for(waiting[2], PATIENCE)
    for each in others:
        await each.aclose()


async def test_listens_again_after_a_crash(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits while the server is away, is woken when it is back, and hears again."""
    monkeypatch.setattr("xuna_middleware.stores.redis.pubsub._SOONEST", 0.01)
    store = RedisStore(redis.url, namespace="xuna")
    await listening(store)
    waiting = asyncio.ensure_future(store.wait_for_wakeup())
    redis.kill()
    try:
        with pytest.raises(StoreError):
            await store.revoke(new_key(), ISSUED, 1)
        assert not waiting.done()
    finally:
        redis.start()
    await asyncio.wait_for(waiting, PATIENCE)
    waiting = asyncio.ensure_future(store.wait_for_wakeup())
    await store.revoke(new_key(), ISSUED, 1)
    await asyncio.wait_for(waiting, PATIENCE)
    await store.aclose()


async def test_connection_that_fell_silent(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried from time to time: one that lives is kept, one that doesn't is made anew."""
    monkeypatch.setattr("xuna_middleware.stores.redis.pubsub._SILENCE", 0.01)
    monkeypatch.setattr("xuna_middleware.stores.redis.pubsub._SOONEST", 0.01)
    store = RedisStore(redis.url, timeout=1, namespace="xuna")
    await listening(store)
    pings, before = redis.calls("ping"), redis.calls("subscribe")
    async with asyncio.timeout(PATIENCE):
        while await asyncio.to_thread(redis.calls, "ping") < pings + 3:
            pass  # until it was tried three times
    assert redis.calls("subscribe") == before
    waiting = asyncio.ensure_future(store.wait_for_wakeup())
    redis.command("CLIENT", "PAUSE", "1500", "ALL")
    await asyncio.wait_for(waiting, PATIENCE)
    assert redis.calls("subscribe") > before
    await store.aclose()


async def test_closing_ends_the_listening(redis: RedisServer) -> None:
    """One connection listens in each event loop, however many wait; closing ends it."""
    store = RedisStore(redis.url, namespace="closing")
    await listening(store)
    waiting = [asyncio.ensure_future(store.wait_for_wakeup()) for _ in range(3)]
    await asyncio.sleep(0)
    assert subscribers(redis, "{closing}:woken") == 1
    await store.aclose()
    while subscribers(redis, "{closing}:woken"):
        pass  # until the server has seen it
    await asyncio.gather(*waiting)  # whoever still waits comes again
    await listening(store)
    assert subscribers(redis, "{closing}:woken") == 1
    await store.aclose()


async def test_one_gate_of_two_closes(redis: RedisServer) -> None:
    """Whoever waits for the other gate, which has the same store, comes again and hears."""
    store = RedisStore(redis.url, namespace="two-gates")
    await listening(store)
    waiting = asyncio.ensure_future(store.wait_for_wakeup())
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.wait_for(waiting, PATIENCE)
    await listening(store)
    waiting = asyncio.ensure_future(store.wait_for_wakeup())
    await asyncio.sleep(0)
    elsewhere = RedisStore(redis.url, namespace="two-gates")
    await elsewhere.revoke(new_key(), ISSUED, 1)
    await asyncio.wait_for(waiting, PATIENCE)
    for each in (store, elsewhere):
        await each.aclose()


def subscribers(redis: RedisServer, channel: str) -> int:
    answer = redis.command("PUBSUB", "NUMSUB", channel, lines=4)
    return int(answer.rsplit(b":")[-1])


def test_several_event_loops(redis: RedisServer) -> None:
    """Each loop listens for itself; those that are closed are forgotten."""
    store = RedisStore(redis.url, namespace="xuna")

    async def hear() -> None:
        await listening(store)
        waiting = asyncio.ensure_future(store.wait_for_wakeup())
        await store.revoke(new_key(), ISSUED, 1)
        await asyncio.wait_for(waiting, PATIENCE)
        await store.aclose()

    for _ in range(3):
        asyncio.run(hear())
    assert not store._listening._tasks


async def test_user_who_may_not_publish(redis: RedisServer) -> None:
    """What was asked for is done all the same; nobody is woken, and nothing is raised."""
    redis.command("ACL", "SETUSER", "mute", "on", f">{PASSWORD}", "~*", "+@all", "resetchannels")
    store = RedisStore(f"redis://mute:{PASSWORD}@127.0.0.1:{redis.port}/0", namespace="xuna")
    waiting = asyncio.ensure_future(store.wait_for_wakeup())
    who, lease = new_key(), make_lease()
    await store.hold([lease])
    assert await store.end(lease.name)
    await store.revoke(who, ISSUED, 60)
    assert (await store.hold([lease]))[0].word == "ended"
    assert (await store.reserve([], standing=RevocationCheck(who, ISSUED))).is_revoked
    assert not waiting.done()
    waiting.cancel()
    await store.aclose()


async def test_round_trips(store: RedisStore, redis: RedisServer) -> None:
    """A reservation with a standing is one command; so are sixty-four leases."""
    wanted = [(new_key(), leased(200)), (new_key(), window(200))]
    standing = RevocationCheck(new_key(), ISSUED)
    reserved = await store.reserve(wanted, standing=standing)
    slot = taken_parts(wanted, reserved)[:1]
    leases = [make_lease(*slot)._replace(standing=standing) for _ in range(130)]
    await store.hold(leases)
    before = {name: redis.calls(name) for name in ("evalsha", "eval")}
    await store.reserve(wanted, standing=standing)
    assert redis.calls("evalsha") - before["evalsha"] == 1
    await store.hold(leases)
    assert redis.calls("evalsha") - before["evalsha"] == 1 + 3
    assert redis.calls("eval") == before["eval"]


async def test_all_that_is_kept_ends(redis: RedisServer) -> None:
    """Every key has a life of its own and stands under the hash tag, the index included."""
    store, run = RedisStore(redis.url, namespace="mortal"), new_key()
    lease = await talking(store, (run, leased(3)), standing=RevocationCheck(run, ISSUED))
    await store.hold([lease])
    await store.end(lease.name)
    await store.revoke(run, ISSUED, 60)
    await store.revoke(run, ISSUED - 1, 30)
    keys = await store._client().keys("{mortal}:*")
    assert len(keys) == 4
    assert run not in str(keys)
    for key in keys:
        assert 0 < await store._client().pttl(key) <= 60_000, key
    await store.aclose()


async def test_index_is_bounded_and_cleaned(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended is removed by the next beat; beyond the bound the soonest to end aren't listed."""
    monkeypatch.setattr("xuna_middleware.stores.redis.store._MOST_LISTED", 3)
    store = RedisStore(redis.url, namespace="bounded")
    short = [make_lease()._replace(seconds=0.01) for _ in range(3)]
    await store.hold(short)
    while await store.leases():
        pass  # until they have ended
    await store.hold([make_lease(name="a", about="a")])
    assert await store._client().zcard("{bounded}:leases") == 1
    late = [make_lease(name=name, about=name)._replace(seconds=20) for name in "bcde"]
    await store.hold(late)
    assert await store.leases() == ("c", "d", "e")
    assert await store.end("b"), "it is live, though it isn't listed"
    await store.aclose()


async def test_clock_that_jumps_back(redis: RedisServer) -> None:
    """A slot that is held then counts twice, until the longest time for one is over."""
    from .test_counting_machine import ClockedRedis

    store, wanted = ClockedRedis(redis.url, namespace="clocked"), (new_key(), leased(9, seconds=60))
    await store.tell(1_000_000)
    lease = await talking(store, wanted)
    left = []
    for seconds in (-3600, -3595, -3590, -3580, -3570, -3560, -3550, -3540, -3530):
        await store.tell(1_000_000 + seconds)
        looked = await store.reserve([wanted])
        await store.give_back(taken_parts([wanted], looked))
        (held,) = await store.hold([lease])
        lease = lease._replace(slots=held.slots)
        left.append((await store.look([wanted]))[0].left)
    assert left == [7, 7, 7, 7, 7, 7, 7, 7, 8]
    await store.release_lease(lease.name, lease.slots)
    assert (await store.look([wanted]))[0].left == 9
    await store.aclose()
