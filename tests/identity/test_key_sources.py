"""Keys that are fetched: how often, who waits, what an outage changes. Hours pass in no time."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVarTuple

import pytest
from support.doubles import FastLoop, in_fast_time, seconds
from support.signing import EC, ED, ISSUER, RSA, Signer, jwks, rsa_signer

from xuna_middleware.errors import ConfigurationError, InvalidTokenError, UnavailableError
from xuna_middleware.identity.keys.endpoints import KeySourceError
from xuna_middleware.identity.keys.jwks import read_key_set
from xuna_middleware.identity.keys.sources import JWKSRefresh, RemoteKeys

Given = TypeVarTuple("Given")

OTHER = rsa_signer("second")
FRESHNESS = JWKSRefresh(refresh_after=300, max_stale=3600, cooldown=10)


@dataclass
class Provider:
    """Publish keys; may be down, may hang, and counts who asks. Each answer costs `delay` s."""

    keys: list[Signer] = field(default_factory=lambda: [RSA, EC])
    down: bool = False
    delay: float = 0.1
    asked_at: list[float] = field(default_factory=list)
    held: asyncio.Event | None = None

    async def load(self) -> Any:
        self.asked_at.append(seconds())
        published = jwks(*self.keys)
        if self.held is not None:
            await self.held.wait()
        await asyncio.sleep(self.delay)
        if self.down:
            raise KeySourceError("fetch: connect")
        return read_key_set(published)

    @property
    def asked(self) -> int:
        return len(self.asked_at)


@dataclass
class Story:
    """Hold a provider, the keys fetched from it, and how often they changed."""

    provider: Provider
    keys: RemoteKeys
    changes: list[float]

    async def find(self, signer: Signer = RSA, kid: str | None = "") -> str | None:
        """Return the kid of the key that is found for a signer's tokens."""
        named = signer.kid if kid == "" else kid
        return (await self.keys.find(named, signer.algorithm)).kid

    async def refused(self, kid: str) -> bool:
        """Tell whether a kid is refused as unknown, as against served or unavailable."""
        try:
            await self.keys.find(kid, "RS256")
        except InvalidTokenError:
            return True
        return False


def told(story: Callable[[Story], Coroutine[Any, Any, None]], **provider: Any) -> None:
    """Run a story of fetched keys in fast time."""

    async def run() -> None:
        changes: list[float] = []
        source = Provider(**provider)
        keys = RemoteKeys(
            ISSUER,
            source.load,
            lambda: changes.append(seconds()),
            FRESHNESS,
            monotonic=seconds,
        )
        try:
            await story(Story(source, keys, changes))
        finally:
            keys.stop()

    in_fast_time(run())


def test_first_callers_share_one_fetch() -> None:
    """However many wait for the first keys, the provider is asked once."""

    async def story(its: Story) -> None:
        found = await asyncio.gather(*(its.find() for _ in range(200)))
        assert set(found) == {"rsa"}
        assert its.provider.asked == 1
        assert its.changes == [pytest.approx(0.1)]

    told(story)


def test_start_fetches_without_anybody_waiting() -> None:
    """`start()` begins in the background, once, and not when there are keys already."""

    async def story(its: Story) -> None:
        assert not its.keys.ready
        its.keys.start()
        its.keys.start()
        await asyncio.sleep(1)
        assert its.keys.ready
        its.keys.start()
        await asyncio.sleep(1)
        assert its.provider.asked == 1

    told(story)


def test_known_keys_never_wait() -> None:
    """With a provider that hangs for good, a known key is found in no time, at any age served."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.held = asyncio.Event()
        for _ in range(10):
            await asyncio.sleep(300)
            before = seconds()
            assert await its.find() == "rsa"
            assert seconds() == before
        assert its.provider.asked == 2, "one fetch hangs, and no second one joins it"

    told(story)


def test_unknown_kid_does_not_make_known_ones_wait() -> None:
    """While strangers wait for their made-up kids, everybody else goes on."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.held = asyncio.Event()
        strangers = [asyncio.create_task(its.refused(f"made-up-{n}")) for n in range(20)]
        await asyncio.sleep(5)
        before = seconds()
        assert await its.find() == "rsa"
        assert seconds() == before
        its.provider.held.set()
        assert all(await asyncio.gather(*strangers))

    told(story)


