"""Measure contenders side by side: one batch of each in every round, in turn.

CPU time of this process (`time.process_time_ns`) is read around a loop of plain calls; there is no
server and no socket. Scopes are made while the clock stands still. What the machine does meanwhile
hits all contenders alike: ratios and differences are taken within a round, and the median of the
rounds is what is reported.
"""

import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, TypeAlias

from starlette.types import ASGIApp, Message, Scope

#: Takes a round's fresh tokens, returns CPU nanoseconds a call.
Batch: TypeAlias = Callable[[Sequence[str]], Awaitable[float]]

#: Calls a batch for rows that need no fresh token: enough for milliseconds on the clock.
REPEATS: Final = 1000
#: Scopes that are made at a time; the clock stands still meanwhile.
CHUNK: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Name something to measure.

    Attributes:
        contains: what one call does, in words.
        batch: measures one batch.
        over: the name of the row that is subtracted to get what this one adds; None for no row.
        app: where it refuses bad tokens, so that this can be shown before it is measured.
    """

    name: str
    contains: str
    batch: Batch
    over: str | None = None
    app: ASGIApp | None = None


@dataclass(frozen=True, slots=True)
class Rounds:
    """Hold nanoseconds a call: `samples[name][round]`."""

    samples: dict[str, list[float]]

    def cost(self, name: str) -> float:
        return median(self.samples[name])

    def added(self, name: str, over: str) -> float:
        pairs = zip(self.samples[name], self.samples[over], strict=True)
        return median(mine - base for mine, base in pairs)

    def whole_ratio(self, name: str, to: str) -> float:
        """Return the median of name / to, round by round."""
        pairs = zip(self.samples[name], self.samples[to], strict=True)
        return median(mine / one for mine, one in pairs)

    def added_ratio(self, name: str, over: str, to: str, to_over: str | None = None) -> float:
        """Return the median of (name - over) / (to - to_over), round by round."""
        unit = self.samples[to]
        if to_over is not None:
            unit = [a - b for a, b in zip(unit, self.samples[to_over], strict=True)]
        rows = zip(self.samples[name], self.samples[over], unit, strict=True)
        return median((mine - base) / one for mine, base, one in rows)


async def measure(
    contenders: Sequence[Contender],
    mint: Callable[[int], list[str]],
    *,
    rounds: int,
    fresh: int,
    before: int,
) -> Rounds:
    """Run every contender once a round, in a new random order, on the round's own tokens.

    First each is given `before` other tokens, so that what it remembers has reached its bound: what
    is measured is a process that has run for a while.
    """
    await _run_in(contenders, mint(before))
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    order = list(contenders)
    shuffle = random.Random(0).shuffle
    gc.freeze()  # what was imported and set up is not walked again by every collection
    for _ in range(rounds):
        tokens = mint(fresh + 1)
        shuffle(order)
        for contender in order:
            gc.collect()
            samples[contender.name].append(await contender.batch(tokens))
    return Rounds(samples)


async def _run_in(contenders: Sequence[Contender], tokens: list[str]) -> None:
    for contender in contenders:
        await contender.batch(tokens)


def each_token(app: ASGIApp, path: str) -> Batch:
    """Measure one call for each fresh token; the first is sent before the clock starts."""
    return each_request(app, lambda token: scope(path, token))


def each_request(app: ASGIApp, request: Callable[[str], Scope]) -> Batch:
    """Measure one call for each fresh token, in a request made of it while the clock stands."""

    async def batch(tokens: Sequence[str]) -> float:
        return await _timed(app, request, tokens)

    return batch


def same_token(app: ASGIApp, path: str, token: str) -> Batch:
    """Measure many calls with one token that the app has seen before."""

    async def batch(_: Sequence[str]) -> float:
        return await _timed(app, lambda each: scope(path, each), [token] * (REPEATS + 1))

    return batch


def plain(call: Callable[[Any], Any], prepare: Callable[[str], Any]) -> Batch:
    """Measure a function that is no app: one call for each fresh token, prepared beforehand."""

    async def batch(tokens: Sequence[str]) -> float:
        call(prepare(tokens[0]))
        spent = 0
        for chunk in _chunks(tokens[1:]):
            prepared = [prepare(token) for token in chunk]
            started = time.process_time_ns()
            for argument in prepared:
                call(argument)
            spent += time.process_time_ns() - started
        return spent / len(tokens[1:])

    return batch


async def _timed(app: ASGIApp, request: Callable[[str], Scope], tokens: Sequence[str]) -> float:
    await app(request(tokens[0]), receive, send)
    spent = 0
    for chunk in _chunks(tokens[1:]):
        scopes = [request(token) for token in chunk]
        started = time.process_time_ns()
        for each in scopes:
            await app(each, receive, send)
        spent += time.process_time_ns() - started
    return spent / len(tokens[1:])


def _chunks(tokens: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a batch, so that a scope is still in the processor's cache when it is used, as it is
    in a server that has just read it."""
    return (tokens[start : start + CHUNK] for start in range(0, len(tokens), CHUNK))


async def status(app: ASGIApp, path: str, token: str) -> int:
    """Return what the app answers to a request with this token."""
    seen: list[int] = []

    async def note(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.append(message["status"])

    await app(scope(path, token), receive, note)
    (only,) = seen
    return only


async def receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    pass


def scope(path: str, token: str, *, client: tuple[str, int] = ("127.0.0.1", 50000)) -> Scope:
    """Return the HTTP scope of a browser's `fetch()`, as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": client,
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"host", b"app.example"),
            (b"connection", b"keep-alive"),
            (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140"),
            (b"accept", b"*/*"),
            (b"sec-fetch-site", b"same-origin"),
            (b"sec-fetch-mode", b"cors"),
            (b"referer", b"https://app.example/"),
            (b"accept-encoding", b"gzip, deflate, br"),
            (b"accept-language", b"en"),
            (b"authorization", b"Bearer " + token.encode()),
        ],
        "state": {},
    }
