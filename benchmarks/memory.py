"""Measure how memory grows under 100,000 distinct bad tokens: `python -m benchmarks.memory`.

It runs in a process of its own: resident memory after a warm-up of 6,000 bad tokens, and again
after the rest, garbage collected both times. Every token, every subject and every client address
is a new one.
"""

import asyncio
import base64
import gc
import json
import logging
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from starlette.types import ASGIApp, Message

from benchmarks.harness import receive, scope
from benchmarks.tokens import ISSUER, KEY_ID, TYPE, Mint, claims

ROOT: Final = Path(__file__).resolve().parent.parent
WARM_UP: Final = 6_000
TOKENS: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Hold MiB before and after, CPU microseconds a refusal, and how each token was answered."""

    before: float
    after: float
    refusal: float
    answers: dict[str, int]


def growth() -> Growth:
    """Measure in a fresh process."""
    child = [sys.executable, "-m", "benchmarks.memory"]
    run = subprocess.run(child, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Growth(**json.loads(run.stdout))


async def flooded(app: ASGIApp) -> Growth:
    """Send the bad tokens and read resident memory around them."""
    answers: Counter[str] = Counter()

    async def count(message: Message) -> None:
        if message["type"] == "http.response.start":
            answers[str(message["status"])] += 1

    async def flood(numbers: range) -> None:
        for number, token in zip(numbers, bad_tokens(numbers), strict=True):
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            await app(scope("/api/me", token, client=(address, 40000)), receive, count)

    await flood(range(WARM_UP))
    before, started = _resident(), time.process_time()
    answers.clear()
    await flood(range(WARM_UP, WARM_UP + TOKENS))
    spent = time.process_time() - started
    after = _resident()
    return Growth(before=before, after=after, refusal=spent / TOKENS * 1e6, answers=dict(answers))


def bad_tokens(numbers: range) -> Iterator[str]:
    """Make each of the kinds in turn; no two tokens are alike."""
    draw = random.Random(numbers.start)
    for number in numbers:
        yield KINDS[number % len(KINDS)](number, draw)


def _forged(number: int, draw: random.Random) -> str:
    return _token({"alg": "RS256", "kid": KEY_ID, "typ": TYPE}, claims(number), draw)


def _unknown_kid(number: int, draw: random.Random) -> str:
    return _token({"alg": "RS256", "kid": f"key-{number}", "typ": TYPE}, claims(number), draw)


def _other_issuer(number: int, draw: random.Random) -> str:
    stranger = {**claims(number), "iss": f"{ISSUER}/{number}"}
    return _token({"alg": "RS256", "kid": KEY_ID, "typ": TYPE}, stranger, draw)


def _unsigned(number: int, draw: random.Random) -> str:
    return _token({"alg": "none", "typ": TYPE}, claims(number), draw)


def _long(number: int, draw: random.Random) -> str:
    padded = {**claims(number), "padding": draw.randbytes(4500).hex()}
    return _token({"alg": "RS256", "kid": KEY_ID, "typ": TYPE}, padded, draw)


def _garbage(number: int, draw: random.Random) -> str:
    return f"{number}{draw.randbytes(200).hex()}"


KINDS: Final[tuple[Callable[[int, random.Random], str], ...]] = (
    _forged,
    _unknown_kid,
    _other_issuer,
    _unsigned,
    _long,
    _garbage,
)


def _token(header: dict[str, Any], payload: Any, draw: random.Random) -> str:
    parts = json.dumps(header).encode(), json.dumps(payload).encode(), draw.randbytes(256)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _resident() -> float:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main() -> None:
    from benchmarks.ours import wrapped

    logging.getLogger("xuna_middleware").addHandler(logging.NullHandler())
    print(json.dumps(asdict(asyncio.run(flooded(wrapped(Mint()))))))


if __name__ == "__main__":
    main()
