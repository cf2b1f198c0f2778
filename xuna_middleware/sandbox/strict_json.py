"""JSON as RFC 8259 has it: what is read here can be written again as UTF-8."""

import json
import math
from typing import Any, NoReturn


def loads(text: str | bytes | bytearray) -> Any:
    """Return the value. Raises ValueError.

    Refuses NaN and Infinity, numbers beyond a double, lone surrogates, and nesting too deep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond a double")
    return number
