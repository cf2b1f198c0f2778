"""An audit log: each event is one line of JSON, chained by hash, so that a gap is detected.

Each line contains the hash of the one before it, and its own, over everything else in it. Changing,
dropping, adding or swapping a line breaks the chain there. A chain alone can't show two things:
that its end was cut off (compare the last hash with one you kept elsewhere), and that all of it was
rewritten (set a key that a forger doesn't have: the hashes are then HMACs).
"""

import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Event as Signal
from threading import Lock, Thread
from typing import Any, Final

from xuna_middleware import ConfigurationError, Event
from xuna_middleware.events import Background
from xuna_middleware.telemetry.chain import (
    START,
    End,
    Verdict,
    dropped,
    end_in,
    follow,
    leaving_out,
    left_out,
    line_of,
    resumed,
)
from xuna_middleware.telemetry.sampling import INTERVAL, Rates, Sampler

logger = logging.getLogger("xuna_middleware")

#: Octets; no line is longer.
_TAIL: Final = 1 << 20
_LEAST_KEY: Final = 16
#: Characters; a cause in a line is no longer.
_CAUSE: Final = 500


class AuditLog:
    """Write events to a file: `XunaGate(on_event=[AuditLog("audit.jsonl")])`.

    Another thread writes the file; a line reports how many events could not be written because the
    queue or the disk was full. One file belongs to one process, from its first event on, and after
    a fork to the new process or the old; `{pid}` in the path becomes the id of the writing process.
    An existing file is continued. While a process writes it, nothing may rename, remove or truncate
    it: rotate between a stop and the next start. It contains callers and actions, but no token, no
    secret and no variable's value; callers are personal data.

    Every credential, conversation, revocation, settlement and webhook is written. Refusals and the
    steps before a credential (verified, authorized, reserved, …) are written up to a number in a
    minute; any more are counted before they are queued, and a line of the chain says how many there
    were of each kind, at the end of that minute and when the gate closes. At the defaults a day of
    strangers' refusals is about 30 MB, and so is a day of one account's: see docs/limits.md.

    Args:
        path: the file, opened for appending; a new file is readable only by its owner.
        key: bytes or a text of 16 or more, kept away from the log; hashes become HMACs.
        unverified_per_minute: refusals and steps of all unverified and anonymous callers together.
        per_caller_per_minute: the same for each verified caller.
        verified_per_minute: the same for all verified callers together.

    Raises:
        ConfigurationError: the file can't be written, or another process writes it; an option
            makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: str | bytes | None = None,
        unverified_per_minute: int = 60,
        per_caller_per_minute: int = 60,
        verified_per_minute: int = 3_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = str(path)
        self._key = _checked_key(key)
        self._rates = Rates(
            unverified=unverified_per_minute,
            per_caller=per_caller_per_minute,
            verified=verified_per_minute,
        )
        self._clock = clock
        self._begin()
        _check_usable(self.path)
        self._background = Background(self._write)

    def __repr__(self) -> str:
        return f"AuditLog({self._path!r})"

    def __call__(self, event: Event) -> None:
        """Queue an event for another thread to write, or count it if there are too many."""
        if self._process != os.getpid():
            self._close()  # the file of the process that forked this one stays its own
            self._begin()
        with self._counting:
            is_admitted = self._sampler.admit(event)
            begins_leaving_out = not (is_admitted or self._is_watched)
            self._is_watched |= begins_leaving_out
        if is_admitted:
            self._background(event)
        elif begins_leaving_out:
            self._watch()

    @property
    def path(self) -> Path:
        """The file of this process."""
        return Path(self._path.replace("{pid}", str(os.getpid())))

    @property
    def lost(self) -> int:
        """How many events were not written."""
        return self._background.lost + self._failed

    def flush(self, seconds: float = 2.0) -> bool:
        """Wait until queued events and left-out counts are written; return whether they are."""
        is_written = self._background.flush(seconds)
        self._flushed.set()
        if self._watching is not None:
            self._watching.join(seconds)
        with self._writing:
            return self._tell_left_out() and is_written

    def close(self) -> None:
        """Write queued events, and close the file. Another event would open it again."""
        is_written = self.flush()
        with self._writing:
            if is_written and self._file is not None:
                self._tell_lost(self._file)
                self._close()

    def _begin(self) -> None:
        """Reset the state for this process: nothing written or counted, no inherited lock."""
        self._process = os.getpid()
        self._file: _File | None = None
        self._failed = self._told_lost = 0
        self._has_failed = False
        self._counting, self._writing = Lock(), Lock()
        self._sampler = Sampler(self._rates, self._clock)
        #: Whether a thread waits to report left-out events, and whether the log already says so.
        self._is_watched = self._is_marked = False
        self._watching: Thread | None = None
        self._flushed = Signal()

    def _write(self, event: Event) -> None:
        told = {name: value for name, value in asdict(event).items() if value not in (None, ())}
        if len(cause := told.get("cause", "")) > _CAUSE:
            told["cause"] = f"{cause[:_CAUSE]}…"
        with self._writing:
            if not self._append(told):
                self._failed += 1

    def _watch(self) -> None:
        """Log that events are left out, and after a minute how many, in a thread.

        So a log without the second line shows that its process ended in between.
        """

        def tell(flushed: Signal) -> None:
            with self._writing:
                if self._sampler.is_leaving_out and not self._is_marked:
                    self._is_marked = self._append(leaving_out(self._clock()))
            flushed.wait(INTERVAL)
            with self._writing:
                self._tell_left_out()

        self._flushed = Signal()
        watching = Thread(target=tell, args=(self._flushed,), name="xuna-gate audit", daemon=True)
        with suppress(RuntimeError):  # the interpreter is exiting; close() still reports
            watching.start()
            self._watching = watching

    def _tell_left_out(self) -> bool:
        """Write how many events were left out, if any; return whether all are reported."""
        with self._counting:
            self._is_watched = False
            if not self._sampler.is_leaving_out:
                return True
            counts = self._sampler.taken()
        is_told = self._append(left_out(**asdict(counts)))
        if is_told:
            self._is_marked = False
        else:
            with self._counting:
                self._sampler.put_back(counts)
        return is_told

    def _append(self, told: Any) -> bool:
        """Write a line; return whether it is written. The next one tries again."""
        try:
            file = self._file = self._file or _File(self.path, self._key)
            self._tell_lost(file)
            file.append(told)
        except (OSError, ConfigurationError) as error:
            self._close()
            if not self._has_failed:
                self._has_failed = True
                logger.error("an audit log can't be written, events are lost: %s", error)
            return False
        return True

    def _tell_lost(self, file: "_File") -> None:
        lost = self.lost
        if lost > self._told_lost:
            file.append(dropped(lost - self._told_lost))
            self._told_lost = lost

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def verify_audit_log(path: str | os.PathLike[str], *, key: str | bytes | None = None) -> Verdict:
    """Read a log from its beginning, up to the first line that breaks the chain.

    *Checks* that every line is, to the octet, what the writer would have written there. *Does not
    check* that the end is the end: compare `last` with a hash that was kept elsewhere.

    Raises:
        OSError: the file can't be read. ConfigurationError: the key is too short.
    """
    with open(path, "rb") as file:
        return follow(iter(partial(file.readline, _TAIL), b""), _checked_key(key))


class _File:
    """Append lines to a file that no other process writes, from where its chain ends."""

    def __init__(self, path: Path, key: bytes | None) -> None:
        self._key = key
        self._descriptor = _locked(path)
        try:
            self._end, torn = _end_of(path)
            if torn:
                self._resume(torn)
        except BaseException:
            self.close()
            raise

    def append(self, told: Any, before: bytes = b"") -> None:
        """Write one line.

        Raises:
            OSError: it was not written, or not all of it.
        """
        octets, end = line_of(told, self._end, self._key)
        octets = before + octets
        if os.write(self._descriptor, octets) != len(octets):
            raise OSError("a part of a line was written")
        self._end = end

    def close(self) -> None:
        os.close(self._descriptor)

    def _resume(self, torn: bytes) -> None:
        before = b"" if torn.endswith(b"\n") else b"\n"
        self.append(resumed(torn + before), before)


def _checked_key(key: str | bytes | None) -> bytes | None:
    if key is None:
        return None
    octets = key.encode() if isinstance(key, str) else key
    if not isinstance(octets, bytes) or len(octets) < _LEAST_KEY:
        raise ConfigurationError(f"an audit log's key is {_LEAST_KEY} or more random octets")
    return octets


def _check_usable(path: Path) -> None:
    """Raise ConfigurationError if the file can't be continued; create none."""
    if path.exists():
        os.close(_locked(path))
        _end_of(path)
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unusable(path, "no directory that can be written")


def _locked(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        _lock(descriptor)
    except OSError as error:
        raise _unusable(path, type(error).__name__) from None
    return descriptor


def _lock(descriptor: int) -> None:
    """Lock out other processes while the file is open, if the system supports it."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise


def _end_of(path: Path) -> tuple[End, bytes]:
    """Return where the chain ends, and the octets that a crash left after it."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    found = end_in(tail)
    if found is None and size > _TAIL:
        raise _unusable(path, "it doesn't end as an audit log does")
    return found or (START, tail)


def _unusable(path: Path, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"AuditLog: {path} can't be written, or another process writes it ({why}); one file for "
        "each worker: AuditLog('audit-{pid}.jsonl')"
    )
