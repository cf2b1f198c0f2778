"""The audit log: every event a line, and no cut unseen."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.doubles import CountedPlatform, ask, bearer, make_gate
from support.signing import CANARY, RSA, good_claims
from typer.testing import CliRunner

from xuna_middleware import Agent, ConfigurationError, Event, Limit
from xuna_middleware.cli.commands import app
from xuna_middleware.events import Background
from xuna_middleware.telemetry import AuditLog, verify_audit_log
from xuna_middleware.telemetry.chain import START, End, line_of, resumed

KEY = "k" * 32


def event(name: Any = "issued", **about: Any) -> Event:
    return Event(name=name, time=1_700_000_000.5, **about)


def written(path: Path, count: int = 5, **options: Any) -> list[str]:
    """Write a log of some lines, and return them."""
    log = AuditLog(path, **options)
    for number in range(count):
        log(event(subject=f"user-{number}"))
    log.close()
    return path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)


async def test_gate_writes_what_happens(tmp_path: Path) -> None:
    """Who, what and why, and no secret; closing the gate waits for the file."""
    log = AuditLog(tmp_path / "audit.jsonl")
    agents = [Agent("support", id="agent_1", limits=[Limit("1/hour")])]
    gate = make_gate(CountedPlatform(), agents=agents, on_event=[log])
    headers = bearer(RSA.token(good_claims()))
    assert [(await ask(gate, headers=headers)).status for _ in range(2)] == [200, 429]
    await gate.aclose()
    text = (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    names = [line["name"] for line in lines]
    first = ["verified", "authorized", "reserved", "issued"]
    assert names == [*first, "verified", "authorized", "refused"]
    assert lines[3]["subject"] == "user-1"
    assert lines[-1]["code"] == "quota_exceeded"
    assert CANARY not in text
    assert verify_audit_log(tmp_path / "audit.jsonl").problem is None
    log.close()


def test_log_goes_on_after_a_restart(tmp_path: Path) -> None:
    """The chain is one over both."""
    path = tmp_path / "audit.jsonl"
    written(path, 3)
    written(path, 2)
    verdict = verify_audit_log(path)
    assert (verdict.lines, verdict.problem) == (5, None)


def change(lines: list[str]) -> list[str]:
    return [*lines[:2], lines[2].replace("user-2", "user-9"), *lines[3:]]


def drop(lines: list[str]) -> list[str]:
    return [*lines[:2], *lines[3:]]


def swap(lines: list[str]) -> list[str]:
    return [*lines[:2], lines[3], lines[2], lines[4]]


def add(lines: list[str]) -> list[str]:
    return [*lines[:3], lines[2], *lines[3:]]


def behead(lines: list[str]) -> list[str]:
    return lines[1:]


def break_off(lines: list[str]) -> list[str]:
    return [*lines[:4], lines[4][:-20]]


def garble(lines: list[str]) -> list[str]:
    return [*lines[:2], "not json\n", *lines[2:]]


def renumber(lines: list[str]) -> list[str]:
    """Drop one and number the rest anew: the hashes tell."""
    return [
        *lines[:2],
        *(
            line.replace(f'"n": {n}', f'"n": {n - 1}')
            for n, line in zip((4, 5), lines[3:], strict=True)
        ),
    ]


def insert_member(lines: list[str]) -> list[str]:
    """Most readers take the first of two members, and Python the last."""
    twice = lines[2].replace('"subject": ', '"subject": "mallory", "subject": ')
    return [*lines[:2], twice, *lines[3:]]


def space_out(lines: list[str]) -> list[str]:
    return [*lines[:2], lines[2].replace(", ", ",  ", 1), *lines[3:]]


def reorder(lines: list[str]) -> list[str]:
    line = json.loads(lines[2])
    return [*lines[:2], json.dumps({"hash": line.pop("hash"), **line}) + "\n", *lines[3:]]


def odd_hash(lines: list[str]) -> list[str]:
    return [*lines[:2], json.dumps({**json.loads(lines[2]), "hash": "é"}) + "\n", *lines[3:]]


def odd_letters(lines: list[str]) -> list[str]:
    return [*lines[:2], lines[2].replace("user-2", "usér-2"), *lines[3:]]


def nest(lines: list[str]) -> list[str]:
    return [*lines[:2], "[" * 200_000 + "\n", *lines[2:]]


def nest_within(lines: list[str]) -> list[str]:
    deep = lines[2].replace('"user-2"', "[" * 900 + "]" * 900)
    return [*lines[:2], deep, *lines[3:]]


def many_digits(lines: list[str]) -> list[str]:
    return [*lines[:2], lines[2].replace('"n": 3', f'"n": {"3" * 5000}'), *lines[3:]]


def tell_of_no_break(lines: list[str]) -> list[str]:
    """With the right hash: but nothing was cut off there."""
    line, _ = line_of(resumed(b"torn\n"), End(2, json.loads(lines[1])["hash"]), None)
    return [*lines[:2], line.decode(), *lines[2:]]


def hash_anew(lines: list[str]) -> list[str]:
    """Drop one, number the rest anew and hash each: what they follow tells."""
    forged = lines[:2]
    for number, text in enumerate(lines[3:], 3):
        line = {**json.loads(text), "n": number}
        del line["hash"]
        line["hash"] = hashlib.sha256(json.dumps(line).encode()).hexdigest()
        forged.append(json.dumps(line) + "\n")
    return forged


@pytest.mark.parametrize(
    ("forge", "where"),
    [
        (change, 3),
        (drop, 3),
        (swap, 3),
        (add, 4),
        (behead, 1),
        (break_off, 5),
        (garble, 3),
        (renumber, 3),
        (hash_anew, 3),
        (insert_member, 3),
        (space_out, 3),
        (reorder, 3),
        (odd_hash, 3),
        (odd_letters, 3),
        (nest, 3),
        (nest_within, 3),
        (many_digits, 3),
        (tell_of_no_break, 3),
    ],
)
def test_cuts_are_seen(tmp_path: Path, forge: Callable[[list[str]], list[str]], where: int) -> None:
    """At the line where the chain breaks."""
    path = tmp_path / "audit.jsonl"
    path.write_text("".join(forge(written(tmp_path / "whole.jsonl"))), encoding="utf-8")
    verdict = verify_audit_log(path)
    assert verdict.lines == where - 1
    assert (verdict.problem or "").startswith(f"line {where}: ")


@pytest.mark.parametrize(
    "told",
    [
        *({"log": "dropped"}, {"log": "dropped", "events": "x"}, {"log": "dropped", "events": -1}),
        *({"log": "dropped", "events": True}, {"log": "dropped", "events": 10**4000}),
        *({"log": "left_out"}, {"log": "left_out", "unverified": 1, "verified": 2}),
        {"log": "left_out", "unverified": {"a": "b"}, "verified": {}},
        {"log": "left_out", "unverified": {"a": 1}, "verified": []},
    ],
    ids=lambda told: str(told)[:60],
)
def test_hash_right_lines_of_another_shape(tmp_path: Path, told: dict[str, Any]) -> None:
    """Without a key anybody can write one; it is told as a break, not raised."""
    whole, end = line_of({"log": "dropped", "events": 2}, START, None)
    path = tmp_path / "audit.jsonl"
    path.write_bytes(whole + line_of(told, end, None)[0])
    verdict = verify_audit_log(path)
    assert verdict.problem == "line 2: does not tell what lines of its kind tell"
    assert (verdict.lines, verdict.dropped) == (1, 2)


def test_cut_off_end_needs_the_hash_that_was_kept(tmp_path: Path) -> None:
    """The chain alone can't show it, and says what it ends with."""
    path = tmp_path / "audit.jsonl"
    lines = written(path)
    last = verify_audit_log(path).last
    path.write_text("".join(lines[:3]), encoding="utf-8")
    verdict = verify_audit_log(path)
    assert verdict.problem is None
    assert verdict.last != last


