"""What a relayed conversation costs beside other ways to the platform; `-m benchmarks.relay`.

Each proxy is a process of its own, its CPU read from the system around a batch of frames. All are
open at once and take turns in a random order in every round; ratios are of one round, medians of
all.
"""

import asyncio
import math
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final

from websockets.asyncio.client import ClientConnection

from benchmarks.conversations import CYCLE, exchange, opened, talk
from benchmarks.gates import running_gate
from benchmarks.harness import Rounds
from benchmarks.platform import CONVERSATION
from benchmarks.servers import cpu, free_port, resident, serving
from benchmarks.tokens import Mint

DIRECT: Final = "direct to the platform"
NGINX: Final = "nginx"
BARE: Final = "a bare websockets proxy of 20 lines"
UNRULED: Final = "the gate, no rule for frames"
RULED: Final = "the gate, all rules"

ROUNDS: Final = 32
#: Conversations that are open and talk at once, and exchanges of each in a batch.
AT_ONCE: Final = 10
EXCHANGES: Final = 3 * CYCLE
#: Exchanges one after another, for their latency.
LATENCIES: Final = 6 * CYCLE
OPEN: Final = (10, 100, 1_000)
CROWD_ROUNDS: Final = 9
#: How many of a crowd talk in a batch at most; smaller crowds talk longer.
SPOKEN: Final = 70

_NGINX: Final = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {scratch}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://{upstream};
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection upgrade;
      proxy_read_timeout 1h;
    }}
  }}
}}
"""
_SCRATCH: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalizationMode:
    """Name a way to the platform: where conversations are opened, and which process carries them.

    `process` is None where nobody stands between.
    """

    name: str
    url: str
    process: int | None = None

    @property
    def carrier(self) -> int:
        """Return the process, where there is one."""
        assert self.process is not None, "nobody stands between"
        return self.process


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Say what one of many open conversations costs.

    Attributes:
        fresh, talked: KiB of resident memory each, of the whole growth since there were none; just
            opened, and after half a second of audio each way.
        idle: CPU microseconds a second, each, while nothing is said.
    """

    name: str
    fresh: float
    talked: float
    idle: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """Hold what was measured: CPU a frame and latency by name of the way, and crowds.

    `crowded` is CPU a frame that passes through one of a crowd, by the crowd's name, less what all
    of it costs idle meanwhile.
    """

    cpu: Rounds
    latency: Rounds
    crowds: tuple[Crowd, ...]
    crowded: Rounds


def carried() -> Carried:
    """Measure everything."""
    mint = Mint()
    with running_platform() as platform:
        cpu_rounds, latency = asyncio.run(_side_by_side(platform, mint))
        crowds, crowded = asyncio.run(_crowds(platform, mint))
    return Carried(cpu=cpu_rounds, latency=latency, crowds=crowds, crowded=crowded)


@contextmanager
def running_platform() -> Iterator[str]:
    """Run the platform for measurements; yields its host and port."""
    port = free_port()
    with serving([sys.executable, "-m", "benchmarks.platform", f"{port}"], port):
        yield f"127.0.0.1:{port}"


async def _side_by_side(platform: str, mint: Mint) -> tuple[Rounds, Rounds]:
    with ExitStack() as servers:
        ways = _ways(servers, platform, mint)
        async with AsyncExitStack() as stack:
            sockets = {
                way.name: await opened(stack, way.url, headers(mint, AT_ONCE)) for way in ways
            }
            proxies = [way for way in ways if way.process is not None]
            return (
                await _rounds(proxies, lambda way: _frame_cost(way, sockets[way.name])),
                await _rounds(ways, lambda way: _latency(sockets[way.name][0])),
            )


def _ways(servers: ExitStack, platform: str, mint: Mint) -> list[PersonalizationMode]:
    ways = [PersonalizationMode(name=DIRECT, url=f"ws://{platform}{CONVERSATION}")]
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is not None:
        ways.append(servers.enter_context(_running_nginx(nginx, platform)))
    ways.append(servers.enter_context(_running_bare(platform)))
    for name, factory in ((UNRULED, "unruled"), (RULED, "ruled")):
        ways.append(servers.enter_context(_running_gate(name, factory, platform, mint)))
    return ways


@contextmanager
def _running_gate(
    name: str, factory: str, platform: str, mint: Mint
) -> Iterator[PersonalizationMode]:
    app = f"benchmarks.gates:{factory}"
    with running_gate(app, f"http://{platform}", mint) as (process, url):
        yield PersonalizationMode(name=name, url=url, process=process)


@contextmanager
def _running_bare(platform: str) -> Iterator[PersonalizationMode]:
    port = free_port()
    upstream = f"ws://{platform}{CONVERSATION}"
    command = [sys.executable, "-m", "benchmarks.bare_proxy", f"{port}", upstream]
    with serving(command, port) as process:
        yield PersonalizationMode(name=BARE, url=f"ws://127.0.0.1:{port}", process=process)