def test_rotated_key_works_on_first_sight() -> None:
    """A new kid gets one fetch, and all who wait for it succeed."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.keys = [OTHER]
        found = await asyncio.gather(*(its.find(OTHER) for _ in range(100)))
        assert set(found) == {"second"}
        assert its.provider.asked == 2
        assert len(its.changes) == 2

    told(story)


def test_unknown_kids_of_a_flood_cost_one_fetch_and_one_more_at_the_end() -> None:
    """During the cooldown each is a 401 at once; at its end one fetch follows by itself."""

    async def story(its: Story) -> None:
        await its.find()
        assert all([await its.refused(f"made-up-{n}") for n in range(500)])
        assert its.provider.asked == 2
        for n in range(9):
            await asyncio.sleep(1)
            before = seconds()
            assert await its.refused(f"later-{n}")
            assert seconds() == before, "within the cooldown nobody waits"
        assert its.provider.asked == 2
        await asyncio.sleep(5)
        assert its.provider.asked == 3
        cooldown = its.provider.asked_at[2] - its.provider.asked_at[1]
        assert cooldown == pytest.approx(10, abs=0.5)

    told(story)


def test_key_that_appears_in_a_flood_is_refused_for_one_cooldown_at_most() -> None:
    """Strangers hold the cooldown open for good; a new key is known ten seconds on."""

    async def story(its: Story) -> None:
        await its.find()
        await its.refused("made-up")
        its.provider.keys = [RSA, OTHER]
        appeared = seconds()
        while await its.refused("second"):
            await its.refused("made-up again")
            await asyncio.sleep(0.25)
        assert seconds() - appeared <= 10.5

    told(story)


def test_loads_for_other_reasons_do_not_start_the_cooldown() -> None:
    """Only unknown kids do: after a first load or a renewal, a rotation is seen at once."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.keys = [RSA, OTHER]
        assert await its.find(OTHER) == "second"
        await asyncio.sleep(320)
        third = rsa_signer("third")
        its.provider.keys = [third]
        assert await its.find(third) == "third"

    told(story)


def test_a_good_rotation_still_counts_as_an_attempt() -> None:
    """A second rotation within the cooldown is seen at its end, not before, and never later."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.keys = [RSA, OTHER]
        await its.find(OTHER)
        rotated = seconds()
        its.provider.keys = [RSA, OTHER, rsa_signer("third")]
        assert await its.refused("third")
        await asyncio.sleep(11)
        assert await its.find(rsa_signer("third")) == "third"
        assert seconds() - rotated < 12

    told(story)


def test_kid_seen_during_a_fetch_that_began_before_its_key() -> None:
    """A fetch under way may be answered from before the key was published: another follows."""

    async def story(its: Story) -> None:
        await its.find()
        await asyncio.sleep(301)
        its.provider.held = asyncio.Event()
        await its.find()
        await asyncio.sleep(0)
        assert its.provider.asked == 2
        its.provider.keys = [RSA, OTHER]
        waiting = asyncio.create_task(its.find(OTHER))
        await asyncio.sleep(1)
        its.provider.held.set()
        assert await waiting == "second"
        assert its.provider.asked == 3

    told(story)


def test_kid_seen_during_a_fetch_that_brings_it() -> None:
    """A kid that the fetch under way brings costs no further one, and starts no cooldown."""

    async def story(its: Story) -> None:
        its.provider.held = asyncio.Event()
        first = asyncio.create_task(its.find())
        second = asyncio.create_task(its.find(EC))
        await asyncio.sleep(1)
        its.provider.held.set()
        assert [*await asyncio.gather(first, second)] == ["rsa", "ec"]
        its.provider.held = asyncio.Event()
        its.provider.keys = [RSA, OTHER]
        await asyncio.sleep(301)
        assert its.provider.asked == 2, "renewed by itself, and held"
        waiting = asyncio.create_task(its.find(OTHER))
        await asyncio.sleep(1)
        its.provider.held.set()
        assert await waiting == "second"
        assert its.provider.asked == 2

    told(story)


def test_all_who_saw_a_fetch_that_began_too_early_share_the_next() -> None:
    """The fetch that follows is for each of them, not only for the one who began it."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.held = asyncio.Event()
        await asyncio.sleep(301)
        its.provider.keys = [RSA, OTHER]
        waiting = [asyncio.create_task(its.find(OTHER)) for _ in range(3)]
        await asyncio.sleep(1)
        its.provider.held.set()
        assert await asyncio.gather(*waiting) == ["second"] * 3
        assert its.provider.asked == 3

    told(story)