def test_forger_without_the_key(tmp_path: Path) -> None:
    """Who writes all of it anew needs the key."""
    path = tmp_path / "audit.jsonl"
    written(path, key=KEY)
    assert verify_audit_log(path, key=KEY).problem is None
    assert verify_audit_log(path).problem
    forged = tmp_path / "forged.jsonl"
    written(forged)
    assert verify_audit_log(forged, key=KEY).problem


@pytest.mark.parametrize("torn", [b'{"n": 4, "na', b'{"n": 4}\n', b"\0" * 500, b"a\n\xff\r\nb"])
def test_crash_in_the_middle_of_a_line(tmp_path: Path, torn: bytes) -> None:
    """What is left of it stays and is told; the log goes on and is verified behind it."""
    path = tmp_path / "audit.jsonl"
    written(path, 3, key=KEY)
    path.write_bytes(path.read_bytes() + torn)
    assert (verify_audit_log(path, key=KEY).problem or "").startswith("line 4: not a whole line")
    written(path, 2, key=KEY)
    verdict = verify_audit_log(path, key=KEY)
    assert (verdict.lines, verdict.problem) == (6, None)
    (told,) = verdict.breaks
    assert told.startswith("line 4: cut off by a crash")
    whole = path.read_bytes()
    for old, new in ((b"user-1", b"user-9"), (torn, torn[:-1]), (b"resumed", b"resumes")):
        before, found, after = whole.rpartition(old)
        assert found
        path.write_bytes(before + new + after)
        assert verify_audit_log(path, key=KEY).problem


