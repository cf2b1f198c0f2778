"""A RedisStore's connections are shared: what floods one use leaves the others alone."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from support.doubles import ask, bearer, echo_app, in_fast_time, make_gate, seconds
from support.signing import ISSUER, NOW, RSA, good_claims

from xuna_middleware import Agent, Identity, Limit, RedisStore, XunaMiddleware
from xuna_middleware.access.limits.keys import subject_principal
from xuna_middleware.anonymous.switch import AdmissionSwitch
from xuna_middleware.errors import UnavailableError
from xuna_middleware.relay.live import LiveConversation, LiveSession, Sessions
from xuna_middleware.stores import Region, StoreBusyError, StoreError
from xuna_middleware.stores.protocol import Charge, RevocationCheck, named, taken_parts
from xuna_middleware.stores.redis import bulkhead

from .contract import new_key, window
from .lease_contract import make_lease
from .redis_server import RedisServer

VISITOR: Final = "subject:7:visitor"
#: More at once than any share has places and queue.
MANY: Final = 1_100


class HeldUp(RedisStore):
    """A store whose commands hold their places until `go` is set, while it `is_held_up`."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, namespace="shares", **options)
        self.go = asyncio.Event()
        self.is_held_up = True

    async def _send_command(self, *command: Any) -> Any:
        if self.is_held_up:
            await self.go.wait()
        return await super()._send_command(*command)


@pytest.fixture
async def store(redis: RedisServer) -> AsyncIterator[HeldUp]:
    redis.command("FLUSHALL")
    store = HeldUp(redis.url, timeout=60)
    yield store
    await store.aclose()


async def of_a_visitor(store: RedisStore, name: str) -> object:
    visitor = named(Region.VISITORS, name)
    everybody = named(Region.COMMON, "all"), window(10**6)
    return await store.reserve([everybody], None, RevocationCheck(visitor, None))


async def of_a_caller(store: RedisStore, name: str) -> object:
    return await store.reserve([(named(Region.CALLERS, name), window(9))])


async def of_one_account(store: RedisStore) -> bool:
    counted = [(named(Region.CALLERS, "one"), window(9))]
    return await store.put(new_key(), b"", 60, Region.TICKETS, counted)


async def taking_a_ticket(store: RedisStore, name: str) -> object:
    return await store.take(name)


async def beginning_a_conversation(store: RedisStore, name: str) -> object:
    """Hold one lease for the first time, as for a conversation that somebody opens."""
    caller = RevocationCheck(named(Region.CALLERS, name), None)
    return await store.hold([make_lease()._replace(standing=caller, is_new=True)])


#: What uses a share up, and which it is.
FLOODS: Final[dict[str, Callable[[RedisStore, str], Coroutine[Any, Any, object]]]] = {
    "visitors": of_a_visitor,
    "tickets": taking_a_ticket,
    "callers": of_a_caller,
    "conversations": beginning_a_conversation,
}


async def flood(store: HeldUp, share: str) -> list[asyncio.Task[object]]:
    """Begin more than a share carries, and return what is under way or waits."""
    asking = [asyncio.ensure_future(FLOODS[share](store, f"{n}")) for n in range(MANY)]
    for _ in range(3):
        await asyncio.sleep(0)
    refused = [each for each in asking if each.done()]
    assert refused
    assert {type(each.exception()) for each in refused} == {StoreBusyError}
    store.is_held_up = False
    return [each for each in asking if not each.done()]


async def let_go_on(store: HeldUp, asking: list[asyncio.Task[object]]) -> None:
    """All that found a place or waited is carried out in the end."""
    store.go.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*asking)


def others(store: RedisStore) -> dict[str, Callable[[], Awaitable[object]]]:
    """Return what no flood may keep waiting."""
    lease, door = make_lease(), AdmissionSwitch(store)
    return {
        "revoke": lambda: store.revoke(new_key(), 1.0, 60),
        "end": lambda: store.end(new_key()),
        "leases": store.leases,
        "heartbeat": lambda: store.hold([lease, make_lease()]),
        "heartbeat of the only conversation": lambda: store.hold([lease]),
        "release": lambda: store.release_lease(lease.name, ()),
        "close the entrance": door.pause,
        "open the entrance": door.resume,
    }


