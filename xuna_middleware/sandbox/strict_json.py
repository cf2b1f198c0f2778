"""JSON as RFC 8259 has it: what is read here can be written again as UTF-8, and costs little."""

import json
import math
from typing import Any, Final, NoReturn

#: Objects, lists and values of one text; brackets and commas in strings are not counted.
MOST_CONTAINERS: Final = 1_000
MOST_VALUES: Final = 10_000


def loads(text: str | bytes | bytearray) -> Any:
    """Return the value. Raises ValueError.

    Refuses NaN and Infinity, numbers beyond a double or of more than 64 digits, lone surrogates,
    nesting too deep, and more than 1,000 objects and lists or 10,000 values.
    """
    _check_work(text if isinstance(text, str) else bytes(text).decode())
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def _check_work(text: str) -> None:
    if _holds_more(text):
        outside = text.replace("\\\\", "").replace('\\"', "").split('"', 4 * MOST_VALUES)[::2]
        if _holds_more("".join(outside)):
            raise ValueError("too many values")


def _holds_more(text: str) -> bool:
    opened = text.count("{") + text.count("[")
    return opened > MOST_CONTAINERS or opened + text.count(",") > MOST_VALUES


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > 64:
        raise ValueError("a number of too many digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond a double")
    return number
