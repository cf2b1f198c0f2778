"""Single fields of personalization: valid names and values, and the checks for them.

Pure. A check says what is wrong without repeating the value, so that its text can be logged.
"""

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from xuna_middleware.errors import ConfigurationError

#: Returns what is wrong with a value, without repeating it, or None.
Check: TypeAlias = Callable[[Any], str | None]

MAX_VARIABLES: Final = 64
#: Characters of one variable's text, and of the names and texts of all variables together.
MAX_TEXT: Final = 4_096
MAX_ALL_TEXT: Final = 16_384
#: Beyond it, JSON parsers that use only doubles lose digits (RFC 8259 section 6).
MAX_INTEGER: Final = 2**53

_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
#: NUL, and surrogates, which UTF-8 can't encode.
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")


def scalar(value: Any) -> str | None:
    """Check the value of a dynamic variable: bounded text, finite number or boolean."""
    if isinstance(value, str):
        return too_long(value, MAX_TEXT)
    if isinstance(value, bool):
        return None
    return number(value) and f"must be a string, boolean or finite number{_not_a(value)}"


def number(value: Any) -> str | None:
    """Check a finite number that every JSON parser preserves; a boolean isn't a number."""
    if isinstance(value, float) and math.isfinite(value):
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER:
        return None
    return f"must be a finite number{_not_a(value)}"


def flag(value: Any) -> str | None:
    """Check a boolean."""
    return None if isinstance(value, bool) else f"must be True or False{_not_a(value)}"


def text(limit: int) -> Check:
    """Return the check of a non-empty text of at most `limit` characters."""

    def check(value: Any) -> str | None:
        if not isinstance(value, str) or not value:
            return f"must be a non-empty string{_not_a(value)}; leave out what is not set"
        return too_long(value, limit)

    return check


#: The platform's overrides, by path, each with the check of its value.
OVERRIDES: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "agent.first_message": text(4_096),
        "agent.language": text(64),
        "agent.prompt.llm": text(128),
        "agent.prompt.prompt": text(32_768),
        "conversation.text_only": flag,
        "tts.model_id": text(128),
        "tts.similarity_boost": number,
        "tts.speed": number,
        "tts.stability": number,
        "tts.voice_id": text(128),
    }
)


def is_variable_name(name: Any) -> bool:
    """Return whether this is 1 to 64 of `A-Z a-z 0-9 _`, not starting with a digit."""
    return isinstance(name, str) and _VARIABLE_NAME.fullmatch(name) is not None


def is_reserved(name: str) -> bool:
    """Return whether variables with this name are reserved for the platform."""
    return name.lower().startswith("system__")


def is_secret(name: str) -> bool:
    """Return whether variables with this name reach only tool headers, and come from the server."""
    return name.lower().startswith("secret__")


def too_much(variables: Mapping[str, Any]) -> bool:
    """Return whether these are more variables, or more text, than one conversation may have."""
    texts = (len(value) for value in variables.values() if isinstance(value, str))
    return len(variables) > MAX_VARIABLES or sum(map(len, variables)) + sum(texts) > MAX_ALL_TEXT


def both(first: Check, second: Check) -> Check:
    """Return a check that passes only if both checks pass."""
    return lambda value: first(value) or second(value)


def variable_check(name: Any) -> Check:
    """Return the check of a configured variable's value, or refuse its name."""
    if not is_variable_name(name):
        raise ConfigurationError(
            f"the variable name {name!r} must be 1 to 64 of A-Z a-z 0-9 _ and start with no digit"
        )
    if is_reserved(name):
        raise ConfigurationError(f"{name!r} is the platform's own: system__… can't be configured")
    return scalar


def override_check(path: Any) -> Check:
    """Return the check of a configured override's value, or refuse its path."""
    if path not in OVERRIDES:
        raise ConfigurationError(f"{path!r} is no override; there are {', '.join(OVERRIDES)}")
    return OVERRIDES[path]


def too_long(value: str, limit: int) -> str | None:
    """Check a text's length, and that it can be sent."""
    if len(value) > limit:
        return f"must be at most {limit} characters"
    return "must hold no NUL and no lone surrogate" if _UNFIT.search(value) else None


def _not_a(value: Any) -> str:
    return f", not a {type(value).__name__}"
