"""Which open reservations a refusal tells of. Pure: the time is an argument.

All of a principal's are listed, the oldest first, since those are over soonest. A refusal tells of
the oldest, and of some more, which change every few seconds: so a credential that nobody used, of
which the platform knows no end, stands before none for long.

`stores/redis/scripts.py` says the same in Lua, for Redis; the stores' contract runs on both.
"""

from collections.abc import Collection
from itertools import islice
from typing import Final

#: Of one principal. What comes when so many are open isn't told of, and counts in full unless the
#: platform says by itself how long it was, or is asked when it can be settled for the last time.
MOST_LISTED: Final = 10_000
#: How many of the oldest a refusal tells of, and how many more.
OLDEST: Final = 32
MORE: Final = 32
#: Milliseconds after which others are told of.
TURN: Final = 5_000


def told(names: Collection[str], now: int) -> list[str]:
    """Return the oldest, and one page of the rest."""
    oldest = list(islice(names, OLDEST))
    pages = -(-(len(names) - OLDEST) // MORE)
    if pages <= 0:
        return oldest
    start = OLDEST + now // TURN % pages * MORE
    return [*oldest, *islice(names, start, start + MORE)]
