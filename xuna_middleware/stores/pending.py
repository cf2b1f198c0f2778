"""Select the open reservations that a refusal names. Pure: the time is an argument.

All open reservations of a principal are listed, the oldest first, since those end soonest. A
refusal names the oldest, and some more that change every few seconds: so an unused credential,
whose end the platform never reports, doesn't hide the others for long.

`stores/redis/scripts.py` does the same in Lua, for Redis; the stores' contract tests run on both.
"""

from collections.abc import Collection
from itertools import islice
from typing import Final

#: Of one principal. Reservations beyond these are not listed, and count in full unless the platform
#: reports their length by itself, or is asked at the last moment when they can be settled.
MOST_LISTED: Final = 10_000
#: How many of the oldest a refusal names, and how many more.
OLDEST: Final = 32
MORE: Final = 32
#: Milliseconds after which it names different ones.
TURN: Final = 5_000


def told(names: Collection[str], now: int) -> list[str]:
    """Return the oldest, and one page of the rest."""
    oldest = list(islice(names, OLDEST))
    pages = -(-(len(names) - OLDEST) // MORE)
    if pages <= 0:
        return oldest
    start = OLDEST + now // TURN % pages * MORE
    return [*oldest, *islice(names, start, start + MORE)]