def test_set_is_renewed_in_the_background() -> None:
    """Nobody asks for hours, and the keys are no older than five minutes all the same."""

    async def story(its: Story) -> None:
        await its.find()
        await asyncio.sleep(3600)
        assert 11 <= its.provider.asked <= 13
        assert its.keys.ready

    told(story)


def test_set_that_is_due_again_when_it_arrives() -> None:
    """A provider slower than the set's age: one fetch follows another, and it never ends."""
    provider = Provider(delay=20)
    freshness = JWKSRefresh(refresh_after=10)
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, freshness, monotonic=seconds)

    async def story() -> None:
        keys.start()
        await asyncio.sleep(1000)
        keys.stop()

    in_fast_time(story())
    assert provider.asked == 50


def test_fetches_live_in_no_requests_context() -> None:
    """What the first request set, as its trace, is seen by no fetch: not the first, not later."""
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen = []

    async def load() -> Any:
        seen.append(trace.get())
        return read_key_set(jwks(RSA))

    async def story() -> None:
        keys = RemoteKeys(ISSUER, load, lambda: None, FRESHNESS, monotonic=seconds)
        trace.set("of the first request")
        await keys.find("rsa", "RS256")
        await asyncio.gather(keys.find("new", "RS256"), return_exceptions=True)
        await asyncio.gather(keys.find("new", "RS256"), return_exceptions=True)
        await asyncio.sleep(400)
        keys.stop()

    in_fast_time(story())
    assert seen == ["none"] * 4


def test_timer_holds_no_requests_context() -> None:
    """What a request had in its context goes with it, though it planned a fetch."""
    trace: ContextVar[Any] = ContextVar("trace")

    async def request(its: Story) -> "weakref.ref[Any]":
        held = Provider()
        trace.set(held)
        assert await its.refused("made-up")
        assert await its.refused("made-up again")
        return weakref.ref(held)

    async def story(its: Story) -> None:
        await its.find()
        held = await asyncio.create_task(request(its))
        await asyncio.sleep(0)  # the loop lets go of the request's task
        gc.collect()
        assert held() is None

    told(story)


class WatchedLoop(FastLoop):
    """A fast loop that tells how many timers are set."""

    def __init__(self) -> None:
        super().__init__()
        self._set: list[asyncio.TimerHandle] = []

    def call_at(
        self,
        when: float,
        callback: Callable[[*Given], object],
        *args: *Given,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self._set.append(super().call_at(when, callback, *args, context=context))
        return self._set[-1]

    @property
    def timers(self) -> int:
        return sum(not timer.cancelled() and timer.when() > self.time() for timer in self._set)


def test_one_timer_whatever_is_planned() -> None:
    """A plan takes the place of the one before; renewals, strangers and starts add none."""
    provider = Provider()
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=seconds)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WatchedLoop)
        for _ in range(30):
            keys.start()
            for _ in range(3):
                await asyncio.gather(keys.find("made-up", "RS256"), return_exceptions=True)
            assert loop.timers == 1
            await asyncio.sleep(70)
        keys.stop()
        assert loop.timers == 0

    with asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(story())


def test_freshness_that_is_none() -> None:
    """Said when it is built, not at the first token."""
    others: list[Any] = [300, 0, {}, JWKSRefresh]
    for freshness in others:
        with pytest.raises(ConfigurationError, match="JWKSRefresh"):
            RemoteKeys(ISSUER, Provider().load, lambda: None, freshness)


def test_withdrawn_key_is_refused_within_the_documented_time() -> None:
    """What the provider takes back is refused after `refresh_after` and one fetch."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.keys = [EC]
        await asyncio.sleep(300 + 2)
        assert await its.refused("rsa")
        assert len(its.changes) == 2

    told(story)


def test_unchanged_set_is_no_change() -> None:
    """Remembered tokens are dropped when keys change, and not each time they are fetched."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.keys = [EC, RSA]
        await asyncio.sleep(1000)
        assert its.provider.asked > 2
        assert len(its.changes) == 1

    told(story)


