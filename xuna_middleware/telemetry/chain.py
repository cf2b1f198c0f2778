"""How the lines of an audit log are chained. Pure: no I/O.

A line is one JSON object in one spelling, the writer's own: its number, its content, the hash of
the line before it, and its own hash over all of that. It is correct if it is, to the octet, the
line that the writer would have written there.

A partial line left by a crash stays unchanged. The next line records its length and digest, so that
nothing else can hide there.
"""

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

_CHAINING: Final = frozenset({"n", "previous", "hash"})
#: Of one count in a line: nothing writes so many events in a minute.
_MOST: Final = 2**53


class End(NamedTuple):
    """Say where a chain ends: how many lines there are, and the hash of the last."""

    number: int
    last: str


START: Final = End(0, "0" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Say whether a log is whole: how many lines are, their last hash, and what is wrong next.

    `breaks` are the places where a crash cut off a line and the log says so itself: what stood in
    that line is lost, and nothing else. `left_out` counts the events that were not written because
    there were too many in a minute, by their name and code, of verified callers and others;
    `uncounted` are the places where the process ended before it wrote such a count. `dropped` are
    events that could not be written.
    """

    lines: int
    last: str
    problem: str | None = None
    breaks: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    uncounted: tuple[str, ...] = ()
    dropped: int = 0


def line_of(told: Mapping[str, Any], end: End, key: bytes | None) -> tuple[bytes, End]:
    """Return the line that tells this after a chain's end, and where the chain ends then."""
    line = {"n": end.number + 1, **told, "previous": end.last}
    octets = _spelled(line)
    hashed = hashlib.sha256(octets) if key is None else hmac.new(key, octets, "sha256")
    now = End(end.number + 1, hashed.hexdigest())
    return _spelled({**line, "hash": now.last}) + b"\n", now


def end_in(octets: bytes) -> tuple[End, bytes] | None:
    """Return where a chain ends, by its last whole line, and the octets after that line.

    The line is read, not verified. None if there is none.
    """
    whole = len(octets)
    for text in reversed(octets.splitlines(keepends=True)):
        line = _parsed(text)
        if line is not None:
            return End(line["n"], line["hash"]), octets[whole:]
        whole -= len(text)
    return None


def resumed(torn: bytes) -> Mapping[str, Any]:
    """Return the content of the line after a break."""
    return _break(len(torn), hashlib.sha256(torn).hexdigest())


def dropped(events: int) -> Mapping[str, Any]:
    """Return a line's content about events that could not be written."""
    return {"log": "dropped", "events": events}


def leaving_out(since: float) -> Mapping[str, Any]:
    """Return a line's content for when events start to be counted instead of written."""
    return {"log": "leaving_out", "since": since}


def left_out(
    since: float, until: float, unverified: Mapping[str, int], verified: Mapping[str, int]
) -> Mapping[str, Any]:
    """Return a line's content about events counted and not written, by name and code."""
    counts = {"unverified": dict(unverified), "verified": dict(verified)}
    return {"log": "left_out", "since": since, "until": until, **counts}


def follow(lines: Iterable[bytes], key: bytes | None) -> Verdict:
    """Follow a chain up to the first line that breaks it."""
    chain = _Chain(key)
    problem = None
    for at, octets in enumerate(lines, 1):
        problem = chain.read(at, octets)
        if problem:
            break
    problem = problem or chain.ended()
    number, last = chain.end
    return Verdict(
        lines=number,
        last=last,
        problem=problem,
        breaks=tuple(chain.breaks),
        left_out=dict(chain.notes.left_out),
        uncounted=tuple(chain.notes.uncounted()),
        dropped=chain.notes.dropped,
    )


class _Chain:
    """Follow a chain line by line. The next line must report any octets that are no line."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._torn = _Torn()
        self.end = START
        self.breaks: list[str] = []
        self.notes = _Notes()

    def read(self, at: int, octets: bytes) -> str | None:
        """Check the next line; return the problem, None if there is none so far."""
        line = _parsed(octets)
        if line is None:
            self._torn.add(at, octets)
            return None
        if not self._torn.is_told_by(line):
            return self._torn.problem(at)
        expected, end = line_of(_told(line), self.end, self._key)
        problem = _problem(line, self.end) or _unlike(octets, expected) or _misshapen(line)
        if problem:
            return f"line {at}: {problem}"
        if self._torn.octets:
            self.breaks.append(f"line {self._torn.at}: cut off by a crash, as line {at} tells")
        self.end, self._torn = end, _Torn()
        self.notes.read(at, line)
        return None

    def ended(self) -> str | None:
        """Return the problem at the end of the file."""
        if self._torn.octets:
            return self._torn.problem(self._torn.at)
        return None if self.end.number else "the log is empty"


class _Notes:
    """Collect a log's reports about events that are not in it."""

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self.dropped = 0
        self._began_at: int | None = None
        self._uncounted: list[str] = []

    def read(self, at: int, line: Mapping[str, Any]) -> None:
        what = line.get("log")
        if what == "leaving_out":
            self._uncounted = self.uncounted()
            self._began_at = at
        elif what == "left_out":
            self._began_at = None
            for who in ("unverified", "verified"):
                for kind, count in line[who].items():
                    self.left_out[f"{who}: {kind}"] += count
        elif what == "dropped":
            self.dropped += line["events"]

    def uncounted(self) -> list[str]:
        """Return where events began to be left out, and no line says how many were."""
        if self._began_at is None:
            return self._uncounted
        return [*self._uncounted, f"line {self._began_at}: no line says how many were left out"]


class _Torn:
    """Octets between two lines that are no line, as length and digest."""

    def __init__(self) -> None:
        self.at = 0
        self.octets = 0
        self._digest = hashlib.sha256()

    def add(self, at: int, octets: bytes) -> None:
        self.at = self.at or at
        self.octets += len(octets)
        self._digest.update(octets)

    def is_told_by(self, line: Mapping[str, Any]) -> bool:
        """Return whether the next line reports exactly this, including nothing."""
        if not self.octets:
            return line.get("log") != "resumed"
        return _told(line) == _break(self.octets, self._digest.hexdigest())

    def problem(self, at: int) -> str:
        if self.octets:
            return f"line {self.at}: not a whole line of JSON"
        return f"line {at}: tells of a break that is not there"


def _break(octets: int, digest: str) -> dict[str, Any]:
    return {"log": "resumed", "octets": octets, "digest": digest}


def _problem(line: Mapping[str, Any], end: End) -> str | None:
    if line.get("n") != end.number + 1:
        return f"has the number {line.get('n')!r:.20}, so lines are missing, added or swapped"
    if line.get("previous") != end.last:
        return "does not follow the line before it"
    return None


def _unlike(octets: bytes, expected: bytes) -> str | None:
    if hmac.compare_digest(octets, expected):
        return None
    return "was changed, or signed with another key"


def _misshapen(line: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a line that follows, and that the writer would not have written: one
    without a key needs no more than SHA-256.
    """
    what = line.get("log")
    if what == "left_out":
        is_ours = all(_are_counts(line.get(who)) for who in ("unverified", "verified"))
    else:
        is_ours = what != "dropped" or _is_count(line.get("events"))
    return None if is_ours else "does not tell what lines of its kind tell"


def _are_counts(told: Any) -> bool:
    return isinstance(told, dict) and all(map(_is_count, told.values()))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _told(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in _CHAINING}


def _parsed(octets: bytes) -> dict[str, Any] | None:
    """Return a line's members; None where it isn't one, spelled as the writer spells it."""
    try:
        line = json.loads(octets.decode("ascii"))
        is_ours = isinstance(line, dict) and _spelled(line) + b"\n" == octets
    except (ValueError, RecursionError):
        return None
    return line if is_ours and _is_chained(line) else None


def _is_chained(line: Mapping[str, Any]) -> bool:
    return type(line.get("n")) is int and isinstance(line.get("hash"), str)


def _spelled(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode("ascii")
