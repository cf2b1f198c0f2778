"""An audit log: each event one line of JSON, chained by hash, so that a cut is seen.

Each line holds the hash of the one before it, and its own, over everything else in it. Whoever
changes, drops, adds or swaps a line breaks the chain there. Two things a chain can't show by
itself: that its end was cut off (compare the last hash with one you kept elsewhere), and that all
of it was written anew (give a key that the writer of a forgery lacks: the hashes are then HMACs).
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

from xuna_middleware import Background, ConfigurationError, Event

_FIRST: Final = "0" * 64
_TAIL: Final = 1 << 20
_LEAST_KEY: Final = 16


class AuditLog:
    """Write every event to a file: `XunaGate(on_event=[AuditLog("audit.jsonl")])`.

    Writing happens beside requests; `lost` counts the events that a full queue had to drop. One
    file belongs to one process: `{pid}` in the path stands for its id. An existing file is gone on
    with. It holds who and what, no token, no secret and no variable's value; who is personal data.

    Args:
        path: the file, opened for appending, readable by its owner only where it is made.
        key: bytes or a text of 16 or more, kept away from the log; hashes become HMACs.

    Raises:
        ConfigurationError: the file can't be written, or another process writes it.
    """

    def __init__(self, path: str | os.PathLike[str], *, key: str | bytes | None = None) -> None:
        self._key = _checked_key(key)
        self.path = Path(str(path).replace("{pid}", str(os.getpid())))
        self._file = _opened(self.path)
        self._number, self._last, is_whole = _end_of(self.path)
        if not is_whole:
            self._file.write("\n")  # what a crash cut off stays as it is, and is seen
        self._background = Background(self._write)

    def __repr__(self) -> str:
        return f"AuditLog({str(self.path)!r})"

    def __call__(self, event: Event) -> None:
        """Take an event; it is written in another thread."""
        self._background(event)

    @property
    def lost(self) -> int:
        """How many events there was no room for."""
        return self._background.lost

    def flush(self, seconds: float = 2.0) -> bool:
        """Wait until what was taken is written; tell whether it is."""
        return self._background.flush(seconds)

    def close(self) -> None:
        """Write what was taken, and close the file."""
        self.flush()
        self._file.close()

    def _write(self, event: Event) -> None:
        told = {name: value for name, value in asdict(event).items() if value not in (None, ())}
        self._number += 1
        line = {"n": self._number, **told, "previous": self._last}
        self._last = _hash(line, self._key)
        self._file.write(json.dumps({**line, "hash": self._last}, ensure_ascii=False) + "\n")
        self._file.flush()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Say whether a log is whole: how many lines are, their last hash, and what is wrong next."""

    lines: int
    last: str
    problem: str | None = None


def verify_audit_log(path: str | os.PathLike[str], *, key: str | bytes | None = None) -> Verdict:
    """Read a log from its beginning, up to the first line that breaks the chain.

    Raises:
        OSError: the file can't be read. ConfigurationError: the key is too short.
    """
    with open(path, encoding="utf-8", errors="replace", newline="\n") as lines:
        return _followed(lines, _checked_key(key))


def _followed(lines: Iterable[str], key: bytes | None) -> Verdict:
    number, last = 0, _FIRST
    for text in lines:
        problem = _problem(text, number + 1, last, key)
        if problem:
            return Verdict(lines=number, last=last, problem=f"line {number + 1}: {problem}")
        number, last = number + 1, json.loads(text)["hash"]
    return Verdict(lines=number, last=last)


def _problem(text: str, number: int, last: str, key: bytes | None) -> str | None:
    line = _parsed(text)
    if line is None or not text.endswith("\n"):
        return "not a whole line of JSON"
    told = line.pop("hash", None)
    if line.get("n") != number:
        return f"has the number {line.get('n')!r:.20}, so lines are missing, added or swapped"
    if line.get("previous") != last:
        return "does not follow the line before it"
    if not isinstance(told, str) or not hmac.compare_digest(told, _hash(line, key)):
        return "was changed, or signed with another key"
    return None


def _hash(line: dict[str, Any], key: bytes | None) -> str:
    canonical = json.dumps(line, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    octets = canonical.encode("utf-8", "surrogatepass")
    if key is None:
        return hashlib.sha256(octets).hexdigest()
    return hmac.new(key, octets, "sha256").hexdigest()


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _checked_key(key: str | bytes | None) -> bytes | None:
    if key is None:
        return None
    octets = key.encode() if isinstance(key, str) else key
    if not isinstance(octets, bytes) or len(octets) < _LEAST_KEY:
        raise ConfigurationError(f"an audit log's key is {_LEAST_KEY} or more random octets")
    return octets


def _opened(path: Path) -> IO[str]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _lock(descriptor)
    except OSError as error:
        raise ConfigurationError(
            f"AuditLog: {path} can't be written, or another process writes it "
            f"({type(error).__name__}); one file for each worker: AuditLog('audit-{{pid}}.jsonl')"
        ) from None
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="surrogatepass", newline="\n")


def _lock(descriptor: int) -> None:
    """Keep other processes away for as long as the file is open, where the system can."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise


def _end_of(path: Path) -> tuple[int, str, bool]:
    """Return number and hash of the last whole line, and whether the file ends with a whole one."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read().decode("utf-8", "replace")
    for text in reversed(tail.splitlines()):
        line = _parsed(text)
        if line is not None and isinstance(line.get("hash"), str) and type(line.get("n")) is int:
            return line["n"], line["hash"], tail.endswith("\n")
    return 0, _FIRST, not tail or tail.endswith("\n")
