"""ASGI servers that can't carry a relayed conversation, since they buffer too much client data.

While the gate waits for the platform, for a provider or for a first frame, it reads nothing from
the client. The server must then stop reading the socket. Measured figures are in docs/relay.md.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

#: The module of each such server, and the fix.
UNFIT: Final[Mapping[str, str]] = {
    "uvicorn.protocols.websockets.websockets_impl": (
        "uvicorn's --ws websockets holds up to 32 frames of 16 MiB of a client that is not read; "
        "start uvicorn with --ws websockets-sansio (uvicorn 0.35 or later) or --ws wsproto"
    ),
    "daphne.server": (
        "daphne holds whatever a client sends that is not read, without a bound; "
        "serve the relay with uvicorn, hypercorn or granian"
    ),
}
#: How many wrappers around the server's own functions are inspected.
_MOST_WRAPPERS: Final = 64


def unfit_server(receive: Callable[..., Any], send: Callable[..., Any]) -> str | None:
    """Return the problem with the server of this WebSocket, and the fix; None if it is suitable.

    The scope doesn't name the server. It is found by the coroutine that the server's task runs,
    which no middleware changes, and by the functions in `receive` and `send`, including wrappers.
    Does not check: wrappers that are objects, if the task isn't the server's: a middleware's task,
    or any of daphne's, which runs the app itself.
    """
    named = {_module_of_task(), *_modules_behind(receive), *_modules_behind(send)}
    return next((fix for module, fix in UNFIT.items() if module in named), None)


def unfit_servers_loaded() -> tuple[str, ...]:
    """Return the same for the servers that this process may run, as far as known at the start.

    Django loads daphne if it is one of its INSTALLED_APPS, whichever server runs; then only a
    conversation shows which one it is.
    """
    serves = {module: module in sys.modules for module in UNFIT}
    serves["daphne.server"] = "daphne.cli" in sys.modules
    return tuple(fix for module, fix in UNFIT.items() if serves[module])


def _module_of_task() -> str | None:
    task = asyncio.current_task()
    frame = getattr(None if task is None else task.get_coro(), "cr_frame", None)
    return None if frame is None else frame.f_globals.get("__name__")


def _modules_behind(function: Callable[..., Any]) -> Iterator[str]:
    """Yield the modules of the objects whose methods a function is, or calls."""
    found, seen = [function], 0
    while found and seen < _MOST_WRAPPERS:
        each, seen = found.pop(), seen + 1
        if isinstance(each, partial):
            found.extend(filter(callable, (each.func, *each.args, *each.keywords.values())))
            continue
        owner = getattr(each, "__self__", None)
        if owner is not None:
            yield type(owner).__module__
        cells = getattr(each, "__closure__", None) or ()
        found.extend(cell.cell_contents for cell in cells if _is_callable(cell))


def _is_callable(cell: Any) -> bool:
    try:
        return callable(cell.cell_contents)
    except ValueError:  # an empty cell
        return False
