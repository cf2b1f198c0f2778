"""Print what was measured, beside what it should be, as Markdown tables."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness import Contender, Rounds
from benchmarks.identity import PROVED, RAW_EC, UNKNOWN
from benchmarks.imports import LITERALLY, PACKAGE, PARTS, Import
from benchmarks.memory import TOKENS, Growth
from benchmarks.ours import COLD, PASS_THROUGH, REMEMBERED
from benchmarks.peers import CONSTANT, NO_OP, RAW, STARLETTE_PYJWT
from benchmarks.relay import BARE, DIRECT, RULED, UNRULED, Carried, Crowd
from benchmarks.reservations import RESERVED, RESERVED_ONE, InRedis

if TYPE_CHECKING:
    from benchmarks.readers import Reading

LIBRARIES: Final = (
    "starlette",
    "fastapi",
    "mcp",
    "PyJWT",
    "joserfc",
    "cryptography",
    "httpx",
    "httpx-aiohttp",
    "uvicorn",
    "websockets",
)


def machine() -> str:
    """Name the machine and what is installed: figures say nothing without it."""
    installed = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{python} on {platform.system()} {platform.machine()}, {_processor()}; {installed}"


def cpu(contenders: Sequence[Contender], rounds: Rounds) -> str:
    """Return the table of CPU per call."""
    rows = [_cpu_row(contender, rounds) for contender in contenders]
    head = ("in process, CPU a call", "µs", "adds µs", "× raw", "should be", "what it contains")
    return table(head, rows)


def _cpu_row(contender: Contender, rounds: Rounds) -> tuple[str, ...]:
    name, over = contender.name, contender.over
    cost = f"{rounds.cost(name) / 1000:.2f}"
    if name in (RESERVED, RESERVED_ONE):
        ratio = rounds.whole_ratio(name, RAW)
        told = f"≤ 0.5 × raw: {verdict(ratio, 0.5)}"
        return name, cost, cost, f"{ratio:.3f}", told, contender.contains
    if over is None:
        return name, cost, "", "", "", contender.contains
    added = f"{rounds.added(name, over) / 1000:.2f}"
    ratio = f"{rounds.added_ratio(name, over, RAW):.3f}"
    contains = contender.contains if over == NO_OP else f"{contender.contains}; less: {over}"
    return name, cost, added, ratio, _cpu_targets(name, rounds), contains


def _cpu_targets(name: str, rounds: Rounds) -> str:
    """Judge a row by its targets: (limit, unit, what is subtracted from the unit, its name)."""
    wanted: Mapping[str, tuple[tuple[float, str, str | None, str], ...]] = {
        PASS_THROUGH: ((0.06, RAW, None, "raw"), (1, CONSTANT, NO_OP, "constant backend")),
        REMEMBERED: ((0.25, RAW, None, "raw"),),
        UNKNOWN: ((0.5, RAW, None, "raw"),),
        COLD: ((2.3, RAW, None, "raw"), (0.5, STARLETTE_PYJWT, NO_OP, "Starlette + PyJWT")),
    }
    if name == PROVED:
        both = rounds.cost(RAW) + rounds.cost(RAW_EC)
        return f"≤ 2.5 × both raw: {verdict(rounds.added(name, NO_OP) / both, 2.5)}"
    return "; ".join(
        f"≤ {limit:g} × {unit}: {verdict(rounds.added_ratio(name, NO_OP, to, less), limit)}"
        for limit, to, less, unit in wanted.get(name, ())
    )


def waiting(longest: float, asked: int, callers: int) -> str:
    """Return the table of callers with known keys while the provider hangs."""
    head = ("while a fetch hangs", "longest answer ms", "fetches", "should be")
    row = (
        f"{callers:,} callers with a known key, 50 waiting for an unknown one",
        f"{longest * 1000:.1f}",
        str(asked),
        f"none waits for it (5 s), ≤ 250 ms: {verdict(longest * 1000, 250)}",
    )
    return table(head, [row])


def in_redis(seen: InRedis) -> str:
    """Return the table of reservations in Redis."""
    head = ("in Redis, one after another on one connection", "µs", "× bare", "should be")
    rows = [
        ("a bare EVALSHA (return 1)", f"{seen.bare:.0f}", "1", ""),
        (
            "a reservation of three limits, two principals",
            f"{seen.reserved:.0f}",
            f"{seen.ratio:.2f}",
            f"≤ 2: {verdict(seen.ratio, 2)}; one round trip",
        ),
    ]
    return table(head, rows)


def relayed(seen: Carried) -> str:
    """Return the tables of the relay: ways to the platform, and crowds."""
    return f"{_ways(seen)}\n\n{_crowds(seen)}"


def _ways(seen: Carried) -> str:
    head = (
        "a conversation's frames",
        "CPU µs a frame",
        "× bare",
        "round trip p50 µs",
        "adds µs",
        "× bare adds",
        "should be",
    )
    return table(head, [_way_row(name, seen) for name in seen.latency.samples])


def _way_row(name: str, seen: Carried) -> tuple[str, ...]:
    trip = f"{seen.latency.cost(name) / 1000:.0f}"
    if name == DIRECT:
        return name, "", "", trip, "", "", ""
    spent = f"{seen.cpu.cost(name) / 1000:.1f}"
    ratio = seen.cpu.whole_ratio(name, BARE)
    added = f"{seen.latency.added(name, DIRECT) / 1000:.0f}"
    slower = seen.latency.added_ratio(name, DIRECT, BARE, DIRECT)
    most = {UNRULED: 1.1, RULED: 1.6}.get(name)
    told = (
        ""
        if most is None
        else f"≤ {most:g} × CPU: {verdict(ratio, most)}; ≤ 1.3 × adds: {verdict(slower, 1.3)}"
    )
    return name, spent, f"{ratio:.2f}", trip, added, f"{slower:.2f}", told


def _crowds(seen: Carried) -> str:
    head = (
        "open conversations",
        "KiB each",
        "having talked",
        "idle, µs a second each",
        "CPU µs a frame",
        "should be",
    )
    rows = [
        (
            crowd.name,
            f"{crowd.fresh:.1f}",
            f"{crowd.talked:.1f}",
            f"{crowd.idle:.0f}",
            f"{seen.crowded.cost(crowd.name) / 1000:.1f}",
            _crowd_target(crowd, seen),
        )
        for crowd in seen.crowds
    ]
    return table(head, rows)


def _crowd_target(crowd: Crowd, seen: Carried) -> str:
    """Judge the largest crowd of the gate's: memory, and what a frame costs beside the smallest."""
    fewest, *_, most = (one.name for one in seen.crowds if one.name.startswith(RULED))
    if crowd.name != most:
        return ""
    flat = seen.crowded.whole_ratio(most, fewest)
    few_bare, many_bare = (one.name for one in seen.crowds if one.name.startswith(BARE))
    bare = seen.crowded.whole_ratio(many_bare, few_bare)
    return (
        f"≤ 60 KiB: {verdict(crowd.fresh, 60)}; flat, ≤ 1.1 × {fewest}: {verdict(flat, 1.1)} "
        f"(the bare proxy: {bare:.3g})"
    )


