"""Detect async callables among those that users pass in."""

import inspect
from functools import partial


def is_async(function: object) -> bool:
    """Return whether this is an async function, or an object or partial whose call is async."""
    while isinstance(function, partial):
        function = function.func
    call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
