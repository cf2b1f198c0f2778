"""Walk the demo without a person or a browser: one line a step, and a last one that sums up."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

from xuna_middleware.demo.stage import Stage
from xuna_middleware.demo.steps import STEPS
from xuna_middleware.demo.visitor import Visitor
from xuna_middleware.demo.walk import Step, Walk

_PATIENCE = 30.0


async def run(stage: Stage, tell: Callable[[str], None] = print) -> bool:
    """Walk every step on this stage, tell how each went, and return whether all went well."""
    visitor = Visitor(stage.url)
    began = perf_counter()
    with _overheard() as log:
        walk = Walk(stage=stage, visitor=visitor, log=log)
        failures = [title for title, step in STEPS if not await _take(walk, title, step, tell)]
        await visitor.aclose()
    seconds = perf_counter() - began
    done = f"{len(STEPS) - len(failures)} of {len(STEPS)} steps"
    tell(f"\n{'✗' if failures else '✓'} {done} in {seconds:.1f} s, all on this machine")
    return not failures


async def _take(walk: Walk, title: str, step: Step, tell: Callable[[str], None]) -> bool:
    began = perf_counter()
    wrong = await _wrong(walk, step)
    took = round((perf_counter() - began) * 1000)
    tell(f"{'✗' if wrong else '✓'} {took:5d} ms  {title}{f': {wrong}' if wrong else ''}")
    return not wrong


async def _wrong(walk: Walk, step: Step) -> str:
    """Return what is wrong, empty where nothing is. Foreign errors are named, never quoted."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await step(walk)
    except AssertionError as error:
        return str(error) or "it does not hold"
    except Exception as error:
        return f"it broke off with {type(error).__name__}"
    return ""


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Collect what is logged, warnings and worse, instead of letting it between the lines."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    root = logging.getLogger()
    before, root.handlers = root.handlers, [Listener(logging.WARNING)]
    try:
        yield lines
    finally:
        root.handlers = before
