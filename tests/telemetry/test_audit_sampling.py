"""The audit log under a flood: what is counted instead of written, and that nothing is lost."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest
from support.doubles import CountedPlatform, ask, bearer, make_gate
from support.signing import RSA, good_claims
from typer.testing import CliRunner

from xuna_middleware import Agent, AnonymousAccess, ConfigurationError, Event, Identity, Limit
from xuna_middleware.cli.commands import app
from xuna_middleware.telemetry import AuditLog, verify_audit_log
from xuna_middleware.telemetry import audit as audit_module

NOW: Final = 1_700_000_000.0
VISITORS: Final = "urn:xuna-gate:visitors"


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def event(name: Any = "refused", **about: Any) -> Event:
    return Event(name=name, time=NOW, **about)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def names(path: Path) -> Counter[str]:
    return Counter(str(line.get("log", line.get("name"))) for line in lines(path))


def write(log: AuditLog, events: Iterable[Event]) -> None:
    for each in events:
        log(each)
    assert log.flush()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


async def test_strangers_fill_no_disk(path: Path) -> None:
    """2,000 requests of a stranger: 60 lines and a count; a credential is written all the same."""
    log = AuditLog(path, clock=Clock())
    gate = make_gate(CountedPlatform(), on_event=[log])
    for number in range(2_000):
        headers = [] if number % 2 else bearer("x.y.z")
        assert (await ask(gate, headers=headers)).status == 401
    assert (await ask(gate, headers=bearer(RSA.token(good_claims())))).status == 200
    await gate.aclose()
    log.close()
    told = names(path)
    assert (told["refused"], told["issued"]) == (60, 1)
    assert sum(map(len, map(json.dumps, lines(path)))) < 40_000
    verdict = verify_audit_log(path)
    assert verdict.problem is None
    assert sum(verdict.left_out.values()) == 2_000 - 60
    kinds = ("unverified: refused invalid_token", "unverified: refused not_authenticated")
    assert verdict.left_out == dict.fromkeys(kinds, 970)
    assert (verdict.uncounted, verdict.dropped, log.lost) == ((), 0, 0)


async def test_flood_of_one_account_and_others_beside(path: Path) -> None:
    """An account whose requests are all 429 has lines of its own, and takes nobody else's."""
    log = AuditLog(path, clock=Clock())
    agents = [Agent("support", id="agent_1", limits=[Limit("1/hour")])]
    gate = make_gate(CountedPlatform(), agents=agents, on_event=[log])
    flood = bearer(RSA.token(good_claims()))
    statuses = Counter([(await ask(gate, headers=flood)).status for _ in range(500)])
    assert statuses == {200: 1, 429: 499}
    other = bearer(RSA.token({**good_claims(), "sub": "user-2"}))
    assert (await ask(gate, headers=other)).status == 200
    await gate.aclose()
    log.close()
    of_flood = [line for line in lines(path) if line.get("subject") == "user-1"]
    assert len(of_flood) == 61, "60 steps and refusals, and the one credential"
    of_other = [line["name"] for line in lines(path) if line.get("subject") == "user-2"]
    assert of_other == ["verified", "authorized", "reserved", "issued"]
    verdict = verify_audit_log(path)
    assert (verdict.problem, verdict.uncounted) == (None, ())
    assert sum(verdict.left_out.values()) + len(of_flood) == 4 + 3 * 499
    assert verdict.left_out["verified: refused quota_exceeded"] > 450


async def test_anonymous_callers_are_strangers(path: Path) -> None:
    """Each may be somebody new: together they have what strangers have."""
    log = AuditLog(path, clock=Clock())
    limits = [Limit("1/hour", per="all")]
    agents = [Agent("faq", id="agent_1", anonymous=True, max_duration=60, limits=limits)]
    visitors = AnonymousAccess(secret="s" * 43)
    gate = make_gate(CountedPlatform(), agents=agents, anonymous=visitors, on_event=[log])
    for _ in range(300):
        await ask(gate, headers=[(b"sec-fetch-site", b"same-origin")])
    await gate.aclose()
    log.close()
    assert len(lines(path)) == 60 + 1 + 2
    assert names(path)["issued"] == 1
    assert set(verify_audit_log(path).left_out) == {
        "unverified: verified",
        "unverified: authorized",
        "unverified: refused quota_exceeded",
    }