def test_last_good_set_serves_through_an_outage_for_the_stated_time() -> None:
    """For an hour nobody notices; then it is 503 with Retry-After; then it is over."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.down = True
        while seconds() < 3599:
            assert await its.find() == "rsa"
            await asyncio.sleep(100)
        await asyncio.sleep(3602 - seconds())
        with pytest.raises(UnavailableError) as caught:
            await its.find()
        assert 1 <= int((caught.value.headers or {})["Retry-After"]) <= 30
        assert not its.keys.ready
        its.provider.down = False
        await asyncio.sleep(31)
        assert await its.find() == "rsa"
        assert its.keys.ready

    told(story)


def test_outage_is_no_flood_of_fetches() -> None:
    """After 1, 2, 4 … 30 seconds: an hour of outage is some 125 attempts, however many ask."""

    async def story(its: Story) -> None:
        await its.find()
        await asyncio.sleep(290)
        its.provider.down = True
        begun = its.provider.asked
        while seconds() < 3500:
            await its.find()
            await asyncio.sleep(0.7)
        assert 60 <= its.provider.asked - begun <= 125
        pauses = [b - a for a, b in pairwise(its.provider.asked_at[1:])]
        assert pauses[:5] == pytest.approx([1.1, 2.1, 4.1, 8.1, 16.1], abs=0.8)
        assert max(pauses) <= 31

    told(story)


def test_failed_first_load_backs_off_without_io() -> None:
    """With nothing to serve, each caller gets a 503 at once; the next try comes by itself."""

    async def story(its: Story) -> None:
        for _ in range(50):
            with pytest.raises(UnavailableError) as caught:
                await its.find()
            assert (caught.value.headers or {})["Retry-After"] == "1"
        assert its.provider.asked == 1
        await asyncio.sleep(5)
        assert its.provider.asked == 3
        before = seconds()
        with pytest.raises(UnavailableError):
            await its.find()
        assert seconds() == before
        its.provider.down = False
        await asyncio.sleep(31)
        assert await its.find() == "rsa"

    told(story, down=True)


def test_unknown_kid_in_an_outage() -> None:
    """Whether the kid exists can't be known: 503, no I/O within the backoff, and never a 500."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.down = True
        for _ in range(20):
            with pytest.raises(UnavailableError):
                await its.refused("new")
        assert its.provider.asked == 2
        assert await its.find() == "rsa"

    told(story)


def test_unknown_kid_between_two_attempts_of_an_outage() -> None:
    """The backoff goes on undisturbed: no fetch, whatever strangers make up."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.down = True
        await asyncio.sleep(320)
        asked = its.provider.asked
        with pytest.raises(UnavailableError):
            await its.refused("new")
        assert its.provider.asked == asked > 3

    told(story)


def test_key_that_appears_in_an_outage_is_known_when_it_is_over() -> None:
    """An unknown kid during the backoff doesn't put off the next attempt."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.down = True
        with pytest.raises(UnavailableError):
            await its.find(OTHER)
        its.provider.down = False
        its.provider.keys = [OTHER]
        await asyncio.sleep(2)
        assert await its.find(OTHER) == "second"

    told(story)


def test_unknown_kids_do_not_shorten_the_backoff() -> None:
    """The cooldown's end lies within a longer backoff: no fetch begins before that is over."""

    async def story(its: Story) -> None:
        await its.find()
        await asyncio.sleep(290)
        its.provider.down = True
        while seconds() < 500:
            with pytest.raises(UnavailableError):
                await its.refused("made-up")
            await asyncio.sleep(0.7)
        pauses = [b - a for a, b in pairwise(its.provider.asked_at[1:])]
        assert pauses == pytest.approx([1.1, 2.1, 4.1, 8.1, 16.1] + [30.1] * 5, abs=0.01)

    told(story)


