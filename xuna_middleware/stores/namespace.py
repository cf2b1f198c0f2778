"""The name of a gate: it separates a gate's store entries and signatures from other gates'.

Gates with the same name are one gate to the store: they share limits, revocations, sessions,
tickets, used proofs and visitors. Gates with different names share nothing, even in one Redis or
with one secret.
"""

import re
from typing import Final, Protocol, runtime_checkable

from xuna_middleware.errors import ConfigurationError

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_RULE: Final = (
    "1 to 64 lower-case letters, digits, - and _, a letter first, such as "
    'namespace="acme-voice-production"'
)


@runtime_checkable
class Named(Protocol):
    """Name the gate that a store belongs to. A custom store may do so with an attribute."""

    @property
    def namespace(self) -> str:
        """The gate's name; "" where none was given."""


def namespace_of(store: object) -> str:
    """Return the name of the gate that a store belongs to, "" where it has none."""
    name: object = store.namespace if isinstance(store, Named) else ""
    return name if isinstance(name, str) else ""


def checked_namespace(name: object, owner: str) -> str:
    """Return a gate's name, as given in an option of `owner`.

    Raises:
        ConfigurationError: there is none, or it isn't a valid name.
    """
    if name is None:
        raise ConfigurationError(
            f"{owner} needs the name of its gate, {_RULE}: all that is kept under it belongs to "
            "that gate. Processes of one gate say the same name, and so do gates that mean to "
            "share limits, revocations and tickets; any other gate says another"
        )
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{owner}(namespace=…) must be {_RULE}")
    return name