@pytest.mark.parametrize("share", FLOODS)
async def test_operators_and_conversations_have_room(store: HeldUp, share: str) -> None:
    """Whoever floods the store: revoking, ending, and leases go on."""
    asking = await flood(store, share)
    async with asyncio.timeout(bulkhead.QUEUE_SECONDS):
        for do in others(store).values():
            await do()
    await let_go_on(store, asking)


@pytest.mark.parametrize("share", [each for each in FLOODS if each != "conversations"])
async def test_conversations_begin_in_a_flood(store: HeldUp, share: str) -> None:
    """What else the store is asked keeps no conversation from its beginning."""
    asking = await flood(store, share)
    async with asyncio.timeout(bulkhead.QUEUE_SECONDS):
        await beginning_a_conversation(store, new_key())
    await let_go_on(store, asking)


async def test_one_account_begins_so_many_conversations_at_once(store: HeldUp) -> None:
    """Whoever opens more at once waits, and another account's conversation begins."""
    most = bulkhead.CONVERSATIONS.of_one or 0
    asking = [
        asyncio.ensure_future(beginning_a_conversation(store, "one")) for _ in range(most + 1)
    ]
    _, late = await asyncio.wait(asking, timeout=2 * bulkhead.REFUSED_AFTER_SECONDS)
    refused = [each for each in asking if each.done()]
    assert [type(each.exception()) for each in refused] == [StoreBusyError]
    store.is_held_up = False
    other = asyncio.ensure_future(beginning_a_conversation(store, "another"))
    await let_go_on(store, [*late, other])


async def test_openings_that_are_given_up_leave_room(store: HeldUp) -> None:
    """Whoever opens conversations and hangs up keeps no operator or conversation waiting."""
    sessions = Sessions(store)
    session = LiveSession(id="ses_1", issuer="i", subject="one", agent="support", started_at=1.0)
    standing = RevocationCheck(named(Region.CALLERS, "one"), None)
    live = LiveConversation(session, store, (), standing, lease_required=True)
    asking = [asyncio.ensure_future(sessions.abandon(live)) for _ in range(MANY)]
    for _ in range(3):
        await asyncio.sleep(0)
    store.is_held_up = False
    async with asyncio.timeout(bulkhead.QUEUE_SECONDS):
        for name, do in others(store).items():
            if name != "release":
                await do()
        await beginning_a_conversation(store, "another")
    store.go.set()
    assert not any(await asyncio.gather(*asking))


async def test_operators_routes_have_room(store: HeldUp) -> None:
    """Callers who flood the store keep no operator from seeing and ending conversations."""
    gate = make_gate(store=store, public_url="https://app.test/xuna", operators=is_boss)
    app = XunaMiddleware(echo_app, gate)
    boss = bearer(RSA.token(good_claims(sub="boss")))
    asking = await flood(store, "callers")
    async with asyncio.timeout(bulkhead.QUEUE_SECONDS):
        assert (await ask(app, "/xuna/sessions", headers=boss)).status == 200
        ending = await ask(app, "/xuna/sessions/ses_1", method="DELETE", headers=boss)
        assert ending.status == 404
    await let_go_on(store, asking)
    whom = subject_principal(Identity(issuer=ISSUER, subject="boss"))
    await store.revoke(whom, NOW, 60)
    assert (await ask(app, "/xuna/sessions", headers=boss)).status == 401


async def test_callers_who_are_no_operators_ask_the_store_nothing(store: HeldUp) -> None:
    """Their requests to the operators' routes take no connection of the operators'."""
    gate = make_gate(store=store, public_url="https://app.test/xuna", operators=is_boss)
    app = XunaMiddleware(echo_app, gate)
    somebody = bearer(RSA.token(good_claims(sub="somebody")))
    async with asyncio.timeout(bulkhead.QUEUE_SECONDS):
        for method, path in (("GET", "/xuna/sessions"), ("DELETE", "/xuna/sessions/ses_1")):
            assert (await ask(app, path, method=method, headers=somebody)).status == 403
    store.go.set()


def is_boss(who: Identity) -> bool:
    return who.subject == "boss"


class Slow(RedisStore):
    """A store that answers each command with 1 after so many seconds, without a server."""

    def __init__(self, takes: float) -> None:
        super().__init__("redis://127.0.0.1:1/0", namespace="shares")
        self.takes = takes

    async def _send_command(self, *command: Any) -> Any:
        await asyncio.sleep(self.takes)
        return 1