def test_nothing_shortens_the_backoff_in_another_loop() -> None:
    """What one loop has planned for five minutes on gives way to a failure that another met."""
    provider = Provider(delay=0)
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=seconds)

    async def use() -> None:
        keys.start()
        await asyncio.gather(keys.find("made-up", "RS256"), return_exceptions=True)
        await asyncio.sleep(0.3)

    with two_loops() as (one, two):
        one(keys.find("rsa", "RS256"))
        one(asyncio.sleep(200))
        provider.down = True
        for _ in range(300):
            one(use())
            two(use())
        keys.stop()
    pauses = [b - a for a, b in pairwise(provider.asked_at[1:])]
    assert pauses[:6] == pytest.approx([1, 2, 4, 8, 16, 30], abs=0.7)
    assert min(pauses[6:]) >= 30


def test_older_answer_never_overwrites_a_newer() -> None:
    """Fetches of two loops end in the wrong order: the later-begun one stays."""
    provider, changes = Provider(), list[float]()
    keys = RemoteKeys(
        ISSUER, provider.load, lambda: changes.append(seconds()), FRESHNESS, monotonic=seconds
    )
    with two_loops() as (one, two):
        one(keys.find("rsa", "RS256"))
        slow = provider.held = asyncio.Event()
        one(asyncio.sleep(301))
        provider.held, provider.keys = None, [OTHER]
        assert two(keys.find("second", "RS256")).kid == "second"
        assert provider.asked == 3
        slow.set()
        one(asyncio.sleep(1))
        assert two(keys.find("second", "RS256")).kid == "second"
        assert provider.asked == 3, "it is still known, and wasn't fetched anew"
        assert len(changes) == 2
        with pytest.raises(InvalidTokenError):
            two(keys.find("rsa", "RS256"))
        keys.stop()


def test_caller_who_leaves_takes_nobody_along() -> None:
    """One of several waiting callers is cancelled; the fetch and the others go on."""

    async def story(its: Story) -> None:
        its.provider.held = asyncio.Event()
        callers = [asyncio.create_task(its.find()) for _ in range(3)]
        await asyncio.sleep(1)
        callers[0].cancel()
        await asyncio.sleep(0)
        its.provider.held.set()
        assert await asyncio.gather(*callers[1:]) == ["rsa", "rsa"]
        assert its.provider.asked == 1

    told(story)


def test_callers_who_wait_when_it_stops_are_answered() -> None:
    """Stopping in the middle of a fetch is a 503 for those who wait, not a broken request."""

    async def story(its: Story) -> None:
        its.provider.held = asyncio.Event()
        waiting = asyncio.create_task(its.find())
        await asyncio.sleep(1)
        its.keys.stop()
        with pytest.raises(UnavailableError):
            await waiting

    told(story)


def test_unknown_kids_that_wait_when_it_stops_are_answered() -> None:
    """No fetch was completed, so nobody knows: 503, not 401. And nothing is planned after it."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.held = asyncio.Event()
        waiting = [asyncio.create_task(its.refused(f"made-up-{n}")) for n in range(3)]
        await asyncio.sleep(1)
        its.keys.stop()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 3
        await asyncio.sleep(10_000)
        assert its.provider.asked == 2

    told(story)


def test_fetch_that_somebody_else_cancelled() -> None:
    """A loop that ends its tasks completes no fetch either: 503 for an unknown kid."""

    async def story(its: Story) -> None:
        await its.find()
        its.provider.held = asyncio.Event()
        before = asyncio.all_tasks()
        waiting = asyncio.create_task(its.refused("made-up"))
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - before - {waiting}:
            task.cancel()
        with pytest.raises(UnavailableError):
            await waiting

    told(story)


def test_load_that_makes_a_fault_of_its_cancellation() -> None:
    """However a cancelled load ends: once stopped, it isn't tried again."""
    asked = 0

    async def load() -> Any:
        nonlocal asked
        asked += 1
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            raise KeySourceError("fetch: protocol") from None

    async def story() -> None:
        keys = RemoteKeys(ISSUER, load, lambda: None, FRESHNESS, monotonic=seconds)
        waiting = asyncio.create_task(keys.find("rsa", "RS256"))
        await asyncio.sleep(1)
        keys.stop()
        with pytest.raises(UnavailableError):
            await waiting
        await asyncio.sleep(10_000)
        assert asked == 1

    in_fast_time(story())


