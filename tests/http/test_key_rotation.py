"""Rotation at the face of a gate: who waits for a fetch, who is refused, and how often it is made.

Minutes pass in no time: verifier, keys and provider live by the clock of a fast loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import pytest
from support.doubles import (
    CHALLENGE,
    Answer,
    CountedPlatform,
    FastLoop,
    ask,
    bearer,
    in_fast_time,
    make_gate,
    make_verifier,
    seconds,
)
from support.signing import ISSUER, NOW, RSA, Signer, good_claims, jwks, rsa_signer

from xuna_middleware import XunaGate
from xuna_middleware.identity.keys.sources import RemoteKeys

OLD: Final = rsa_signer("old")
NEW: Final = rsa_signer("new")
#: As documented: the age at which a set is fetched anew, and the pause between unknown kids.
REFRESH: Final = 300
COOLDOWN: Final = 10
#: What one fetch costs here.
FETCH: Final = 0.1


@dataclass
class Stage:
    """A provider that publishes keys and may hang, the gate that asks it, the platform behind."""

    clock: Callable[[], float] = seconds
    published: Sequence[Signer] = (OLD,)
    hangs: bool = False
    held: asyncio.Event | None = None
    fetches: list[float] = field(default_factory=list)
    platform: CountedPlatform = field(default_factory=CountedPlatform)

    async def provider(self, request: httpx.Request) -> httpx.Response:
        """Answer with what was published when it was asked."""
        self.fetches.append(self.clock())
        keys, held = jwks(*self.published), self.held
        await asyncio.sleep(1_000_000 if self.hangs else FETCH)
        if held is not None:
            await held.wait()
        return httpx.Response(200, json=keys)

    def __post_init__(self) -> None:
        verifier = make_verifier(
            jwks_uri=f"{ISSUER}/keys",
            http_transport=httpx.MockTransport(self.provider),
            clock=lambda: NOW + self.clock(),
        )
        assert isinstance(verifier._keys, RemoteKeys)
        verifier._keys._now = self.clock
        self.gate: XunaGate = make_gate(self.platform, verifier=verifier)

    def token(self, signer: Signer, kid: str | None = None) -> str:
        """Return a token of this very moment, by default with the kid of its key."""
        now = NOW + self.clock()
        claims = good_claims(iat=now - 1, exp=now + 600)
        return signer.token(claims, signer.header(kid=kid or signer.kid))

    async def asks(self, signer: Signer, kid: str | None = None) -> Answer:
        return await ask(self.gate, headers=bearer(self.token(signer, kid)))

    async def passes(self, signer: Signer = OLD) -> None:
        """Check that a signer's token gets one pass, within no time."""
        begun, issued = seconds(), len(self.platform.requests)
        assert (await self.asks(signer)).status == 200
        assert len(self.platform.requests) == issued + 1
        assert seconds() == begun

    async def refuses(self, signer: Signer, kid: str | None = None) -> None:
        """Check that it gets the challenge, and that the platform hears nothing."""
        issued = len(self.platform.requests)
        assert_challenged(await self.asks(signer, kid))
        assert len(self.platform.requests) == issued


def assert_challenged(answer: Answer) -> None:
    assert (answer.status, answer.header("www-authenticate")) == (401, CHALLENGE)
    assert answer.header("content-type") == "application/problem+json"
    assert answer.json()["code"] == "invalid_token"


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.header("www-authenticate")) == (503, None)
    assert int(answer.header("retry-after") or 0) >= 1
    assert answer.json()["code"] == "unavailable"