@contextmanager
def _running_nginx(command: str, platform: str) -> Iterator[PersonalizationMode]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        scratch = "\n  ".join(f"{name}_temp_path {folder}/{name};" for name in _SCRATCH)
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(
            _NGINX.format(folder=folder, scratch=scratch, port=port, upstream=platform)
        )
        started = [command, "-c", f"{configuration}", "-p", folder, "-e", f"{folder}/early"]
        with serving(started, port) as process:
            url = f"ws://127.0.0.1:{port}{CONVERSATION}"
            yield PersonalizationMode(name=NGINX, url=url, process=process)


def headers(mint: Mint, count: int, first: int = 0) -> Iterator[dict[str, str]]:
    """Return headers that show a token, each of somebody else."""
    for token in mint.tokens(count, first=first):
        yield {"Authorization": f"Bearer {token}"}


async def _rounds(
    ways: Sequence[PersonalizationMode],
    batch: Callable[[PersonalizationMode], Awaitable[float]],
    rounds: int = ROUNDS,
) -> Rounds:
    """Run a batch of each way once a round, in a new random order; the first round is a warm-up."""
    samples: dict[str, list[float]] = {way.name: [] for way in ways}
    order = list(ways)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds + 1):
        shuffle(order)
        for way in order:
            samples[way.name].append(await batch(way))
    return Rounds({name: seen[1:] for name, seen in samples.items()})


async def _frame_cost(way: PersonalizationMode, sockets: Sequence[ClientConnection]) -> float:
    """Return CPU nanoseconds of the carrying process for each frame."""
    before = cpu(way.carrier)
    passed = await talk(sockets, EXCHANGES, AT_ONCE)
    return (cpu(way.carrier) - before) / passed


async def _latency(socket: ClientConnection) -> float:
    """Return the median of nanoseconds between a frame of audio and its answer."""
    seen = []
    for number in range(LATENCIES):
        started = time.perf_counter_ns()
        await exchange(socket, number)
        seen.append(time.perf_counter_ns() - started)
    return median(seen)


async def _crowds(platform: str, mint: Mint) -> tuple[tuple[Crowd, ...], Rounds]:
    """Open ten, a hundred and a thousand conversations, each crowd through a process of its own."""
    with ExitStack() as servers:
        ways: dict[PersonalizationMode, int] = {}
        for count in OPEN:
            name = f"{RULED}: {count:,}"
            ways[servers.enter_context(_running_gate(name, "ruled", platform, mint))] = count
        for count in (OPEN[0], OPEN[-1]):
            bare = servers.enter_context(_running_bare(platform))
            ways[replace(bare, name=f"{BARE}: {count:,}")] = count
        async with AsyncExitStack() as stack:
            return await _measured(stack, ways, mint)


async def _measured(
    stack: AsyncExitStack, ways: Mapping[PersonalizationMode, int], mint: Mint
) -> tuple[tuple[Crowd, ...], Rounds]:
    fresh, talked = {}, {}
    sockets: dict[str, list[ClientConnection]] = {}
    for way, count in ways.items():
        await _warm_up(way, mint)
        empty = resident(way.carrier)
        sockets[way.name] = await opened(stack, way.url, headers(mint, count, first=AT_ONCE))
        fresh[way.name] = resident(way.carrier) - empty
        await talk(sockets[way.name], 2, AT_ONCE)
        talked[way.name] = resident(way.carrier) - empty
    idle = await _idle(tuple(ways))

    async def batch(way: PersonalizationMode) -> float:
        return await _crowd_cost(way, sockets[way.name], idle[way.name])

    crowds = tuple(
        Crowd(
            name=way.name,
            fresh=fresh[way.name] / count,
            talked=talked[way.name] / count,
            idle=idle[way.name] * 1_000_000 / count,
        )
        for way, count in ways.items()
    )
    return crowds, await _rounds(tuple(ways), batch, CROWD_ROUNDS)


async def _warm_up(way: PersonalizationMode, mint: Mint) -> None:
    """Have some conversations before: what is loaded at the first is nobody's."""
    async with AsyncExitStack() as stack:
        await talk(await opened(stack, way.url, headers(mint, AT_ONCE)), CYCLE, AT_ONCE)


async def _idle(ways: Sequence[PersonalizationMode], seconds: float = 20.0) -> dict[str, float]:
    """Return which part of a processor each process takes, over four heartbeats and one ping."""
    before = {way.name: cpu(way.carrier) for way in ways}
    started = time.perf_counter_ns()
    await asyncio.sleep(seconds)
    lasted = time.perf_counter_ns() - started
    return {way.name: (cpu(way.carrier) - before[way.name]) / lasted for way in ways}


async def _crowd_cost(
    way: PersonalizationMode, sockets: Sequence[ClientConnection], idle: float
) -> float:
    """Let about as many frames pass whatever the crowd, ten at once, through some or all of it."""
    speakers = random.sample(sockets, min(SPOKEN, len(sockets)))
    exchanges = math.ceil(SPOKEN / len(speakers)) * CYCLE
    before, started = cpu(way.carrier), time.perf_counter_ns()
    passed = await talk(speakers, exchanges, AT_ONCE)
    spent = cpu(way.carrier) - before - idle * (time.perf_counter_ns() - started)
    return spent / passed


if __name__ == "__main__":
    from benchmarks import report

    print(report.machine(), end="\n\n")
    print(report.relayed(carried()))
