"""Count quotas. Pure: no I/O, and the time is an argument.

The usage of a quota is a small mapping from the time at which something comes back to how much
comes back then. A window has one such time, for everything taken during it; slots have one for
each reservation, rounded up to a fiftieth of their length, so that no quota, however large, has
more than about fifty of them; leases, which are shorter, have about fifty in addition. Times are
whole milliseconds of one clock.

`stores/redis/scripts.py` does the same in Lua, for Redis; the stores' contract tests run on both.
"""

from typing import TypeAlias

from xuna_middleware.stores.protocol import Quota, step_of

Counts: TypeAlias = dict[int, int]
#: Counts, their sum, and the earliest of their ends; 0 where there are none.
Tally: TypeAlias = tuple[Counts, int, int]


def alive(counts: Counts, quota: Quota, now: int) -> Counts:
    """Return the counts that are still taken. A time too far ahead, because the clock went back, is
    moved closer (and stays so if something is taken): nobody waits longer than a quota's time.
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
    """Return the counts that are still taken, their sum, and when the first comes back."""
    if len(counts) == 1:  # a window, the most frequent case
        [(ends, taken)] = counts.items()
        if now < ends <= now + quota.length + quota.step:
            return counts, taken, ends
    still = alive(counts, quota, now)
    return still, sum(still.values()), min(still, default=0)


def take(counts: Counts, quota: Quota, now: int) -> int:
    """Take from counts that are alive, and return the mark."""
    ends = now + quota.held_length
    if quota.held_step:
        ends += -ends % quota.held_step
    elif counts:
        ends = max(counts)
    if quota.amount:
        counts[ends] = counts.get(ends, 0) + quota.amount
    return ends


def give_back(counts: Counts, mark: int, amount: int, now: int) -> None:
    """Give back an amount that is due at `mark`, unless that time has passed."""
    if mark > now and mark in counts:
        counts[mark] = max(0, counts[mark] - amount)
        if not counts[mark]:
            del counts[mark]


def hold(counts: Counts, mark: int, amount: int, length: int, now: int) -> int:
    """Move an amount from `mark` to `length` milliseconds from now, and return the new mark. An
    amount that is gone is taken again; at the next renewal if another one has its mark meanwhile.
    """
    give_back(counts, mark, amount, now)
    ends = now + length
    ends += -ends % step_of(length)
    counts[ends] = counts.get(ends, 0) + amount
    return ends


def merge(counts: Counts, others: Counts) -> None:
    """Add another principal's counts."""
    for ends, taken in others.items():
        counts[ends] = counts.get(ends, 0) + taken