def told(story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    """Run a story in fast time, that begins with keys in place and nothing going on."""

    async def run() -> None:
        stage = Stage()
        async with stage.gate:
            assert (await stage.asks(OLD)).status == 200
            await asyncio.sleep(1)
            assert len(stage.fetches) == 1
            await story(stage)

    in_fast_time(run())


def test_first_callers_share_one_fetch() -> None:
    """Cold start: whoever comes waits for the same keys."""

    async def story() -> None:
        stage = Stage()
        async with stage.gate:
            answers = await asyncio.gather(*(stage.asks(OLD) for _ in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert len(stage.fetches) == 1
        assert len(stage.platform.requests) == 20

    in_fast_time(story())


def test_new_kid_works_at_first_sight() -> None:
    """One fetch for all who wait, and not one of them is refused; the old key goes on."""

    async def story(stage: Stage) -> None:
        stage.published = (OLD, NEW)
        answers = await asyncio.gather(*(stage.asks(NEW) for _ in range(20)))
        assert [answer.status for answer in answers] == [200] * 20
        assert len(stage.fetches) == 2
        assert len(stage.platform.requests) == 21
        await stage.passes(NEW)
        await stage.passes(OLD)

    told(story)


def test_unknown_kids_share_one_fetch() -> None:
    """Twenty made-up kids at once: one fetch, twenty challenges, no call."""

    async def story(stage: Stage) -> None:
        answers = await asyncio.gather(*(stage.asks(RSA, f"made-up-{n}") for n in range(20)))
        for answer in answers:
            assert_challenged(answer)
        assert len(stage.fetches) == 2
        assert len(stage.platform.requests) == 1

    told(story)


def test_unknown_kids_in_the_cooldown_are_challenged_at_once() -> None:
    """They cause no fetch but one, at its end, however many there are."""

    async def story(stage: Stage) -> None:
        await stage.refuses(RSA, "made-up")
        begun = seconds()
        for number in range(200):
            await stage.refuses(RSA, f"made-up-{number}")
        assert seconds() == begun
        assert len(stage.fetches) == 2
        await asyncio.sleep(2 * COOLDOWN)
        assert len(stage.fetches) == 3
        assert stage.fetches[2] - stage.fetches[1] == pytest.approx(COOLDOWN, abs=FETCH)

    told(story)


def test_new_kid_in_a_flood_is_late_by_one_cooldown_at_most() -> None:
    """Made-up kids, four a second, and in their midst a key that is really new."""

    async def story(stage: Stage) -> None:
        await stage.refuses(RSA, "made-up")
        stage.published = (OLD, NEW)
        appeared = seconds()
        while (answer := await stage.asks(NEW)).status != 200:
            assert_challenged(answer)
            await stage.refuses(RSA, f"made-up-{seconds()}")
            await asyncio.sleep(0.25)
        assert 5 < seconds() - appeared <= COOLDOWN + 2 * FETCH + 0.25
        assert len(stage.fetches) == 3

    told(story)


def test_only_unknown_kids_start_the_cooldown() -> None:
    """A kid that appears right after a renewal is known at first sight all the same."""

    async def story(stage: Stage) -> None:
        await asyncio.sleep(REFRESH)
        assert len(stage.fetches) == 2
        stage.published = (NEW,)
        assert (await stage.asks(NEW)).status == 200

    told(story)


def test_known_keys_do_not_wait_for_a_provider_that_hangs() -> None:
    """Only the caller with a kid that nobody knows waits, and for five seconds at most."""

    async def story(stage: Stage) -> None:
        stage.hangs = True
        begun = seconds()
        waiting = asyncio.create_task(stage.asks(RSA, "made-up"))
        while not waiting.done():
            await stage.passes(OLD)
            await asyncio.sleep(0.1)
        assert_unavailable(await waiting)
        assert 4 < seconds() - begun <= 5.2
        for _ in range(50):
            await stage.passes(OLD)
            await asyncio.sleep(60)
            assert (await ask(stage.gate, "/readyz")).status == 200

    told(story)


def test_unknown_kid_in_an_outage_is_no_401() -> None:
    """Nobody can know whether it is a new key: 503, and nothing is issued."""

    async def story(stage: Stage) -> None:
        stage.hangs = True
        for _ in range(20):
            assert_unavailable(await stage.asks(NEW))
            await asyncio.sleep(1)
        assert len(stage.platform.requests) == 1
        stage.hangs, stage.published = False, (NEW,)
        await asyncio.sleep(30)
        await stage.passes(NEW)

    told(story)


def test_keys_are_renewed_while_nobody_waits() -> None:
    """Every five minutes, in the background: the new key is there before its first token."""

    async def story(stage: Stage) -> None:
        stage.published = (OLD, NEW)
        await asyncio.sleep(REFRESH)
        assert len(stage.fetches) == 2
        await stage.passes(NEW)
        await stage.passes(OLD)
        assert len(stage.fetches) == 2

    told(story)


def test_withdrawn_key_is_refused_within_the_documented_time() -> None:
    """Five minutes and one fetch after it went, its tokens open nothing, remembered or new."""

    async def story(stage: Stage) -> None:
        stage.published = (NEW,)
        await asyncio.sleep(REFRESH - 2)
        token = stage.token(OLD)
        assert (await ask(stage.gate, headers=bearer(token))).status == 200
        issued = len(stage.platform.requests)
        await asyncio.sleep(2 + FETCH)
        assert_challenged(await ask(stage.gate, headers=bearer(token)))
        await stage.refuses(OLD)
        assert len(stage.platform.requests) == issued
        await stage.passes(NEW)

    told(story)


def test_older_answer_never_overwrites_a_newer() -> None:
    """Fetches of two loops end in the wrong order: what was asked for last stays."""
    now = [0.0]
    stage = Stage(clock=lambda: now[0])
    with (
        asyncio.Runner(loop_factory=FastLoop) as one,
        asyncio.Runner(loop_factory=FastLoop) as two,
    ):
        assert one.run(stage.asks(OLD)).status == 200
        held = stage.held = asyncio.Event()

        async def begin() -> "asyncio.Task[Answer]":
            waiting = asyncio.create_task(stage.asks(RSA, "made-up"))
            await asyncio.sleep(2 * FETCH)
            return waiting

        async def end(waiting: "asyncio.Task[Answer]") -> Answer:
            held.set()
            return await waiting

        waiting = one.run(begin())
        stage.held, stage.published = None, (NEW,)
        now[0] += COOLDOWN
        assert two.run(stage.asks(NEW)).status == 200
        assert len(stage.fetches) == 3
        two.run(stage.refuses(OLD))
        assert_challenged(one.run(end(waiting)))
        for runner in (one, two):
            runner.run(stage.passes(NEW))
            runner.run(stage.refuses(OLD))
        assert len(stage.fetches) == 3
        one.run(stage.gate.aclose())