def reading(unit: float, seen: Sequence["Reading"]) -> str:
    """Return the table of what each reader's worst input costs; `unit` is of a raw verification."""
    head = ("reader", "takes at most", "worst input found", "CPU ms", "× raw", "should be")
    return table(head, [_reading_row(unit, each) for each in seen])


def _reading_row(unit: float, seen: "Reading") -> tuple[str, ...]:
    milliseconds = seen.cpu * 1000
    told = f"≤ 5 ms: {verdict(milliseconds, 5)}"
    if seen.held is not None:
        most, honest = (each * 1000 for each in seen.held)
        told = (
            f"in a worker thread; an honest one holds the event loop ≤ 10 ms: {verdict(honest, 10)}"
            f", the worst {most:.3g}"
        )
    cost = f"{milliseconds:.2f}", f"{seen.cpu / unit:.0f}"
    return seen.reader.name, seen.reader.takes, seen.worst, *cost, told


def importing(seen: Mapping[str, Import]) -> str:
    """Return the table of imports."""
    head = ("import, fresh process", "CPU ms", "peak MiB", "modules", "should be")
    rows = [
        (name, f"{one.cpu:.0f}", f"{one.peak:.1f}", str(one.modules), _import_targets(name, seen))
        for name, one in seen.items()
    ]
    return table(head, rows)


def _import_targets(name: str, seen: Mapping[str, Import]) -> str:
    if name != PACKAGE:
        return ""
    mine = seen[name]
    return "; ".join(
        (
            f"≤ 45 MiB: {verdict(mine.peak, 45)}",
            f"≤ 1.5 × CPU of the modules it stands on: {verdict(mine.cpu / seen[PARTS].cpu, 1.5)}",
            f"≤ 1.5 × of the three names: {verdict(mine.cpu / seen[LITERALLY].cpu, 1.5)}",
        )
    )


def memory(seen: Growth) -> str:
    """Return the table of memory."""
    grown = seen.after - seen.before
    answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(seen.answers.items()))
    head = ("memory", "before MiB", "after MiB", "grown MiB", "should be", "answers; CPU each")
    row = (
        f"{TOKENS:,} distinct bad tokens",
        f"{seen.before:.1f}",
        f"{seen.after:.1f}",
        f"{grown:.1f}",
        f"< 10 MiB: {verdict(grown, 10)}",
        f"{answers}; {seen.refusal:.0f} µs",
    )
    return table(head, [row])


def verdict(figure: float, limit: float) -> str:
    """Say met or missed, with the figure."""
    return f"{figure:.3g}, {'met' if figure <= limit else 'MISSED'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an aligned Markdown table; the first and wordy columns to the left."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *rest = (" | ".join(map(str.ljust, line, widths)) for line in lines)
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {line} |" for line in (first, rule, *rest))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")
