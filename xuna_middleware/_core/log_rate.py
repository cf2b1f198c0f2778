"""Limit log lines that requests can cause to one a second per subject, so no disk fills up."""

import time
from collections.abc import Callable
from typing import Final

_SECONDS_BETWEEN: Final = 1.0
_MOST_SUBJECTS: Final = 256
#: The common subject of all new ones once one second has that many subjects.
_FURTHER: Final = ""


class Paced:
    """Decide which lines to write: at most 257 a second, however many subjects there are."""

    __slots__ = ("_clock", "_last")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        #: When the last line about a subject was written, and how many were dropped since.
        self._last: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._last)

    def admit(self, subject: str) -> str | None:
        """Return the text to append to a line about a subject; None to drop the line.

        The text is empty, or says how many were dropped since the last one.
        """
        now = self._clock()
        if subject not in self._last and len(self._last) >= _MOST_SUBJECTS:
            self._forget(now)
            if len(self._last) >= _MOST_SUBJECTS:
                subject = _FURTHER
        written_at, left_out = self._last.get(subject, (None, 0))
        if written_at is not None and 0 <= now - written_at < _SECONDS_BETWEEN:
            self._last[subject] = (written_at, left_out + 1)
            return None
        self._last[subject] = (now, 0)
        return f" ({left_out} more since the last)" if left_out else ""

    def _forget(self, now: float) -> None:
        """Delete subjects whose second is over; add their dropped lines to the further ones."""
        over = [
            subject
            for subject, (written_at, _) in self._last.items()
            if not 0 <= now - written_at < _SECONDS_BETWEEN and subject != _FURTHER
        ]
        left_out = sum(self._last.pop(subject)[1] for subject in over)
        if left_out:
            written_at, before = self._last.get(_FURTHER, (now - _SECONDS_BETWEEN, 0))
            self._last[_FURTHER] = (written_at, before + left_out)
