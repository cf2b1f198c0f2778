"""uvicorn, hypercorn and granian: processes of their own, on free ports, stopped by their id."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
PROC: Final = Path("/proc")
#: Not a token of anybody's: it must not turn up in any log.
TOKEN: Final = "canary-b7f1c2d9-token"
#: In seconds: to start, and to stop.
PATIENCE: Final = 30


class ServerDiedError(Exception):
    """Say that a server ended before it served, with what it wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Say how an app of `served.py`, or of another module here, is served.

    `environment` is what the module reads beside what `served.py` says; `more` are options of the
    server's own.
    """

    app: str = "app"
    root_path: str = ""
    lifespan: bool = True
    module: str = "served"
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: int = 1
    more: Sequence[str] = ()

    @property
    def workers_option(self) -> list[str]:
        return [] if self.workers == 1 else ["--workers", f"{self.workers}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Hold a server that answers on loopback."""

    port: int
    log: Path
    journal: Path
    process: "subprocess.Popen[bytes]" = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def noted(self) -> list[str]:
        """Return what the gate's verifier noted so far."""
        return self.journal.read_text(encoding="utf-8").split() if self.journal.exists() else []

    def is_gone(self) -> bool:
        """Tell whether nothing of the server's session is left in a while, workers included."""
        deadline = time.monotonic() + PATIENCE
        while _lives(self.process.pid) and time.monotonic() < deadline:
            select.select([], [], [], 0.02)
        return not _lives(self.process.pid)


def _lives(group: int) -> bool:
    """Tell whether a process of this group runs; what nobody has reaped yet does not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return not PROC.exists() or any(_runs_in(group, each) for each in PROC.glob("[0-9]*/stat"))


def _runs_in(group: int, stat: Path) -> bool:
    try:
        state, _, its_group = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
    except OSError:
        return False  # it ended meanwhile
    return its_group == f"{group}" and state not in "ZX"


def uvicorn(ws: str) -> Callable[[int, Options], list[str]]:
    def command(port: int, options: Options) -> list[str]:
        lifespan = "on" if options.lifespan else "off"
        address = ["--host", "127.0.0.1", "--port", f"{port}", "--root-path", options.root_path]
        return [
            "uvicorn",
            f"{options.module}:{options.app}",
            *address,
            "--ws",
            ws,
            "--lifespan",
            lifespan,
            *options.workers_option,
            *options.more,
        ]

    return command


def hypercorn(port: int, options: Options) -> list[str]:
    """Return its command; it always tries the lifespan."""
    address = ["--bind", f"127.0.0.1:{port}", "--root-path", options.root_path]
    return [
        "hypercorn",
        f"{options.module}:{options.app}",
        *address,
        "--access-logfile",
        "-",
        *options.workers_option,
    ]


def granian(port: int, options: Options) -> list[str]:
    prefix = ["--url-path-prefix", options.root_path] if options.root_path else []
    interface = "asgi" if options.lifespan else "asginl"
    address = ["--host", "127.0.0.1", "--port", f"{port}", *prefix, "--interface", interface]
    return [
        "granian",
        f"{options.module}:{options.app}",
        *address,
        "--access-log",
        *options.workers_option,
    ]


def daphne(port: int, options: Options) -> list[str]:
    """Return its command; it knows no lifespan and no workers."""
    return ["daphne", "-b", "127.0.0.1", "-p", f"{port}", f"{options.module}:{options.app}"]


SERVERS: Final[Mapping[str, Callable[[int, Options], list[str]]]] = {
    "uvicorn": uvicorn("websockets-sansio"),
    "uvicorn, wsproto": uvicorn("wsproto"),
    "uvicorn, websockets": uvicorn("websockets"),
    "hypercorn": hypercorn,
    "granian": granian,
}
#: Where the relay refuses to work.
NO_RELAY: Final[Mapping[str, Callable[[int, Options], list[str]]]] = {
    "uvicorn, websockets": uvicorn("websockets"),
    "daphne": daphne,
}


@contextmanager
def running(server: str, directory: Path, **options: Any) -> Iterator[Running]:
    """Run a server until the block ends, then ask it to stop and wait for it."""
    started = _start({**SERVERS, **NO_RELAY}[server], directory, Options(**options))
    try:
        wait_until_it_listens(started.port, started.process, started.log)
        if server == "granian":
            _wait_for_workers(started, Options(**options).workers)
        yield started
    finally:
        _stop(started)


def _start(
    command: Callable[[int, Options], list[str]], directory: Path, options: Options
) -> Running:
    port, log, journal = free_port(), directory / "log", directory / "journal"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE}{os.pathsep}{ROOT}",
        "SERVED_JOURNAL": str(journal),
        "SERVED_TOKEN": TOKEN,
        "SERVED_PORT": f"{port}",
        **options.environment,
    }
    environment.pop("XUNA_AI_API_KEY", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command(port, options)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(port=port, log=log, journal=journal, process=process)


def wait_until_it_listens(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return once a server takes connections.

    Raises:
        ServerDiedError: it ended, or took too long.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            _pause_while_it_lives(process, log)
        else:
            return
    raise ServerDiedError(f"does not listen after {PATIENCE} s: {log.read_text()}")


def _wait_for_workers(server: Running, workers: int) -> None:
    """Return once each worker of granian serves.

    granian 2.8 forks its workers, which import the app with the supervisor's signal handler: a
    SIGTERM meanwhile is lost, and the supervisor waits for that worker without end.
    """
    deadline = time.monotonic() + PATIENCE
    while server.log.read_bytes().count(b"Started worker-") < workers:
        if time.monotonic() > deadline:
            raise ServerDiedError(f"workers are missing: {server.log.read_text()}")
        _pause_while_it_lives(server.process, server.log)


def _pause_while_it_lives(process: "subprocess.Popen[bytes]", log: Path) -> None:
    try:
        process.wait(0.02)
    except subprocess.TimeoutExpired:
        return
    raise ServerDiedError(log.read_text(encoding="utf-8"))


def _stop(server: Running) -> None:
    """Ask for a graceful stop; a server that doesn't is ended with all of its session."""
    if server.process.poll() is None:
        server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()
        raise


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
