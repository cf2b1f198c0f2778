"""Secrets shared only with the platform, in a type that reveals them only for sending."""

import re
from typing import Any, Final

from xuna_middleware._core.hidden import Hidden
from xuna_middleware.errors import ConfigurationError

#: Characters of a key: visible ASCII, which a header value may contain (RFC 9110 5.5).
_VISIBLE: Final = re.compile(r"[!-~]+", re.ASCII)


class Secret(Hidden):
    """The platform's API key, or its signing secret; no rendering shows it, see `Hidden`."""

    __slots__ = ("_name",)

    def __init__(self, text: str, name: str = "API key") -> None:
        super().__init__(text)
        self._name = name

    def check(self, source: str) -> None:
        """Refuse a secret that can't be sent as a header. `source` says where it came from.

        Raises:
            ConfigurationError: it is no text, is empty, or contains white space, a control
                character or anything outside ASCII. The text shows no part of it.
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
