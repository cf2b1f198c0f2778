"""`python -m fuzz [TARGET …] --seconds N`: fuzz each target in a process of its own."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CORPUS: Final = Path(__file__).parent / "corpus"
TARGETS: Final = (
    "header", "compact", "claims", "jwks", "discovery", "path", "body", "platform", "webhook",
    "app",
)  # fmt: skip


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    asked.add_argument("targets", nargs="*", choices=[*TARGETS, []])
    asked.add_argument("--seconds", type=int, default=60, help="for each target")
    said = asked.parse_args()
    broken = [name for name in said.targets or TARGETS if not fuzzed(name, said.seconds)]
    if broken:
        sys.exit(f"broken: {', '.join(broken)}; crash-… holds the octets")


def fuzzed(name: str, seconds: int) -> bool:
    """Fuzz one target, print how often it ran, and tell whether it held."""
    with tempfile.TemporaryDirectory() as grown:
        seeds = CORPUS / name
        seeds.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fuzz.run", name, grown, str(seeds)]
        options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-max_len=2048"]
        ran = subprocess.run([*command, *options], capture_output=True, text=True)
    found = re.search(r"number_of_executed_units: (\d+)", ran.stderr)
    executions = int(found[1]) if found else 0
    print(f"{name:10} {executions:>12,} executions in {seconds} s", flush=True)
    if ran.returncode:
        print(ran.stderr[-4000:], file=sys.stderr)
    return ran.returncode == 0


if __name__ == "__main__":
    main()
