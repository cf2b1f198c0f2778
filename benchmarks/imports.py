"""Measure what importing costs, each time in a fresh process, the subjects taking turns.

CPU is `time.process_time()` around the import alone, the interpreter's own start left out; memory
is the process's peak (VmHWM), the interpreter's own included. Byte code is warm. httpx
loads click and rich where they are, for its command line; here they come with development tools,
and who installs the package alone has neither, so they are hidden from every subject.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent

PACKAGE = "from xuna_middleware import *"
PARTS = "the modules it stands on"
LITERALLY = "import starlette, httpx, joserfc"
BUILT = "the package, and a gate that is built"
NOTHING = "nothing (Python alone)"

SUBJECTS: Final[Mapping[str, str]] = {
    NOTHING: "pass",
    LITERALLY: LITERALLY,
    PARTS: (
        "import starlette.requests, starlette.responses, starlette.middleware.cors; "
        "import httpx, joserfc.jwk, joserfc.jws"
    ),
    PACKAGE: PACKAGE,
    BUILT: (
        "from xuna_middleware import *; XunaGate(verifier=JWTVerifier("
        "issuer='https://a.example', audience='b', jwks_uri='https://a.example/keys'), "
        "agents=[Agent('a', id='agent_a')], platform=XunaPlatform(api_key='benchmark'))"
    ),
}

CHILD: Final = """
import resource, sys, time
sys.modules["click"] = sys.modules["rich"] = None
started = time.process_time()
{statement}
spent = time.process_time() - started
try:
    status = open("/proc/self/status").read()
    peak = int(status.split("VmHWM:")[1].split()[0])
except (OSError, IndexError):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
        1024 if sys.platform == "darwin" else 1
    )
print(spent, peak, len(sys.modules))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Hold medians: CPU milliseconds, peak MiB, modules loaded."""

    cpu: float
    peak: float
    modules: int


def imports(*, rounds: int) -> dict[str, Import]:
    """Import every subject `rounds` times, one after the other in each round."""
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SUBJECTS}
    for number in range(rounds + 1):
        for name, statement in SUBJECTS.items():
            sample = _in_a_fresh_process(statement)
            if number:  # the first round writes byte code and fills the page cache
                seen[name].append(sample)
    return {name: _medians(samples) for name, samples in seen.items()}


def _in_a_fresh_process(statement: str) -> tuple[float, float, float]:
    child = [sys.executable, "-c", CHILD.format(statement=statement)]
    out = subprocess.run(child, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    spent, peak, modules = map(float, out.split())
    return spent, peak, modules


def _medians(samples: list[tuple[float, float, float]]) -> Import:
    cpu, peak, modules = (median(column) for column in zip(*samples, strict=True))
    return Import(cpu=cpu * 1000, peak=peak / 1024, modules=int(modules))
