"""When a running conversation's token is asked about again, and what counts as no answer."""

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from support.doubles import in_fast_time, seconds

from xuna_middleware.errors import UnavailableError
from xuna_middleware.relay.close_codes import (
    GOING_AWAY,
    REVOKED,
    CloseReason,
    ConversationClosedError,
    refused,
)
from xuna_middleware.relay.rechecks import Recheck


class Asked:
    """Note when one conversation's questions come, and how it ended; answer as a test says."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.times: list[float] = []
        self.endings: list[CloseReason] = []

    async def ask(self) -> None:
        self.times.append(seconds())
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer

    def recheck(self, **options: Any) -> Recheck:
        return Recheck(self.ask, lambda _: GOING_AWAY, self.endings.append, **options)


def test_within_each_interval() -> None:
    """No wait is longer than the interval, and none shorter than three quarters of it."""

    async def story() -> None:
        asked = Asked()
        recheck = asked.recheck()
        recheck.start(60)
        await asyncio.sleep(6_000)
        recheck.stop()
        waits = [
            later - sooner for sooner, later in zip([0.0, *asked.times], asked.times, strict=False)
        ]
        assert 45 <= min(waits) < 48
        assert 57 < max(waits) <= 60

    in_fast_time(story())


def test_a_thousand_at_once() -> None:
    """They began together, and ask one after another."""

    async def story() -> None:
        crowd = [Asked() for _ in range(1_000)]
        rechecks = [each.recheck() for each in crowd]
        for each in rechecks:
            each.start(60)
        await asyncio.sleep(60)
        for each in rechecks:
            each.stop()
        first = sorted(each.times[0] for each in crowd)
        assert first[0] >= 45
        assert max(b - a for a, b in zip(first, first[100:], strict=False)) < 5
        assert min(b - a for a, b in zip(first, first[300:], strict=False)) > 2

    in_fast_time(story())


@pytest.mark.parametrize("error", [UnavailableError(), RuntimeError("a fault of the gate's own")])
def test_no_answer_for_two_intervals(error: Exception) -> None:
    """Whatever kept the answer away; an answer begins the time anew, and so does a new start."""

    async def story() -> None:
        asked = Asked(*[error] * 5, None, *[error] * 5)
        recheck = asked.recheck()
        recheck.start(60)
        await asyncio.sleep(5 * 60)
        recheck.start(60)
        asked.answers = [*[error] * 5, None]
        await asyncio.sleep(3 * 60)
        assert asked.endings == []
        asked.answers = [error] * 100
        before = len(asked.times)
        await asyncio.sleep(5 * 60)
        assert asked.endings == [GOING_AWAY]
        times = asked.times[before:]
        assert 119.9 < times[-1] - times[0] < 120.1
        waits = [later - sooner for sooner, later in pairwise(times)]
        assert 1 <= waits[0] <= 6
        assert max(waits) <= 11
        assert len(times) < 30
        await asyncio.sleep(5 * 60)
        assert asked.times[before:] == times, "nothing is asked after the end"

    in_fast_time(story())


@pytest.mark.parametrize("interval", [0.5, 1.0, 4.0, 3600.0])
def test_three_questions_at_least(interval: float) -> None:
    """However short the interval is; and not more than one in some seconds, however long."""

    async def story() -> None:
        asked = Asked(*[RuntimeError("no answer")] * 10_000)
        asked.recheck().start(interval)
        await asyncio.sleep(4 * interval + 5)
        assert asked.endings == [GOING_AWAY]
        assert 3 <= len(asked.times) <= 8 + 2 * interval / 10

    in_fast_time(story())


@pytest.mark.parametrize("is_soon", [False, True])
def test_how_soon_the_first_comes(is_soon: bool) -> None:
    """Within a second, where nobody asked since the ticket was made."""

    async def story() -> None:
        asked = Asked(ConversationClosedError(REVOKED))
        asked.recheck().start(60, soon=is_soon)
        await asyncio.sleep(1)
        assert asked.endings == ([REVOKED] if is_soon else [])

    in_fast_time(story())


def test_never() -> None:
    """No interval, or an end of it: no timer and no task is left."""

    async def story() -> None:
        asked = Asked()
        recheck = asked.recheck()
        recheck.start(60)
        recheck.start(None)
        await asyncio.sleep(600)
        assert asked.times == []

    in_fast_time(story())


def test_stopped_while_it_asks() -> None:
    """What comes of the question is nothing any more."""

    async def story() -> None:
        asked, answered = Asked(), asyncio.Event()

        async def ask() -> None:
            await answered.wait()
            raise ConversationClosedError(REVOKED)

        recheck = Recheck(ask, refuse_all, asked.endings.append)
        recheck.start(60)
        await asyncio.sleep(61)
        recheck.stop()
        answered.set()
        await asyncio.sleep(600)
        assert asked.endings == []
        assert len(asyncio.all_tasks()) == 1

    in_fast_time(story())


refuse_all: Callable[[Exception], CloseReason] = lambda _: refused(UnavailableError())  # noqa: E731