def test_file_with_nothing_but_a_torn_line(tmp_path: Path) -> None:
    """The first line of all was cut off."""
    path = tmp_path / "audit.jsonl"
    path.write_text('{"n": 1')
    written(path, 1)
    verdict = verify_audit_log(path)
    assert (verdict.lines, verdict.problem, len(verdict.breaks)) == (2, None, 1)


def test_file_that_is_no_log(tmp_path: Path) -> None:
    """Is not gone on with: what belongs to whom could not be told."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"x" * (1 << 20) + b"\n")
    with pytest.raises(ConfigurationError, match="as an audit log does"):
        AuditLog(path)


def test_emptied_file(tmp_path: Path) -> None:
    """Says so, and is nothing good."""
    path = tmp_path / "audit.jsonl"
    path.touch()
    assert verify_audit_log(path).problem == "the log is empty"


@pytest.mark.parametrize("letter", ["\u2028", "\u0085", "\r", "\x0b", "\ud800", "é", "\U0001f600"])
def test_odd_letters_and_a_restart(tmp_path: Path, letter: str) -> None:
    """What ends a line for some readers ends none here."""
    path = tmp_path / "audit.jsonl"
    for _ in range(2):
        log = AuditLog(path)
        log(event(cause=f"x{letter}y"))
        log.close()
    verdict = verify_audit_log(path)
    assert (verdict.lines, verdict.problem, verdict.breaks) == (2, None, ())


def test_events_that_were_dropped_are_told(tmp_path: Path) -> None:
    """How many, in a line of the chain."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    for lost in (0, 3, 3, 5):
        log._background.lost = lost
        log(event())
        assert log.flush()
    log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line.get("events") for line in lines] == [None, 3, None, None, 2, None]
    assert verify_audit_log(path).problem is None


#: Fills the disk, as far as this process may, and goes on when there is room again.
FULL_DISK = """
import resource, sys
from xuna_middleware import Event
from xuna_middleware.telemetry import AuditLog
log = AuditLog(sys.argv[1])
event = Event(name="issued", time=1.5, subject="anna")
log(event); log.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
log(event); log(event); log.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log(event); log.close()
print(log.lost)
"""

