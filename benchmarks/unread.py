"""How much servers hold of a WebSocket that one side doesn't read; `-m benchmarks.unread`.

The app reads nothing and the client sends, or the app sends and the client reads nothing: how much
the server's process grows says what one such connection can cost. The app is the barest one, so it
is the server that is measured.
"""

import asyncio
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.servers import free_port, serving

MEBIBYTE: Final = 1024 * 1024
#: Seconds for which one connection is not read.
UNREAD: Final = 4.0
_KIB_64: Final = "x" * 65_536
_APP: Final = "benchmarks.unread:app"
_LIMIT: Final = "1048576"
#: What a client sends: a frame, and whether it is compressed.
SENT: Final[Mapping[str, tuple[str, str | None]]] = {
    "64 KiB": (_KIB_64, None),
    "1 MB": ("x" * 1_000_000, None),
    "15 MB": ("x" * 15_000_000, None),
    "15 MB, compressed": ("x" * 15_000_000, "deflate"),
}
_UVICORN: Final = ("uvicorn", _APP, "--port", "{port}", "--log-level", "critical", "--ws")
_HYPERCORN: Final = ("hypercorn", _APP, "--bind", "127.0.0.1:{port}")
SERVERS: Final[Mapping[str, tuple[str, ...]]] = {
    "uvicorn, websockets-sansio": (*_UVICORN, "websockets-sansio"),
    "the same, --ws-max-size 1 MiB": (*_UVICORN, "websockets-sansio", "--ws-max-size", _LIMIT),
    "uvicorn, wsproto": (*_UVICORN, "wsproto"),
    "granian": ("granian", _APP, "--port", "{port}", "--interface", "asgi"),
    "hypercorn": _HYPERCORN,
    "the same, websocket_max_message_size 1 MiB": (*_HYPERCORN, "--config", "{limits}"),
    "uvicorn, websockets": (*_UVICORN, "websockets"),
    "the same with --ws-max-size 1 MiB": (*_UVICORN, "websockets", "--ws-max-size", _LIMIT),
    "daphne": ("daphne", "-b", "127.0.0.1", "-p", "{port}", _APP),
}
Message = MutableMapping[str, Any]
_pushed = 0


async def app(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Accept, and read nothing or send for ever; by HTTP, tell the memory and what was sent."""
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})
    elif scope["type"] == "http":
        body = json.dumps([_memory(), _pushed]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        with suppress(Exception, TimeoutError):
            async with asyncio.timeout(UNREAD + 2):
                await (_push(send) if scope["path"] == "/push" else asyncio.sleep(UNREAD + 1))


def _memory() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def _push(send: Callable[[Message], Awaitable[None]]) -> None:
    global _pushed
    while True:
        await send({"type": "websocket.send", "text": _KIB_64})
        _pushed += len(_KIB_64)
        await asyncio.sleep(0)


async def state(port: int) -> tuple[int, int]:
    """Return the server's memory in bytes, and how many its app could send."""

    def ask() -> tuple[int, int]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            memory, pushed = json.load(answer)
        return memory, pushed

    return await asyncio.to_thread(ask)


async def unread(port: int, path: str, frame: str, compression: str | None) -> tuple[float, float]:
    """Return by how many MiB the server grew while nobody read, and how many its app sent."""
    for _ in range(3):
        before, _ = await state(port)
    peak, pushed = before, 0
    options: dict[str, Any] = {"compression": compression, "ping_interval": None, "max_queue": 1}
    async with connect(
        f"ws://127.0.0.1:{port}{path}", proxy=None, close_timeout=0.2, max_size=None, **options
    ) as client:
        if path == "/push":
            client.transport.pause_reading()
        sending = asyncio.ensure_future(_send(client, frame) if frame else asyncio.sleep(0))
        for _ in range(int(UNREAD / 0.2)):
            await asyncio.sleep(0.2)
            memory, pushed = await state(port)
            peak = max(peak, memory)
        sending.cancel()
        client.transport.abort()
    return (peak - before) / MEBIBYTE, pushed / MEBIBYTE


async def _send(client: ClientConnection, frame: str) -> None:
    with suppress(ConnectionClosed):
        while True:
            await client.send(frame)


def _command(name: str, port: int, limits: Path) -> list[str]:
    limits.write_text(f"websocket_max_message_size = {_LIMIT}\n")
    return [
        sys.executable,
        "-m",
        *(each.format(port=port, limits=limits) for each in SERVERS[name]),
    ]


async def measured(name: str, path: str, frame: str, compression: str | None) -> str:
    """Return one cell: each with a server of its own."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = _command(name, port, Path(folder, "limits.toml"))
        with serving(command, port):
            try:
                grown, pushed = await unread(port, path, frame, compression)
            except (OSError, WebSocketException) as error:
                return type(error).__name__
    return f"{grown:.0f}" if frame else f"{grown:.0f} ({pushed:.0f} sent)"


async def main() -> None:
    """Print a table, in MiB."""
    columns = [("/", frame, compression) for frame, compression in SENT.values()]
    print("| server |", " | ".join(SENT), "| a client that reads nothing |", flush=True)
    print("|---|" + "---|" * (len(columns) + 1))
    for name in sys.argv[1:] or SERVERS:
        cells = [await measured(name, *column) for column in [*columns, ("/push", "", None)]]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