def test_load_that_ends_well_in_spite_of_its_cancellation() -> None:
    """Who waited for it begins no further fetch after the stop, but is told 503."""
    asked = 0

    async def load() -> Any:
        nonlocal asked
        asked += 1
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(5)
        return read_key_set(jwks(RSA))

    async def story() -> None:
        keys = RemoteKeys(ISSUER, load, lambda: None, FRESHNESS, monotonic=seconds)
        await keys.find("rsa", "RS256")
        await asyncio.sleep(296)
        waiting = asyncio.create_task(keys.find("made-up", "RS256"))
        await asyncio.sleep(1)
        keys.stop()
        with pytest.raises(UnavailableError):
            await waiting
        await asyncio.sleep(10_000)
        assert asked == 2

    in_fast_time(story())


def test_it_goes_on_after_a_stop() -> None:
    """A gate that was closed may be used again."""

    async def story(its: Story) -> None:
        its.keys.stop()
        await its.find()
        its.keys.stop()
        assert await its.find() == "rsa"
        its.keys.start()
        assert its.provider.asked == 1

    told(story)


def test_stop_ends_all_background_work() -> None:
    """After a stop nothing is fetched, however long one waits."""

    async def story(its: Story) -> None:
        await its.find()
        its.keys.stop()
        await asyncio.sleep(10_000)
        assert its.provider.asked == 1
        assert len(asyncio.all_tasks()) == 1

    told(story)


