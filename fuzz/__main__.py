"""`python -m fuzz [TARGET …] --seconds N`: fuzz each target in a process of its own.

`routers` compares the gate with frameworks' routers instead: it needs no atheris, and runs a number
of spellings (`--spellings N`) for each framework, not for a time.
"""

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
ROUTERS: Final = "routers"


def main() -> None:
    asked = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    asked.add_argument("targets", nargs="*", choices=[*TARGETS, ROUTERS, []])
    asked.add_argument("--seconds", type=int, default=60, help="for each target")
    asked.add_argument("--spellings", type=int, default=200_000, help="for each framework")
    asked.add_argument("--seed", type=int, help="repeats the spellings of a run")
    said = asked.parse_args()
    targets = said.targets or [*TARGETS, ROUTERS]
    broken = [name for name in targets if name != ROUTERS and not fuzzed(name, said.seconds)]
    if ROUTERS in targets and not compared(said.spellings, said.seed):
        broken.append(ROUTERS)
    if broken:
        sys.exit(f"broken: {', '.join(broken)}; crash-… holds the octets")


def compared(spellings: int, seed: int | None) -> bool:
    """Compare the gate with the frameworks' routers, and tell whether nothing leaked."""
    command = [sys.executable, "-m", "fuzz.routers", "--spellings", f"{spellings}"]
    seeds = [] if seed is None else ["--seed", f"{seed}"]
    return subprocess.run([*command, *seeds]).returncode == 0


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
