"""Find the root paths that a wrapped app was given itself, whatever stands around it.

An app with a root path of its own serves each path under a second name: with
`FastAPI(root_path="/v1")`, `/v1/api` is `/api`, whatever the server says. No interface tells it, so
the app is looked through: its attributes, what these hold, and what functions close over or name.
"""

import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Final

#: How many objects are looked at, the nearest first.
_MOST: Final = 5_000
_LEAVES: Final = (str, bytes, int, float, type, ModuleType)


def own_root_path(app: object) -> str:
    """Return the root path of the app itself, "" where it has none; `.app` leads to it."""
    for _ in range(20):
        found = _root_path(app)
        if found:
            return found
        app = getattr(app, "app", None)
    return ""


def root_paths_within(app: object) -> tuple[str, ...]:
    """Return the root paths of all apps that an app holds.

    Does not find: what is made at a request, or held in slots or by C code.
    """
    seen, queue, found = {id(app)}, deque([app]), dict[str, None]()
    while queue and len(seen) < _MOST:
        each = queue.popleft()
        root_path = _root_path(each)
        if root_path:
            found[root_path] = None
        for held in _held(each):
            if id(held) not in seen and not isinstance(held, _LEAVES):
                seen.add(id(held))
                queue.append(held)
    return tuple(found)


def _root_path(app: object) -> str:
    root_path: object = getattr(app, "__dict__", {}).get("root_path")
    if any(kind.__module__.startswith("django.") for kind in type(app).__mro__):
        settings = getattr(sys.modules.get("django.conf"), "settings", None)
        if settings is not None and settings.configured:
            root_path = settings.FORCE_SCRIPT_NAME
    return root_path if isinstance(root_path, str) else ""


def _held(each: object) -> Iterator[object]:
    """Yield what an object holds."""
    if isinstance(each, dict):
        yield from list(each.values())
    elif isinstance(each, list | tuple | set | frozenset):
        yield from list(each)
    elif isinstance(each, partial):
        yield from (each.func, *each.args, *each.keywords.values())
    elif isinstance(each, MethodType):
        yield each.__self__
    elif isinstance(each, FunctionType):
        yield from _enclosed(each)
    else:
        yield from list(getattr(each, "__dict__", {}).values())


def _enclosed(function: FunctionType) -> Iterator[object]:
    """Yield what a function closes over, and the globals that it names."""
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__dict__.values()
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield function.__globals__[name]
