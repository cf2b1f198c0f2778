"""Open the WebSocket to the platform, for conversations that the gate carries.

Only this module uses `websockets`, which is imported when the first conversation starts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from xuna_middleware.errors import ConfigurationError, PlatformError
from xuna_middleware.platform.protocol import SUBPROTOCOL, PlatformConnection

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection, connect

#: Seconds: to open, and for the platform's part of a close.
_OPEN: Final = 10.0
_CLOSE: Final = 2.0
#: Frames that may wait in the queue; after that the platform has to wait.
_WAITING: Final = 8
_MISSING: Final = 'the relay needs websockets: pip install "xuna-middleware[relay]"'


async def open_line(url: str, *, max_frame: int, heeds_proxies: bool = True) -> PlatformConnection:
    """Open the WebSocket at a signed URL, which was checked and is kept secret.

    `heeds_proxies`: use the proxies that the environment names.

    Raises:
        PlatformError: 502, the platform refuses or can't be reached; 504, it takes too long.
        ConfigurationError: `websockets` is not installed.
    """
    failure: PlatformError
    try:
        proxy = True if heeds_proxies else None
        return _Line(await _dialling()(url, max_size=max_frame, proxy=proxy))
    except ConfigurationError:
        raise
    except TimeoutError:
        failure = PlatformError(
            cause="platform: the WebSocket took too long to open",
            status_code=504,
            code="platform_timeout",
        )
    except Exception as error:  # websockets' own and OSError; their texts may contain the URL
        failure = PlatformError(cause=f"platform: the WebSocket: {_why(error)}")
    raise failure


class _Line:
    """Carry frames over a connection of `websockets`; a `PlatformConnection`."""

    __slots__ = ("_connection", "_waiting", "recv", "send")

    def __init__(self, connection: "ClientConnection") -> None:
        self._connection = connection
        self._waiting = connection.transport.get_write_buffer_size
        # Bound methods without a wrapper, since each frame passes through these.
        self.recv: Callable[[], Awaitable[str | bytes]] = connection.recv
        self.send: Callable[[str], Awaitable[None]] = self._send

    async def _send(self, text: str) -> None:
        """Send a frame at once if the send buffer is empty; else as the library does, and wait.

        The library's own way costs more than everything else that the gate does with a frame. A
        closed connection raises in both.
        """
        if self._waiting():
            await self._connection.send(text)
            return
        self._connection.protocol.send_text(text.encode())
        self._connection.send_data()

    @property
    def ended(self) -> tuple[int, str] | None:
        protocol = self._connection.protocol
        if protocol.close_rcvd is None or not protocol.close_rcvd_then_sent:
            return None
        return int(protocol.close_rcvd.code), protocol.close_rcvd.reason

    async def close(self, code: int, reason: str) -> None:
        # The library's own timeout starts when everything is written, which a stuck platform can
        # prevent forever.
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * _CLOSE):
                await self._connection.close(code, reason)
        self._connection.transport.abort()


@cache
def _dialling() -> Callable[..., "connect"]:
    """Return the connecting class, created once.

    Raises:
        ConfigurationError: `websockets` is not installed.
    """
    try:
        from websockets.asyncio.client import connect
    except ImportError:
        raise ConfigurationError(_MISSING) from None

    class Dialling(connect):
        """Connect without following redirects: a signed URL is for one host."""

        def process_redirect(self, exc: Exception) -> Exception | str:
            return exc

    options: dict[str, Any] = {
        "subprotocols": [SUBPROTOCOL],
        "compression": None,
        "user_agent_header": "xuna-middleware",
        "open_timeout": _OPEN,
        "close_timeout": _CLOSE,
        "max_queue": _WAITING,
        "logger": _silent(),
    }
    return lambda url, **more: Dialling(url, **options, **more)


def check_installed() -> None:
    """Raise ConfigurationError if the relay can't work because `websockets` is missing."""
    _dialling()


def _silent() -> logging.Logger:
    """Return a silent logger: at DEBUG the library would log the signed URL."""
    return logging.Logger("xuna_middleware.line", logging.CRITICAL + 1)


def _why(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return type(error).__name__ if status is None else f"refused with status {status}"
