"""Declared kinds: additional restrictions on the value of a variable or override. Pure.

A kind says what is wrong with a value without repeating it, like all checks.
"""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, TypeAlias

from xuna_middleware.access.values.fields import MAX_TEXT, flag, number, scalar, too_long
from xuna_middleware.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Text:
    """A string with a maximum length in characters: `Text(40)`.

    `required`: a conversation without it, or with an empty one, is refused, before the platform
    would end it.

    Raises:
        ConfigurationError: the lengths are invalid.
    """

    max_length: int = MAX_TEXT
    _: KW_ONLY
    min_length: int = 0
    required: bool = False

    def __post_init__(self) -> None:
        lengths = self.min_length, self.max_length
        if any(type(one) is not int for one in lengths) or not (
            0 <= self.min_length <= self.max_length and 1 <= self.max_length <= MAX_TEXT
        ):
            raise ConfigurationError(f"Text takes lengths from 0 to {MAX_TEXT}: Text(40)")

    def check(self, value: Any) -> str | None:
        """Say what is wrong with a value; None where nothing is."""
        if not isinstance(value, str):
            return "must be a string"
        if self.required and not value:
            return "must not be empty"
        if len(value) < self.min_length:
            return f"must be at least {self.min_length} characters"
        return too_long(value, self.max_length)


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number between two inclusive bounds: `Number(0, 120, whole=True)`.

    Raises:
        ConfigurationError: the bounds are invalid.
    """

    minimum: float | None = None
    maximum: float | None = None
    _: KW_ONLY
    whole: bool = False
    required: bool = False

    def __post_init__(self) -> None:
        low, high = self.minimum, self.maximum
        if any(one is not None and number(one) for one in (low, high)) or (
            low is not None and high is not None and low > high
        ):
            raise ConfigurationError("Number takes two bounds, the lower first: Number(0, 120)")

    def check(self, value: Any) -> str | None:
        """Say what is wrong with a value; None where nothing is."""
        problem = number(value)
        if problem:
            return problem
        if self.whole and not float(value).is_integer():
            return "must be a whole number"
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return None if low <= value <= high else f"must be from {low:g} to {high:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """True or False."""

    required: bool = False

    def check(self, value: Any) -> str | None:
        """Say what is wrong with a value; None where nothing is."""
        return flag(value)


@dataclass(frozen=True, slots=True, init=False)
class OneOf:
    """One of these: `OneOf("de", "en")`. Types count: 1 is not True, and not "1".

    Raises:
        ConfigurationError: there are none, or one is not a string, number or boolean.
    """

    values: tuple[Any, ...]
    required: bool

    def __init__(self, *values: Any, required: bool = False) -> None:
        if not values or any(scalar(value) for value in values):
            raise ConfigurationError('OneOf takes what is allowed: OneOf("de", "en")')
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "required", required)

    def check(self, value: Any) -> str | None:
        """Say what is wrong with a value; None where nothing is."""
        is_one = any(type(one) is type(value) and one == value for one in self.values)
        return None if is_one else "must be one of the values that are allowed"


Kind: TypeAlias = Text | Number | Flag | OneOf
KINDS: Final = (Text, Number, Flag, OneOf)
