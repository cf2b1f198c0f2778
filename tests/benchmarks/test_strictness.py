"""The comparison with other libraries runs, and this package is the strictest in it."""

import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def test_nothing_hostile_is_accepted_and_nothing_leaks() -> None:
    """It exits with 1 otherwise; the others' figures are printed, and are theirs."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.strictness"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    summary = next(line for line in ran.stdout.splitlines() if line.startswith("all ("))
    assert summary.split(")")[1].split()[:3] == ["0", "+", "0"]
