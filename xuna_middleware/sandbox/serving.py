"""Serve an ASGI app on loopback from the running event loop, for tests and the demo."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self

from starlette.types import ASGIApp

if TYPE_CHECKING:
    import uvicorn

_NEEDED: Final = ("uvicorn", "websockets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Hold a bound loopback port, so that its address is known before anything serves there.

    An OpenID provider needs that: its issuer is its address.
    """

    url: str
    listener: socket.socket = field(repr=False)

    @classmethod
    def reserve(cls, *, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Bind a port, a free one by default. Raises ValueError for a host beyond loopback."""
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else _literal(host))
        if not address.is_loopback:
            raise ValueError(f"the sandbox stays on this machine: {host} is not loopback")
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        bound = _bound(_tcp(family), str(address), port)
        shown = f"[{host}]" if address.version == 6 else host
        return cls(url=f"http://{shown}:{bound.getsockname()[1]}", listener=bound)

    def close(self) -> None:
        """Give the port back; `serve` does it by itself."""
        self.listener.close()


@asynccontextmanager
async def serve(app: ASGIApp, *, place: Place | None = None) -> AsyncIterator[str]:
    """Serve the app with uvicorn and yield its address, `http://127.0.0.1:<port>`.

    Runs in the running event loop, on a free port unless `place` has one, installs no signal
    handlers and stops cleanly: open WebSockets are closed, nothing is left behind.
    Raises RuntimeError where the app doesn't start, or where the `sandbox` extra is missing.
    """
    require_extra()
    place = Place.reserve() if place is None else place
    ready = asyncio.Event()
    server = _server(app, ready)
    running = asyncio.create_task(_run(server, place))
    try:
        await _started(server, running, ready)
        yield place.url
    finally:
        server.should_exit = True
        await asyncio.shield(running)
        place.close()


def require_extra(*more: str) -> None:
    """Raise RuntimeError, with the command that fixes it, where the extra is missing."""
    missing = [name for name in (*_NEEDED, *more) if find_spec(name) is None]
    if missing:
        raise RuntimeError(
            f"The sandbox's server needs {', '.join(missing)}: "
            'pip install "xuna-middleware[sandbox]"'
        )


def _tcp(family: socket.AddressFamily) -> socket.socket:
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer that is
    # written in two parts waits some 40 ms for the other side's acknowledgement.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def _server(app: ASGIApp, ready: asyncio.Event) -> "uvicorn.Server":
    """Return a server that leaves signals alone. It logs warnings only: URLs hold passes."""
    import uvicorn

    class Quiet(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            ready.set()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Quiet(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            ws="websockets-sansio",
            timeout_graceful_shutdown=2,
        )
    )


async def _run(server: "uvicorn.Server", place: Place) -> None:
    """Serve until it is told to stop. Uvicorn exits the process when a lifespan fails; we don't."""
    with suppress(SystemExit):
        await server.serve(sockets=[place.listener])


async def _started(
    server: "uvicorn.Server", running: asyncio.Task[None], ready: asyncio.Event
) -> None:
    """Wait until it serves, or until it has given up."""
    waiting = asyncio.create_task(ready.wait())
    await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not server.started:
        await running
        raise RuntimeError("the app did not start: see its lifespan")


def _literal(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        raise ValueError(f"the sandbox stays on this machine: {host} is not loopback") from None


def _bound(unbound: socket.socket, address: str, port: int) -> socket.socket:
    try:
        unbound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        unbound.bind((address, port))
    except BaseException:
        unbound.close()
        raise
    return unbound
