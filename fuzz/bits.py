"""Turn a fuzzer's octets into choices, so that it bends structures rather than breaks brackets."""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

_ODD: Final = (
    None, True, False, 0, -1, 1, 1.5, 2**53, -(2**63), 1e300, "", "a", "é", "\x00", "\ud800",
    "x" * 300, [], {}, [""], [None], {"a": {}},
)  # fmt: skip


class Bits:
    """Read choices from octets; when they are used up, the first choice of each is taken."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, below: int) -> int:
        """Return a number from 0 to below what is given."""
        octet = self._data[self._at] if self._at < len(self._data) else 0
        self._at += 1
        return octet % below

    def choice(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def octets(self, most: int = 64) -> bytes:
        length = self.number(most + 1)
        taken = self._data[self._at : self._at + length]
        self._at += length
        return taken

    def rest(self) -> bytes:
        taken = self._data[self._at :]
        self._at = len(self._data)
        return taken

    def text(self, most: int = 32) -> str:
        return self.octets(most).decode("utf-8", "surrogateescape")

    def value(self, depth: int = 3) -> Any:
        """Return something that JSON can say, odd ones more often than not."""
        kind = self.number(8)
        if kind == 0 and depth:
            return [self.value(depth - 1) for _ in range(self.number(4))]
        if kind == 1 and depth:
            return {self.text(8): self.value(depth - 1) for _ in range(self.number(4))}
        if kind == 2:
            return self.text()
        return self.choice(_ODD)
