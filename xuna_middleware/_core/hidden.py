"""A secret text, in a type that shows it only to the code that asks for it."""

from collections.abc import Callable
from typing import Any, NoReturn, Self


class Hidden:
    """Hold a secret text. Every rendering is the same mask.

    This covers `repr`, `str`, `format`, `dataclasses.asdict`, a copy, and code that walks over
    attributes: the text lies in a closure, not in an attribute. Pickling it is refused.

    Does not protect: against code in the same process that tries to read it.
    """

    __slots__ = ("_reveal",)

    def __init__(self, text: str) -> None:
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """Return the text itself, for the one place that needs it."""
        return self._reveal()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(***)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError("a secret is not pickled: hand the environment variable on instead")