#: A server that loads its app before it forks its workers.
FORKED = """
import os, sys
from xuna_middleware import Event
from xuna_middleware.telemetry import AuditLog
log = AuditLog(sys.argv[1])
def write(subject, count):
    for _ in range(count):
        log(Event(name="issued", time=1.5, subject=subject))
    assert log.flush(60)
if "first" in sys.argv:
    write("parent", 1)
for name in ("one", "two"):
    if not (pid := os.fork()):
        write(name, 3)
        print(log.lost, flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
write("parent", 1)
"""


def run(script: str, *arguments: str) -> str:
    """Run a script in a process of its own, and return what it printed."""
    command = [sys.executable, "-P", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_full_disk(tmp_path: Path) -> None:
    """What could not be written is told when there is room again, and the torn line as well."""
    path = tmp_path / "audit.jsonl"
    assert run(FULL_DISK, str(path)) == "2\n"
    verdict = verify_audit_log(path)
    assert (verdict.problem, len(verdict.breaks)) == (None, 1)
    names = [line for line in map(loaded, path.read_text().splitlines()) if line]
    told = [line.get("log", line.get("name")) for line in names]
    assert told == ["issued", "resumed", "dropped", "issued"]


def loaded(text: str) -> Any:
    """Return a line's members, None of a torn one."""
    try:
        return json.loads(text)
    except ValueError:
        return None


@pytest.mark.parametrize("when", ["first", "later"])
def test_forked_workers(tmp_path: Path, when: str) -> None:
    """Each writes a file of its own, whether or not the parent wrote before."""
    assert run(FORKED, str(tmp_path / "audit-{pid}.jsonl"), when) == "0\n0\n"
    verdicts = [verify_audit_log(path) for path in tmp_path.iterdir()]
    assert [verdict.problem for verdict in verdicts] == [None] * 3
    assert sorted(verdict.lines for verdict in verdicts) == [1 + (when == "first"), 3, 3]


def test_forked_workers_with_one_file(tmp_path: Path) -> None:
    """It stays whole, and whoever can't write it counts what is lost."""
    path = tmp_path / "audit.jsonl"
    assert run(FORKED, str(path), "first") == "3\n3\n"
    verdict = verify_audit_log(path)
    assert (verdict.lines, verdict.problem) == (2, None)


def test_one_process_a_file(tmp_path: Path) -> None:
    """Two would break each other's chain; `{pid}` makes one for each."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(path)
    log(event())
    assert log.flush()
    with pytest.raises(ConfigurationError, match="one file for each worker"):
        AuditLog(path)
    log.close()
    own = AuditLog(tmp_path / "audit-{pid}.jsonl")
    assert str(os.getpid()) in own.path.name
    own.close()


def test_file_is_the_owners(tmp_path: Path) -> None:
    """It holds who talked when."""
    written(tmp_path / "audit.jsonl", 1)
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("key", ["short", b"", 7])
def test_keys_that_are_none(tmp_path: Path, key: Any) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="key"):
        AuditLog(tmp_path / "audit.jsonl", key=key)


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """Told at once."""
    with pytest.raises(ConfigurationError, match="can't be written"):
        AuditLog(tmp_path / "none" / "audit.jsonl")


class TestCommand:
    """`xuna-gate audit verify`."""

    def test_whole(self, tmp_path: Path) -> None:
        """Exit code 0, and the hash to keep."""
        path = tmp_path / "audit.jsonl"
        written(path)
        last = verify_audit_log(path).last
        done = CliRunner().invoke(app, ["audit", "verify", str(path), "--expect", last])
        assert done.exit_code == 0
        assert done.output == f"5 lines follow each other; the last hash is {last}\n"

    def test_crash_and_emptied_file(self, tmp_path: Path) -> None:
        """A line that a crash cut off is listed; an empty log is a failure."""
        path = tmp_path / "audit.jsonl"
        written(path)
        path.write_bytes(path.read_bytes() + b"torn")
        written(path)
        done = CliRunner().invoke(app, ["audit", "verify", str(path)])
        assert done.exit_code == 0
        assert "· line 6: cut off by a crash, as line 7 tells" in done.output
        path.write_bytes(b"")
        done = CliRunner().invoke(app, ["audit", "verify", str(path)])
        assert done.exit_code == 1
        assert "empty" in done.output

    def test_cut(self, tmp_path: Path) -> None:
        """Exit code 1, and where."""
        path = tmp_path / "audit.jsonl"
        lines = written(path)
        path.write_text("".join(drop(lines)), encoding="utf-8")
        done = CliRunner().invoke(app, ["audit", "verify", str(path)])
        assert done.exit_code == 1
        assert "line 3" in done.output

    def test_cut_end(self, tmp_path: Path) -> None:
        """With the hash that was kept elsewhere."""
        path = tmp_path / "audit.jsonl"
        lines = written(path)
        last = verify_audit_log(path).last
        path.write_text("".join(lines[:-1]), encoding="utf-8")
        done = CliRunner().invoke(app, ["audit", "verify", str(path), "--expect", last])
        assert done.exit_code == 1

    def test_key_from_the_environment(self, tmp_path: Path) -> None:
        """A command line is seen by others."""
        path = tmp_path / "audit.jsonl"
        written(path, key=KEY)
        command = ["audit", "verify", str(path)]
        assert CliRunner().invoke(app, command).exit_code == 1
        done = CliRunner().invoke(app, command, env={"XUNA_AUDIT_KEY": KEY})
        assert done.exit_code == 0

    def test_no_file(self, tmp_path: Path) -> None:
        """Exit code 2."""
        done = CliRunner().invoke(app, ["audit", "verify", str(tmp_path / "none")])
        assert done.exit_code == 2

    def test_as_a_process(self, tmp_path: Path) -> None:
        """As an operator calls it."""
        path = tmp_path / "audit.jsonl"
        written(path)
        command = [sys.executable, "-m", "xuna_middleware.cli", "audit", "verify", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


class TestBackground:
    """Hooks that take their time."""

    def test_order_is_kept(self) -> None:
        """In a thread of its own."""
        seen: list[tuple[str | None, int]] = []
        hook = Background(lambda event: seen.append((event.subject, threading.get_ident())))
        for number in range(100):
            hook(event(subject=str(number)))
        assert hook.flush()
        assert [subject for subject, _ in seen] == [str(number) for number in range(100)]
        assert {thread for _, thread in seen} != {threading.get_ident()}

    def test_full_queue_drops_and_counts(self, caplog: pytest.LogCaptureFixture) -> None:
        """A hook that hangs costs memory for `most` events, and no request its time."""
        go, began = threading.Event(), threading.Event()

        def hang(event: Event) -> None:
            began.set()
            go.wait(10)

        hook = Background(hang, most=5)
        hook(event())
        assert began.wait(10)
        for _ in range(8):
            hook(event())
        assert hook.lost == 3
        assert hook.flush(0.01) is False
        assert "too slow" in caplog.text
        go.set()
        assert hook.flush()

    def test_hook_that_raises(self, caplog: pytest.LogCaptureFixture) -> None:
        """Is logged, and called again."""
        seen: list[Event] = []

        def fails(event: Event) -> None:
            seen.append(event)
            raise LookupError("of the hook's own")

        hook = Background(fails)
        hook(event())
        hook(event())
        assert hook.flush()
        assert len(seen) == 2
        assert "on_event hook failed" in caplog.text

    @pytest.mark.parametrize("options", [{"most": 0}, {"most": True}, {"hook": 7}])
    def test_options_that_make_no_sense(self, options: dict[str, Any]) -> None:
        """Told at once."""
        with pytest.raises(ConfigurationError):
            Background(**{"hook": print, **options})