@pytest.mark.parametrize("share", ["visitors", "callers"])
async def test_what_was_taken_is_given_back_in_a_flood(store: HeldUp, share: str) -> None:
    """A request that fails leaves no count behind, however many others wait for the store."""
    region = Region.VISITORS if share == "visitors" else Region.CALLERS
    wanted = [(named(region, "one"), window(1))]
    store.is_held_up = False
    taken = taken_parts(wanted, await store.reserve(wanted))
    store.is_held_up = True
    asking = await flood(store, share)
    await store.give_back(taken)
    await let_go_on(store, asking)
    assert (await store.reserve(wanted)).taken


def test_all_that_was_taken_is_given_back() -> None:
    """It waits as long as it takes, one account's too."""

    async def story() -> None:
        store = Slow(0.02)
        part = Charge(named(Region.CALLERS, "one"), "", 1, 1, "rate")
        await asyncio.gather(*(store.give_back([part]) for _ in range(3_000)))

    in_fast_time(story())


def test_operators_have_room_for_many_calls() -> None:
    """Whoever revokes for everybody at once, or in a route of theirs, is refused nothing."""

    async def story() -> None:
        gate = make_gate(store=Slow(0.01))
        revoking = (gate.revoke(ISSUER, f"{n}") for n in range(5_000))
        await asyncio.gather(*revoking)

    in_fast_time(story())


@pytest.mark.parametrize("share", ["visitors", "tickets"])
async def test_strangers_leave_room_for_callers(store: HeldUp, share: str) -> None:
    """Visitors and made-up tickets are apart from callers, and from each other."""
    asking = await flood(store, share)
    async with asyncio.timeout(bulkhead.QUEUE_SECONDS):
        await of_a_caller(store, new_key())
        await store.put(new_key(), b"", 60, Region.TICKETS)
        await (taking_a_ticket if share == "visitors" else of_a_visitor)(store, new_key())
    with pytest.raises(UnavailableError if share == "visitors" else StoreBusyError):
        await (
            AdmissionSwitch(store).check("anna") if share == "visitors" else store.take(new_key())
        )
    await let_go_on(store, asking)


async def test_one_account_leaves_room_for_others(store: HeldUp) -> None:
    """It may have so many places of the callers', and is refused beyond."""
    most = bulkhead.CALLERS.of_one or 0
    asking = [asyncio.ensure_future(of_a_caller(store, "one")) for _ in range(most)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusyError, match="one account"):
        await of_a_caller(store, "one")
    another = asyncio.ensure_future(of_a_caller(store, "another"))
    await let_go_on(store, [*asking, another])
    await of_a_caller(store, "one")


def test_one_account_is_refused_after_a_while() -> None:
    """Over hundreds of connections it would ask again at once, and leave others no time."""

    async def story() -> None:
        store, most = Slow(3600), bulkhead.CALLERS.of_one or 0
        asking = [asyncio.ensure_future(of_one_account(store)) for _ in range(most)]
        await asyncio.sleep(0)
        began = seconds()
        more = [asyncio.ensure_future(of_one_account(store)) for _ in range(1_000)]
        done, _ = await asyncio.wait(more, timeout=0.9)
        assert done == set()
        more[0].cancel()
        told = await asyncio.gather(*more[1:], return_exceptions=True)
        assert {type(each) for each in told} == {StoreBusyError}
        assert seconds() - began < 2
        for each in asking:
            each.cancel()

    in_fast_time(story())


def test_refusals_that_are_held_back_have_a_bound() -> None:
    """Those beyond are told at once, and who was told leaves room for the next."""

    async def story() -> None:
        store, most = Slow(3600), bulkhead.CALLERS.of_one or 0
        asking = [asyncio.ensure_future(of_one_account(store)) for _ in range(most)]
        await asyncio.sleep(0)
        for _ in range(2):
            held = bulkhead.MOST_REFUSED_LATER
            more = [asyncio.ensure_future(of_one_account(store)) for _ in range(held + 1)]
            done, waiting = await asyncio.wait(more, timeout=0.5)
            assert (len(done), len(waiting)) == (1, held)
            await asyncio.wait(more)
            assert {type(each.exception()) for each in more} == {StoreBusyError}
        for each in asking:
            each.cancel()

    in_fast_time(story())


