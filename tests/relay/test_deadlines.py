"""When a conversation has to end by itself. Hours pass in no time here."""

import asyncio
from collections.abc import Callable

from support.doubles import in_fast_time, seconds

from xuna_middleware.relay.close_codes import (
    CLIENT_STALLED,
    IDLE_TIMEOUT,
    MAX_DURATION,
    TOKEN_EXPIRED,
    CloseReason,
)
from xuna_middleware.relay.deadlines import Deadlines


def first_end(
    set_up: Callable[[Deadlines], object], clock: Callable[[], float] = seconds
) -> tuple[CloseReason, float]:
    """Return which end comes first, and after how many seconds."""

    async def story() -> tuple[CloseReason, float]:
        ended: asyncio.Future[CloseReason] = asyncio.get_running_loop().create_future()

        def end(ending: CloseReason) -> None:
            if not ended.done():
                ended.set_result(ending)

        deadlines = Deadlines(end, clock=clock)
        set_up(deadlines)
        ending = await ended
        deadlines.cancel()
        return ending, round(seconds(), 3)

    return in_fast_time(story())


def test_longest_time() -> None:
    """It ends then, and not before."""
    assert first_end(lambda due: due.last_at_most(180)) == (MAX_DURATION, 180)


def test_end_of_the_token_without_leeway() -> None:
    """At `exp` to the second, hours from now too."""
    assert first_end(lambda due: due.expire_at(12_345.5)) == (TOKEN_EXPIRED, 12_345.5)


def test_token_that_has_ended() -> None:
    """At once."""
    assert first_end(lambda due: due.expire_at(0)) == (TOKEN_EXPIRED, 0)
    assert first_end(lambda due: due.expire_at(-29)) == (TOKEN_EXPIRED, 0)


def test_clock_that_is_set_meanwhile() -> None:
    """The system's clock decides, and it is looked at every five seconds."""
    jumped = 5_000.0

    def clock() -> float:
        return seconds() + (jumped if seconds() >= 100 else 0)

    assert first_end(lambda due: due.expire_at(5_200), clock) == (TOKEN_EXPIRED, 200)


def test_a_fresh_token_counts_instead() -> None:
    """For longer, or for less; without an end it is never."""

    def renewed(due: Deadlines) -> None:
        due.expire_at(10)
        due.expire_at(70)

    def shortened(due: Deadlines) -> None:
        due.expire_at(70)
        due.expire_at(10)

    def endless(due: Deadlines) -> None:
        due.expire_at(10)
        due.expire_at(None)
        due.last_at_most(1_000)

    assert first_end(renewed) == (TOKEN_EXPIRED, 70)
    assert first_end(shortened) == (TOKEN_EXPIRED, 10)
    assert first_end(endless) == (MAX_DURATION, 1_000)


def test_silence() -> None:
    """Counted from when something was heard last."""

    def talks_until_40(due: Deadlines) -> None:
        due.be_heard(60, lambda: min(seconds(), 40.0))

    assert first_end(talks_until_40) == (IDLE_TIMEOUT, 100)


def test_looks() -> None:
    """Again and again, until one says so."""

    def third(due: Deadlines) -> None:
        due.look_every(15, lambda: CLIENT_STALLED if seconds() >= 45 else None)

    assert first_end(third) == (CLIENT_STALLED, 45)


def test_the_soonest_is_the_one_that_counts() -> None:
    """Whichever that is."""

    def all_of_them(due: Deadlines) -> None:
        due.last_at_most(50)
        due.expire_at(40)
        due.be_heard(30, lambda: 0.0)

    assert first_end(all_of_them) == (IDLE_TIMEOUT, 30)


def test_cancelled_deadlines_end_nothing() -> None:
    """One by its name, or all of them; none is left on the loop."""

    def one_is_left(due: Deadlines) -> None:
        due.last_at_most(50)
        due.expire_at(40)
        due.cancel("exp")
        due.cancel("exp", "never set")

    def none_but_the_last(due: Deadlines) -> None:
        due.expire_at(40)
        due.be_heard(30, lambda: 0.0)
        due.cancel()
        due.last_at_most(50)

    assert first_end(one_is_left) == (MAX_DURATION, 50)
    assert first_end(none_but_the_last) == (MAX_DURATION, 50)
