"""What is shared with the platform alone, in a type that shows it to nobody but the wire."""

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from xuna_middleware.errors import ConfigurationError

_MASK: Final = "Secret(***)"
#: What a header value may hold and a key has no reason not to: visible ASCII (RFC 9110 5.5).
_VISIBLE: Final = re.compile(r"[!-~]+", re.ASCII)


class Secret:
    """Hold the platform's API key, or what it signs with. Every rendering is the same mask.

    That is `repr`, `str`, `format`, `dataclasses.asdict`, a copy, and whatever walks over
    attributes: the text lies in a closure, not in one. Pickling it is refused.

    Does not check: against code in the same process that means to read it.
    """

    __slots__ = ("_name", "_reveal")

    def __init__(self, text: str, name: str = "API key") -> None:
        self._reveal: Callable[[], str] = lambda: text
        self._name = name

    def reveal(self) -> str:
        """Return the secret itself, for the one place that needs it."""
        return self._reveal()

    def check(self, source: str) -> None:
        """Refuse what could not travel as a header. `source` says where the secret came from.

        Raises:
            ConfigurationError: it is no text, is empty, or holds white space, a control character
                or anything outside ASCII. The text shows no part of it.
        """
        if not self._is_visible():
            raise ConfigurationError(
                f"{source}: the {self._name} must be visible ASCII characters only; look for "
                "quotes of another kind, a space or a line break that was copied along, and "
                "remove it"
            )

    def _is_visible(self) -> bool:
        text: Any = self._reveal()
        return isinstance(text, str) and _VISIBLE.fullmatch(text) is not None

    def __repr__(self) -> str:
        return _MASK

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return _MASK

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError("a secret is not pickled: hand the environment variable on instead")
