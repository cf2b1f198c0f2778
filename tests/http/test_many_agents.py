"""`GET /agents` where there are many: few commands to the store, and turns for other tasks."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from stores.redis_server import RedisServer, running_redis
from support.doubles import ask, bearer, make_gate
from support.signing import RSA

from xuna_middleware import Agent, Identity, Limit, MemoryStore, RedisStore
from xuna_middleware.stores import StoreError
from xuna_middleware.stores.protocol import QuotaStatus, Wanted


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


class Looking(MemoryStore):
    """A store that counts how often it is looked at, and is away when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.is_away = False

    async def look(self, wanted: Sequence[Wanted]) -> tuple[QuotaStatus, ...]:
        self.looks += 1
        if self.is_away:
            raise StoreError("away")
        return await super().look(wanted)


def agents(count: int, **options: Any) -> list[Agent]:
    """Return agents, each with a limit of its own and one that all share."""
    return [
        Agent(
            f"a{n}",
            id=f"agent_{n}",
            limits=[Limit(f"{n + 1}/day"), Limit("9/hour", name="shared")],
            **options,
        )
        for n in range(count)
    ]


@pytest.mark.parametrize(("count", "looks"), [(1, 1), (40, 1), (128, 1), (129, 2), (300, 3)])
async def test_store_is_asked_once_for_many_agents(count: int, looks: int) -> None:
    """Each agent shows what is left of its own limits, in the order of the agents."""
    store = Looking()
    gate = make_gate(agents=agents(count), store=store)
    assert (await ask(gate, query=b"agent=a0", headers=bearer(RSA.token()))).status == 200
    store.looks = 0
    shown = (await ask(gate, "/agents", headers=bearer(RSA.token()))).json()["agents"]
    assert store.looks == looks
    assert [each["name"] for each in shown] == [f"a{n}" for n in range(count)]
    left = [[limit["left"] for limit in each["limits"]] for each in shown]
    assert left == [[0, 8], *([n + 1, 9] for n in range(1, count))]


async def test_many_limits_in_redis(redis: RedisServer) -> None:
    """Redis' scripts take only so many in one command."""
    limits = [Limit(f"{n + 1}/day", name=f"l{n}") for n in range(60)]
    many = [Agent(f"a{n}", id=f"agent_{n}", limits=limits) for n in range(64)]
    store = RedisStore(redis.url, namespace="many")
    gate = make_gate(agents=many, store=store)
    shown = await ask(gate, "/agents", headers=bearer(RSA.token()))
    await store.aclose()
    assert [len(each["limits"]) for each in shown.json()["agents"]] == [60] * 64


async def test_agents_with_and_without_limits() -> None:
    """Those without limits show none, and those that a rule hides aren't there."""

    def nobody(_: Identity) -> bool:
        return False

    mixed = [
        Agent("free", id="agent_1"),
        Agent("hidden", id="agent_2", allow=nobody, limits=[Limit("5/day")]),
        Agent("counted", id="agent_3", limits=[Limit("7/day")]),
        Agent("free-too", id="agent_4"),
    ]
    gate = make_gate(agents=mixed)
    shown = (await ask(gate, "/agents", headers=bearer(RSA.token()))).json()["agents"]
    assert [each["name"] for each in shown] == ["free", "counted", "free-too"]
    assert ["limits" in each for each in shown] == [False, True, False]
    assert shown[1]["limits"][0]["most"] == 7


async def test_many_agents_while_the_store_is_away() -> None:
    """Each agent's limits do as they say: this process counts, or nobody does; or 503."""
    allow, local = (Limit("3/day", name=name, on_unavailable=name) for name in ("allow", "local"))
    store = Looking()
    some = [
        Agent("open", id="agent_1", limits=[allow]),
        Agent("free", id="agent_2"),
        Agent("both", id="agent_3", limits=[allow, local]),
    ]
    store.is_away = True
    shown = await ask(make_gate(agents=some, store=store), "/agents", headers=bearer(RSA.token()))
    limits = [
        [limit["limit"] for limit in each.get("limits", ())] for each in shown.json()["agents"]
    ]
    assert limits == [[], [], ["both: local"]]
    some.append(Agent("closed", id="agent_4", limits=[Limit("3/day")]))
    gate = make_gate(agents=some, store=store)
    assert (await ask(gate, "/agents", headers=bearer(RSA.token()))).status == 503


async def test_many_agents_leave_turns_for_others() -> None:
    """One turn of the event loop for each 16 agents at least."""

    async def turns(count: int) -> int:
        gate = make_gate(agents=agents(count))
        asking = asyncio.ensure_future(ask(gate, "/agents", headers=bearer(RSA.token())))
        taken = 0
        while not asking.done():
            taken += 1
            await asyncio.sleep(0)
        assert (await asking).status == 200
        return taken

    assert await turns(160) - await turns(1) >= 10
