"""What the providers in this folder share: how they listen, say where, and are told things.

Each is a process of its own. It says who is registered in one line of JSON on its standard output,
answers a line that names a token by letting that token be over, and ends with its standard input.
"""

import json
import sys
import threading
from collections.abc import Callable
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, demo_app, make_server

#: Of a token, in seconds.
LIFETIME: Final = 600


class Quiet(WSGIRequestHandler):
    """Write no log: it would fill the pipe that nobody reads."""

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Leave it out."""


def listening() -> WSGIServer:
    """Return a server on a free loopback port; what it serves comes later."""
    return make_server("127.0.0.1", 0, demo_app, handler_class=Quiet)


def serve(server: WSGIServer, said: dict[str, Any], end_token: Callable[[str], None]) -> None:
    """Serve until the standard input ends."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps(said), flush=True)
    for line in sys.stdin:
        end_token(line.strip())
        print("{}", flush=True)
    server.shutdown()