async def test_flood_opens_no_limit(store: HeldUp) -> None:
    """No place isn't "store down": 503 where limits are open then, and nothing is issued."""
    limits = {
        "allow": Limit("1/day", on_unavailable="allow"),
        "local": Limit("1/day", on_unavailable="local"),
    }
    agents = [Agent(when, id=f"agent_{when}", limits=[limits[when]]) for when in limits]
    gate = make_gate(store=store, agents=agents)
    asking = await flood(store, "callers")
    me = bearer(RSA.token(good_claims(sub="somebody")))
    for when in limits:
        answer = await ask(gate, query=f"agent={when}".encode(), headers=me)
        assert (answer.status, answer.header("Retry-After")) == (503, "1"), when
    assert (await ask(gate, "/agents", headers=me)).status == 503
    await let_go_on(store, asking)
    for status in (200, 429):
        assert (await ask(gate, query=b"agent=allow", headers=me)).status == status


async def test_waiting_has_an_end(store: HeldUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waited too long or went away leaves no trace: all places are free afterwards."""
    here = store._here().bulkheads[bulkhead.TICKETS]
    monkeypatch.setattr(here, "_share", bulkhead.TICKETS._replace(seconds=0.01))
    places = bulkhead.TICKETS.places
    asking = [asyncio.ensure_future(store.take(new_key())) for _ in range(places)]
    await asyncio.sleep(0)
    with pytest.raises(StoreBusyError):
        await asyncio.wait_for(store.take(new_key()), 10)
    monkeypatch.undo()
    gone = [asyncio.ensure_future(store.take(new_key())) for _ in range(3)]
    await asyncio.sleep(0)
    gone[0].cancel()
    store.go.set()
    await asyncio.gather(*asking)
    gone[1].cancel()  # its turn may have come just now
    await asyncio.gather(*gone, return_exceptions=True)
    store.go.clear()
    again = [asyncio.ensure_future(store.take(new_key())) for _ in range(places)]
    for _ in range(3):
        await asyncio.sleep(0)
    more = asyncio.ensure_future(store.take(new_key()))
    await asyncio.sleep(0)
    assert (here._free, len(here._waiting)) == (0, 1)
    store.go.set()
    await asyncio.gather(*again, more)
    assert (here._free, len(here._waiting)) == (places, 0)


@contextmanager
def quiet_server() -> Iterator[str]:
    """Return the address of what takes connections, and answers nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


async def test_store_that_hangs_is_down_for_all_who_wait() -> None:
    """Nobody waits for a place at a store that answers nothing: limits do as they say at once."""
    with quiet_server() as url:
        store = RedisStore(url, namespace="shares", timeout=1.0)
        told = await asyncio.gather(
            *(of_a_caller(store, f"{n}") for n in range(100)), return_exceptions=True
        )
        assert {type(each) for each in told} == {StoreError}
        with pytest.raises(StoreError) as caught:
            await of_a_caller(store, "late")
        assert type(caught.value) is StoreError
        await store.aclose()


def stand_still(seconds: float) -> None:
    """Let the event loop do nothing for a while, as a flood of requests does."""
    asyncio.get_running_loop().call_soon(time.sleep, seconds)


class Arriving(RedisStore):
    """A store whose answer arrives at the end of a standstill, and is read in some turns."""

    async def _send_command(self, *command: Any) -> Any:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        stand_still(0.1)
        loop.call_soon(arrived.set)
        await arrived.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        return b"value"


async def test_answer_that_arrived_while_the_process_stood_still() -> None:
    """It counts, though nobody read it in time."""
    store = Arriving("redis://127.0.0.1:1/0", namespace="shares", timeout=0.05)
    assert await store.take("ticket") == b"value"
    await store.aclose()


async def test_process_that_stood_still_is_no_store_that_is_down() -> None:
    """What got no answer meanwhile is refused, and opens no limit."""
    with quiet_server() as url:
        store = RedisStore(url, namespace="shares", timeout=0.2)
        asking = asyncio.ensure_future(of_a_caller(store, "third"))
        await asyncio.sleep(0)
        stand_still(0.5)
        with pytest.raises(StoreBusyError):
            await asking
        await store.aclose()