@pytest.mark.parametrize(
    "name",
    [
        "issued",
        "conversation_started",
        "conversation_ended",
        "settled",
        "settlement_expired",
        "revoked",
        "keys_rotated",
        "provider_down",
        "webhook_received",
    ],
)
def test_what_is_never_left_out(path: Path, name: Any) -> None:
    """What somebody got, and what operators, providers and the platform did."""
    log = AuditLog(path, unverified_per_minute=1, per_caller_per_minute=1, verified_per_minute=1)
    about = [{}, {"issuer": "i", "subject": "anna"}, {"issuer": VISITORS, "subject": "v"}]
    write(log, [event(name, **each) for each in about for _ in range(50)])
    log.close()
    assert names(path) == {name: 150}


@pytest.mark.parametrize(
    "name",
    [
        *("refused", "verified", "authorized", "reserved", "released", "ticket_issued"),
        *("limit_skipped", "personalization_unsupported"),
    ],
)
def test_what_a_caller_causes_at_will_is_bounded(path: Path, name: Any) -> None:
    """Refusals, and all that is taken and given back."""
    log = AuditLog(path, per_caller_per_minute=5, clock=Clock())
    write(log, [event(name, issuer="i", subject="anna") for _ in range(50)])
    log.close()
    assert names(path) == {name: 5, "leaving_out": 1, "left_out": 1}
    assert verify_audit_log(path).left_out == {f"verified: {name}": 45}


def test_many_accounts_have_a_bound_together(path: Path) -> None:
    """And are held in memory only as far as that goes."""
    log = AuditLog(path, verified_per_minute=100, clock=Clock())
    write(log, [event(issuer="i", subject=f"user-{number}") for number in range(5_000)])
    assert len(log._sampler._callers) == 100
    log.close()
    assert names(path)["refused"] == 100
    assert verify_audit_log(path).left_out == {"verified: refused": 4_900}


def test_same_subject_of_another_issuer_is_another_caller(path: Path) -> None:
    """As everywhere in the gate."""
    log = AuditLog(path, per_caller_per_minute=1, clock=Clock())
    write(log, [event(issuer=issuer, subject="anna") for issuer in "ab" for _ in range(3)])
    log.close()
    assert [line["issuer"] for line in lines(path) if line.get("name")] == ["a", "b"]


def test_next_minute_writes_again(path: Path) -> None:
    """Each has its own number; a clock that is set back begins a new one."""
    clock = Clock()
    log = AuditLog(path, unverified_per_minute=2, clock=clock)
    for later in (0.0, 59.9, 60.0, 119.9, 30.0):
        clock.now = NOW + later
        write(log, [event(code="x") for _ in range(3)])
    log.close()
    assert names(path) == {"refused": 6, "leaving_out": 5, "left_out": 5}
    counts = [line["unverified"]["refused x"] for line in lines(path) if "unverified" in line]
    assert counts == [1, 3, 1, 3, 1]
    assert verify_audit_log(path).problem is None


def test_count_comes_by_itself_after_a_minute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no further event comes, and nobody closes the log."""
    monkeypatch.setattr(audit_module, "INTERVAL", 0.01)
    log = AuditLog(path, unverified_per_minute=1, clock=Clock())
    for _ in range(4):
        log(event())
    for thread in threading.enumerate():
        if thread.name == "xuna-gate audit":
            thread.join(10)
    assert names(path)["left_out"] >= 1
    log.close()
    assert verify_audit_log(path).left_out == {"unverified: refused": 3}


def test_kinds_are_bounded(path: Path) -> None:
    """However many codes a rule makes up."""
    log = AuditLog(path, unverified_per_minute=1, clock=Clock())
    write(log, [event(code=f"code-{number}") for number in range(5_001)])
    log.close()
    (counts,) = [line["unverified"] for line in lines(path) if "unverified" in line]
    assert len(counts) == 101
    assert sum(counts.values()) == 5_000
    assert counts["further"] == 4_900


def test_cause_is_cut(path: Path) -> None:
    """So that the length of a line has a bound."""
    log = AuditLog(path)
    write(log, [event(cause="x" * 10_000), event(cause="y" * 500)])
    log.close()
    assert [line["cause"] for line in lines(path)] == ["x" * 500 + "…", "y" * 500]


@pytest.mark.parametrize("number", [0, -1, 1.5, True, None, "60"])
@pytest.mark.parametrize(
    "option", ["unverified_per_minute", "per_caller_per_minute", "verified_per_minute"]
)
def test_numbers_that_make_no_sense(path: Path, option: str, number: Any) -> None:
    """Told at once, by name."""
    with pytest.raises(ConfigurationError, match=option):
        AuditLog(path, **{option: number})


def test_changed_count_breaks_the_chain(path: Path) -> None:
    """What was left out can't be talked down later."""
    log = AuditLog(path, unverified_per_minute=1, clock=Clock())
    write(log, [event() for _ in range(100)])
    log.close()
    text = path.read_text(encoding="utf-8")
    assert '"refused": 99' in text
    path.write_text(text.replace('"refused": 99', '"refused": 9'), encoding="utf-8")
    assert (verify_audit_log(path).problem or "").startswith("line 3: was changed")