def test_a_set_that_raises_what_nobody_expects(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever loading raises is a failed attempt, and its text stays out of the log."""

    async def load() -> Any:
        raise RecursionError("secret text")

    async def story() -> None:
        keys = RemoteKeys(ISSUER, load, lambda: None, FRESHNESS, monotonic=seconds)
        with pytest.raises(UnavailableError):
            await keys.find("rsa", "RS256")
        keys.stop()

    with caplog.at_level(logging.DEBUG):
        in_fast_time(story())
    assert "secret text" not in caplog.text
    assert "RecursionError" in caplog.text


def test_second_event_loop() -> None:
    """A gate outlives a loop: keys stay, and the next loop renews them."""
    provider = Provider()
    elapsed = [0.0]
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=lambda: elapsed[0])

    async def first() -> None:
        keys.start()
        await keys.find("rsa", "RS256")

    async def second() -> None:
        assert (await keys.find("rsa", "RS256")).kid == "rsa"
        assert provider.asked == 1
        elapsed[0] = 301
        provider.keys = [RSA, OTHER]
        assert (await keys.find("rsa", "RS256")).kid == "rsa"
        await asyncio.sleep(1)
        assert provider.asked == 2
        assert (await keys.find("second", "RS256")).kid == "second"
        await asyncio.sleep(299)
        keys.stop()

    in_fast_time(first())
    in_fast_time(second())


def test_second_event_loop_after_a_fetch_was_cut_off() -> None:
    """The loop ends in the middle of the first fetch; the next one begins anew."""
    provider = Provider(delay=1000)
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=lambda: 0.0)

    async def first() -> None:
        keys.start()
        await asyncio.sleep(1)

    async def second() -> None:
        provider.delay = 0
        assert (await keys.find("rsa", "RS256")).kid == "rsa"
        keys.stop()

    in_fast_time(first())
    in_fast_time(second())
    keys.stop()


@contextmanager
def two_loops() -> Iterator[tuple[Callable[..., Any], Callable[..., Any]]]:
    """Yield what runs a step in one loop, and in another. Time goes on from step to step."""
    now = 0.0

    def run_in(runner: asyncio.Runner, step: Coroutine[Any, Any, Any]) -> Any:
        nonlocal now
        loop = runner.get_loop()
        assert isinstance(loop, FastLoop)
        loop.elapsed = now
        try:
            return runner.run(step)
        finally:
            now = loop.elapsed

    with asyncio.Runner(loop_factory=FastLoop) as one, asyncio.Runner(loop_factory=FastLoop) as two:
        yield lambda step: run_in(one, step), lambda step: run_in(two, step)


def test_two_loops_in_turn_fetch_no_more_than_one_does() -> None:
    """However long they take turns, a set is renewed when it is due, and then once."""
    provider = Provider(delay=0)
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=seconds)

    async def start() -> None:
        keys.start()

    async def use() -> None:
        assert (await keys.find("rsa", "RS256")).kid == "rsa"
        await asyncio.sleep(170)

    with two_loops() as (one, two):
        one(use())
        two(start())
        for _ in range(50):
            two(use())
            one(use())
        assert {b - a for a, b in pairwise(provider.asked_at)} == {300}
        asked = provider.asked
        keys.stop()
        for loop in (one, two, one, two):
            loop(asyncio.sleep(5000))
    assert provider.asked == asked > 50


def test_stop_answers_who_waits_in_another_loop() -> None:
    """It ends the fetch of each loop, and the timers, wherever it is called."""
    provider = Provider(held=asyncio.Event())
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=seconds)

    async def begin() -> "asyncio.Task[Any]":
        waiting = asyncio.create_task(keys.find("rsa", "RS256"))
        await asyncio.sleep(1)
        return waiting

    async def outcome(waiting: "asyncio.Task[Any]") -> None:
        with pytest.raises(UnavailableError):
            await waiting

    async def stop() -> None:
        keys.stop()

    with two_loops() as (one, two):
        waiting = one(begin())
        two(stop())
        one(outcome(waiting))
        one(asyncio.sleep(10_000))
    assert provider.asked == 1


def test_fetch_of_one_loop_is_not_lost_to_another() -> None:
    """A task that only its own future holds would be collected in the middle of its fetch."""
    awaited: list[weakref.ref[Any]] = []

    async def load() -> Any:
        answer = asyncio.get_running_loop().create_future()
        awaited.append(weakref.ref(answer))
        await answer

    async def start() -> None:
        keys.start()
        await asyncio.sleep(1)

    keys = RemoteKeys(ISSUER, load, lambda: None, FRESHNESS, monotonic=seconds)
    with two_loops() as (one, two):
        one(start())
        two(start())
        gc.collect()
        assert [answer() is not None for answer in awaited] == [True, True]
        keys.stop()


def test_closed_loops_are_forgotten() -> None:
    """A gate used in a thousand loops, as by tests, holds on to the last ones only."""
    provider = Provider()
    keys = RemoteKeys(ISSUER, provider.load, lambda: None, FRESHNESS, monotonic=lambda: 0.0)

    async def use() -> "weakref.ref[Any]":
        keys.start()
        await keys.find("rsa", "RS256")
        return weakref.ref(asyncio.get_running_loop())

    loops = [in_fast_time(use()) for _ in range(5)]
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1
    keys.stop()
    gc.collect()
    assert not any(loop() for loop in loops)


def test_no_kid_causes_no_fetch() -> None:
    """Without a kid exactly one key must fit what is known; nothing is fetched to find out."""

    async def story(its: Story) -> None:
        assert await its.find(RSA, None) == "rsa"
        assert await its.find(EC, None) == "ec"
        with pytest.raises(InvalidTokenError):
            await its.find(ED, None)
        its.provider.keys = [RSA, OTHER]
        await asyncio.sleep(400)
        fetched = its.provider.asked
        with pytest.raises(InvalidTokenError):
            await its.find(RSA, None)
        assert its.provider.asked == fetched

    told(story)


def test_known_kid_with_another_algorithm_causes_no_fetch() -> None:
    """A known kid is known, whatever the token says about the algorithm."""

    async def story(its: Story) -> None:
        await its.find()
        with pytest.raises(InvalidTokenError):
            await its.keys.find("rsa", "ES256")
        assert its.provider.asked == 1

    told(story)


def test_made_up_kids_leave_nothing_behind() -> None:
    """A kid is only ever a dictionary key: nothing grows with strangers' kids."""

    async def story(its: Story) -> None:
        await its.find()
        await its.refused("x" * 10_000)
        before = _size(its.keys)
        for number in range(2_000):
            await its.refused(f"{number}" * 50)
        assert _size(its.keys) == before

    told(story)


def _size(keys: RemoteKeys) -> int:
    """Count what is held, however deep."""
    held = [value for value in vars(keys).values() if isinstance(value, dict | list | set)]
    inner = keys._keys
    return sum(map(len, held)) + (len(inner.by_kid) + len(inner.keys) if inner else 0)
