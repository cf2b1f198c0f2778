"""Questions that are shared and bounded, in any number of event loops."""

import asyncio
import gc
import warnings
from typing import Any

import pytest

from xuna_middleware._core.single_flight import SingleFlight
from xuna_middleware.errors import UnavailableError


async def _never() -> str:
    await asyncio.Event().wait()
    return ""


def test_each_event_loop_asks_by_itself() -> None:
    """A loop that was closed in the middle of a question leaves nothing behind."""
    questions = SingleFlight[str, str]("things", max_concurrent=1)

    async def abandoned() -> None:
        asked = asyncio.ensure_future(questions.ask("a", _never))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not asked.done()

    async def answered() -> str:
        async def answer() -> str:
            return "yes"

        return await questions.ask("a", answer)

    asyncio.run(abandoned())
    assert [asyncio.run(answered()) for _ in range(3)] == ["yes"] * 3
    assert len(questions._turns) == 1


async def test_what_was_abandoned_in_a_dead_loop_takes_no_place() -> None:
    """Its place is free again as soon as a new loop asks."""
    questions = SingleFlight[str, str]("things", max_concurrent=1)
    dead = asyncio.new_event_loop()
    questions._turns[dead] = asyncio.Semaphore(1)
    questions._tasks[dead, "a"] = asyncio.current_task()  # type: ignore[assignment]
    dead.close()

    async def answer() -> str:
        return "yes"

    assert await questions.ask("b", answer) == "yes"


async def test_stop_ends_this_loops_questions_only() -> None:
    """Another loop's go on."""
    questions = SingleFlight[str, str]("things", max_concurrent=2)
    other = asyncio.new_event_loop()

    elsewhere = other.create_task(_never())
    questions._tasks[other, "b"] = elsewhere
    mine = asyncio.ensure_future(questions.ask("a", _never))
    await asyncio.sleep(0)
    questions.stop()
    with pytest.raises(UnavailableError):
        await mine
    assert not elsewhere.cancelling()
    elsewhere.cancel()
    other.call_soon(other.stop)
    await asyncio.to_thread(other.run_forever)
    other.close()


def test_places_of_loops_that_were_closed() -> None:
    """An event loop that is closed with questions under way takes no place from the next one."""
    questions = SingleFlight[Any, str](
        "test", max_concurrent=2, max_queued=2, of_one=2, of_one_waiting=2
    )

    async def ask(seconds: float) -> list[Any]:
        async def question() -> str:
            await asyncio.sleep(seconds)
            return "ok"

        asked = [questions.alone(question, "one") for _ in range(4)]
        return await asyncio.gather(*asked, return_exceptions=True)

    for _ in range(3):
        loop = asyncio.new_event_loop()
        task = loop.create_task(ask(3600))
        loop.run_until_complete(asyncio.sleep(0.001))
        del task
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.close()
            del loop
            gc.collect()
    assert asyncio.run(ask(0)) == ["ok"] * 4
