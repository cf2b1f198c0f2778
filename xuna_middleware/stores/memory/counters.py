"""How quotas are counted. Pure: no I/O, and the time is an argument.

What was taken of a quota is a small mapping from the time at which something comes back to how much
comes back then. A window has one such time, for all that is taken while it lasts; slots have one
for each reservation, rounded up to a fiftieth of their length, so that no quota, however large, has
more than some fifty of them; leases, which are held for less, have some fifty of their own. Times
are whole milliseconds of one clock.

`stores/redis/scripts.py` says the same in Lua, for Redis; the stores' contract runs on both.
"""

from typing import TypeAlias

from xuna_middleware.stores.protocol import Quota, step_of

Counts: TypeAlias = dict[int, int]
#: Counts, their sum, and the soonest of their ends; 0 where there are none.
Tally: TypeAlias = tuple[Counts, int, int]


def alive(counts: Counts, quota: Quota, now: int) -> Counts:
    """Return what is still taken. A time too far off, since the clock went back, is brought near
    (and kept so, where something is asked for): nobody waits for longer than a quota's time.
    """
    latest = now + quota.length + quota.step
    if not counts or (now < min(counts) and max(counts) <= latest):
        return counts
    still: Counts = {}
    for ends, taken in counts.items():
        if ends > now:
            near = min(ends, latest)
            still[near] = still.get(near, 0) + taken
    return still


def tally(counts: Counts, quota: Quota, now: int) -> Tally:
    """Return what is still taken, how much that is, and when the first of it comes back."""
    if len(counts) == 1:  # as a window has it, which is asked for most
        [(ends, taken)] = counts.items()
        if now < ends <= now + quota.length + quota.step:
            return counts, taken, ends
    still = alive(counts, quota, now)
    return still, sum(still.values()), min(still, default=0)


def take(counts: Counts, quota: Quota, now: int) -> int:
    """Take of counts that are alive, and return the mark."""
    ends = now + quota.held_length
    if quota.held_step:
        ends += -ends % quota.held_step
    elif counts:
        ends = max(counts)
    if quota.amount:
        counts[ends] = counts.get(ends, 0) + quota.amount
    return ends


def give_back(counts: Counts, mark: int, amount: int, now: int) -> None:
    """Give back an amount that comes back at `mark` anyway, unless that has passed."""
    if mark > now and mark in counts:
        counts[mark] = max(0, counts[mark] - amount)
        if not counts[mark]:
            del counts[mark]


def hold(counts: Counts, mark: int, amount: int, length: int, now: int) -> int:
    """Move what comes back at `mark` to so many milliseconds from now, and return the new mark. It
    is taken anew where it is gone; where another's has its mark by then, at the next time.
    """
    give_back(counts, mark, amount, now)
    ends = now + length
    ends += -ends % step_of(length)
    counts[ends] = counts.get(ends, 0) + amount
    return ends


def merge(counts: Counts, others: Counts) -> None:
    """Add what somebody else took."""
    for ends, taken in others.items():
        counts[ends] = counts.get(ends, 0) + taken
