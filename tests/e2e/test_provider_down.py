"""A real provider whose key set is broken, slow or never comes: who waits, and for what."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from typing import Final, Literal

import pytest
from support.doubles import Answer, ask, bearer, make_gate

from xuna_middleware import OIDCVerifier, XunaGate

from .provider_process import Operated

AUDIENCE: Final = "voice"
#: In seconds: the longest that anything here may take to happen.
PATIENCE: Final = 20
PAUSE: Final = 0.02

Trouble = Literal["down", "slow", "never"]
in_each_trouble = pytest.mark.parametrize("trouble", ["down", "slow", "never"])


@pytest.fixture
def provider(operated_provider: Operated) -> Iterator[Operated]:
    """Give a provider that answers well before and after each test."""
    operated_provider.answer_for_keys("well")
    yield operated_provider
    operated_provider.answer_for_keys("well")


def gate_of(provider: Operated) -> XunaGate:
    return make_gate(verifier=OIDCVerifier(provider.provider.issuer, audience=AUDIENCE))


def new_token(provider: Operated) -> str:
    return provider.provider.client_credentials("ES256", AUDIENCE)


async def call(gate: XunaGate, token: str) -> Answer:
    return await ask(gate, headers=bearer(token))


async def until_asked(provider: Operated, times: int) -> None:
    """Wait for the gate to ask for the keys that often."""
    async with asyncio.timeout(PATIENCE):
        while provider.asked() < times:  # noqa: ASYNC110  (it is another process)
            await asyncio.sleep(PAUSE)


def assert_unavailable(answer: Answer) -> None:
    """Check the 503: nobody is told that their token is bad."""
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.header("retry-after") or "") >= 1
    assert answer.header("www-authenticate") is None


@in_each_trouble
async def test_known_keys_wait_for_nobody(provider: Operated, trouble: Trouble) -> None:
    """While a token of an unknown key is being looked up, others pass, none of them seen before."""
    async with aclosing(gate_of(provider)) as gate:
        assert (await call(gate, new_token(provider))).status == 200
        known = [new_token(provider) for _ in range(10)]
        provider.rotate()
        unknown = new_token(provider)
        provider.answer_for_keys(trouble)
        asked = provider.asked()
        looking_up = asyncio.create_task(call(gate, unknown))
        await until_asked(provider, asked + 1)

        answers = [await call(gate, token) for token in known]

        assert [answer.status for answer in answers] == [200] * len(known)
        assert trouble != "never" or not looking_up.done()
        if trouble == "never":
            provider.answer_for_keys("down")
        if trouble == "slow":
            assert (await looking_up).status == 200
        else:
            assert_unavailable(await looking_up)
            assert (await call(gate, known[0])).status == 200


@pytest.mark.parametrize("trouble", ["down", "never"])
async def test_unknown_keys_are_503_until_the_provider_is_back(
    provider: Operated, trouble: Trouble
) -> None:
    """A token that a new key signed is neither refused nor let in; it passes once that is known."""
    async with aclosing(gate_of(provider)) as gate:
        assert (await call(gate, new_token(provider))).status == 200
        provider.rotate()
        unknown, asked = new_token(provider), provider.asked()
        provider.answer_for_keys(trouble)
        looking_up = asyncio.create_task(call(gate, unknown))
        await until_asked(provider, asked + 1)
        if trouble == "never":
            provider.answer_for_keys("down")

        assert_unavailable(await looking_up)
        assert_unavailable(await call(gate, unknown))
        provider.answer_for_keys("well")
        assert (await once_it_is_not(gate, unknown, 503)).status == 200


@pytest.mark.parametrize("trouble", ["down", "never"])
async def test_cold_start_says_what_is_missing(provider: Operated, trouble: Trouble) -> None:
    """A gate that never saw a key: not ready, 503 for good tokens, and all well by itself later."""
    token, asked = new_token(provider), provider.asked()
    provider.answer_for_keys(trouble)
    async with aclosing(gate_of(provider)) as gate:
        ready = await ask(gate, "/readyz")
        assert (ready.status, ready.json()) == (503, {"ready": False, "missing": ["identity"]})
        calling = asyncio.create_task(call(gate, token))
        await until_asked(provider, asked + 1)
        if trouble == "never":
            provider.answer_for_keys("down")

        assert_unavailable(await calling)
        assert (await ask(gate, "/readyz")).status == 503
        provider.answer_for_keys("well")
        assert (await once_it_is_not(gate, token, 503)).status == 200
        assert (await ask(gate, "/readyz")).json() == {"ready": True, "missing": []}


async def test_cold_start_waits_for_a_slow_provider(provider: Operated) -> None:
    """The first callers wait for the one fetch that they share, and pass."""
    tokens, asked = [new_token(provider) for _ in range(5)], provider.asked()
    provider.answer_for_keys("slow")
    async with aclosing(gate_of(provider)) as gate:
        answers = await asyncio.gather(*(call(gate, token) for token in tokens))

    assert [answer.status for answer in answers] == [200] * len(tokens)
    assert provider.asked() == asked + 1


async def test_a_hanging_provider_does_not_hold_callers_for_long(provider: Operated) -> None:
    """Nobody hangs up: the gate gives up by itself, in seconds, and says 503."""
    token = new_token(provider)
    provider.answer_for_keys("never")
    async with aclosing(gate_of(provider)) as gate:
        begun = time.monotonic()
        assert_unavailable(await call(gate, token))
        assert time.monotonic() - begun < PATIENCE


async def once_it_is_not(gate: XunaGate, token: str, status: int) -> Answer:
    """Call again until the answer is another."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await call(gate, token)).status == status:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)
    return answer
