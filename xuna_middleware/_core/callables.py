"""What users hand over to be called: is it async?"""

import inspect
from functools import partial


def is_async(function: object) -> bool:
    """Tell an async function, or an object or partial whose call is one."""
    while isinstance(function, partial):
        function = function.func
    call = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