#: A process that dies while it leaves events out, after the log has said so.
CRASH: Final = """
import os, sys
from xuna_middleware import Event
from xuna_middleware.telemetry import AuditLog
log = AuditLog(sys.argv[1], unverified_per_minute=1)
for _ in range(10):
    log(Event(name="refused", time=1.5))
while b"leaving_out" not in open(sys.argv[1], "rb").read():
    pass
log(Event(name="issued", time=1.5, subject="anna"))
while b"issued" not in open(sys.argv[1], "rb").read():
    pass
os._exit(9)
"""


def test_crash_before_the_count_is_written(path: Path) -> None:
    """The log says where a number is missing; it goes on, and is verified behind it."""
    command = [sys.executable, "-P", "-c", CRASH, str(path)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 9
    verdict = verify_audit_log(path)
    (where,) = verdict.uncounted
    assert where.startswith("line ")
    assert where.endswith(": no line says how many were left out")
    log = AuditLog(path, unverified_per_minute=1, clock=Clock())
    write(log, [event() for _ in range(3)])
    log.close()
    verdict = verify_audit_log(path)
    assert (verdict.problem, verdict.uncounted) == (None, (where,))
    assert verdict.left_out == {"unverified: refused": 2}


def test_full_disk_keeps_the_count(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be written is told when there is room again."""
    log = AuditLog(path, unverified_per_minute=1, clock=Clock())
    write(log, [event()])
    real = os.write

    def full(descriptor: int, octets: bytes) -> int:
        if b"left_out" in octets:
            raise OSError("no space")
        return real(descriptor, octets)

    monkeypatch.setattr(os, "write", full)
    for _ in range(5):
        log(event())
    assert not log.flush()
    monkeypatch.undo()
    log(event())
    log.close()
    verdict = verify_audit_log(path)
    assert (verdict.problem, verdict.uncounted) == (None, ())
    assert verdict.left_out == {"unverified: refused": 6}


def test_forked_process_counts_for_itself(path: Path) -> None:
    """What the parent left out is the parent's to tell."""
    script = """
import os, sys
from xuna_middleware import Event
from xuna_middleware.telemetry import AuditLog
log = AuditLog(sys.argv[1], unverified_per_minute=1, clock=lambda: 1.5)
def flood():
    for _ in range(10):
        log(Event(name="refused", time=1.5))
flood()
if not (pid := os.fork()):
    flood(); log.close(); os._exit(0)
os.waitpid(pid, 0)
log.close()
"""
    place = str(path.parent / "audit-{pid}.jsonl")
    command = [sys.executable, "-P", "-W", "ignore", "-c", script, place]
    subprocess.run(command, check=True, timeout=60)
    verdicts = [verify_audit_log(each) for each in path.parent.iterdir()]
    assert [verdict.left_out for verdict in verdicts] == [{"unverified: refused": 9}] * 2


def test_several_threads_lose_no_count(path: Path) -> None:
    """Hooks may be called from anywhere."""
    log = AuditLog(path, unverified_per_minute=10, clock=Clock())

    def flood() -> None:
        for _ in range(500):
            log(event())

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    assert names(path)["refused"] == 10
    verdict = verify_audit_log(path)
    assert (verdict.problem, verdict.left_out) == (None, {"unverified: refused": 3_990})


def test_command_shows_the_numbers(path: Path) -> None:
    """What `xuna-gate audit verify` says of events that are not in the log."""
    log = AuditLog(path, unverified_per_minute=1, per_caller_per_minute=1, clock=Clock())
    who = Identity(subject="anna", issuer="i")
    write(log, [event(code="invalid_token") for _ in range(11)])
    write(log, [event(code="quota", issuer=who.issuer, subject="anna") for _ in range(3)])
    log._background.lost = 4
    log.close()
    done = CliRunner().invoke(app, ["audit", "verify", str(path)])
    assert done.exit_code == 0
    assert done.output.splitlines()[1:] == [
        "· 12 events were counted and not written, too many in a minute:",
        "·   10 unverified: refused invalid_token",
        "·   2 verified: refused quota",
        "· 4 events could not be written",
    ]
