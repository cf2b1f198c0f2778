"""What every store promises, shown on each of them."""

import asyncio
import secrets
from typing import Any

import pytest

from xuna_middleware.stores import (
    Charge,
    MergeUsage,
    OverBudgetError,
    PendingSettlement,
    Quota,
    Region,
    Store,
)
from xuna_middleware.stores.protocol import taken_parts


class StoreContract:
    """Subclasses give the fixture `store`."""

    async def test_first_put_wins(self, store: Store) -> None:
        """The second is told that it was late, and changes nothing."""
        key = new_key()
        assert await store.put(key, b"first", 60, Region.TICKETS) is True
        assert await store.put(key, b"second", 60, Region.TICKETS) is False
        assert await store.take(key) == b"first"

    async def test_take_once(self, store: Store) -> None:
        """Taken is gone; what was never there is nothing; the key may be used again."""
        key = new_key()
        assert await store.take(key) is None
        await store.put(key, b"value", 60, Region.TICKETS)
        assert await store.take(key) == b"value"
        assert await store.take(key) is None
        assert await store.put(key, b"again", 60, Region.TICKETS) is True

    async def test_keys_are_apart(self, store: Store) -> None:
        """A value is its key's own."""
        one, other = new_key(), new_key()
        await store.put(one, b"1", 60, Region.TICKETS)
        await store.put(other, b"2", 60, Region.TICKETS)
        assert (await store.take(other), await store.take(one)) == (b"2", b"1")

    async def test_any_octets(self, store: Store) -> None:
        """Values come back as they were."""
        key, value = new_key(), bytes(range(256))
        await store.put(key, value, 60, Region.TICKETS)
        assert await store.take(key) == value

    async def test_of_many_at_once_one_puts(self, store: Store) -> None:
        """However many try in parallel, exactly one is first."""
        key = new_key()
        told = await asyncio.gather(*(store.put(key, b"", 60, Region.TICKETS) for _ in range(200)))
        assert told.count(True) == 1

    async def test_of_many_at_once_one_takes(self, store: Store) -> None:
        """However many try in parallel, exactly one gets it."""
        key = new_key()
        await store.put(key, b"it", 60, Region.TICKETS)
        got = await asyncio.gather(*(store.take(key) for _ in range(200)))
        assert got.count(b"it") == 1
        assert got.count(None) == 199

    async def test_takes_up_to_most(self, store: Store) -> None:
        """Three fit, the fourth doesn't; each answer says what is left, and when more comes."""
        wanted = [(new_key(), window(3))]
        told = [await store.reserve(wanted) for _ in range(4)]
        assert [each.taken for each in told] == [True, True, True, False]
        assert [each.levels[0].left for each in told] == [2, 1, 0, 0]
        assert all(0 < each.levels[0].seconds <= 60 for each in told)

    async def test_all_or_nothing(self, store: Store) -> None:
        """Where one quota has nothing left, nothing is taken of the others."""
        full, roomy = (new_key(), window(1)), (new_key(), window(9))
        assert (await store.reserve([full])).taken
        refused = await store.reserve([roomy, full])
        assert not refused.taken
        assert [level.left for level in refused.levels] == [9, 0]
        assert (await store.look([roomy]))[0].left == 9

    async def test_of_many_at_once_most_reserve(self, store: Store) -> None:
        """However many try in parallel, exactly as many as fit get it."""
        wanted = [(new_key(), window(50)), (new_key(), slots(500))]
        told = await asyncio.gather(*(store.reserve(wanted) for _ in range(200)))
        assert sum(each.taken for each in told) == 50

    async def test_principals_and_fields_are_apart(self, store: Store) -> None:
        """Another's use, or another limit's, takes nothing."""
        one, other = new_key(), new_key()
        await store.reserve([(one, window(1))])
        assert (await store.reserve([(other, window(1))])).taken
        assert (await store.reserve([(one, window(1, field="another"))])).taken

    async def test_given_back_is_there_again(self, store: Store) -> None:
        """In part, in whole, and never more than was taken."""
        key, quota = new_key(), window(10, amount=10)
        reserved = await store.reserve([(key, quota)])
        part = Charge(key, quota.field, reserved.marks[0], 4, "rate")
        await store.give_back([part])
        assert (await store.look([(key, quota)]))[0].left == 4
        await store.give_back([part, part])
        assert (await store.look([(key, quota)]))[0] == (10, 0)
        await store.give_back([part])
        assert (await store.look([(key, quota)]))[0] == (10, 0)

    async def test_more_was_used_than_taken(self, store: Store) -> None:
        """To give back less than nothing takes more, even beyond what there is."""
        key, quota = new_key(), window(10, amount=10)
        reserved = await store.reserve([(key, quota)])
        await store.give_back([Charge(key, quota.field, reserved.marks[0], -5, "rate")])
        assert (await store.look([(key, quota)]))[0].left == -5

    async def test_slots_come_back_one_by_one(self, store: Store) -> None:
        """Each slot is its own: giving one back frees one."""
        wanted = [(new_key(), slots(2))]
        first, second, third = [await store.reserve(wanted) for _ in range(3)]
        assert (first.taken, second.taken, third.taken) == (True, True, False)
        await store.give_back(
            [Charge(wanted[0][0], wanted[0][1].field, second.marks[0], 1, "rate")]
        )
        assert (await store.reserve(wanted)).taken
        assert not (await store.reserve(wanted)).taken

    async def test_shorter_hold_clips_no_longer_one(self, store: Store) -> None:
        """Those who share a limit hold its slots for different times, each for its own."""
        person = new_key()
        brief, longer, longest = (
            (person, slots(9, seconds=1500, held=held)) for held in (10, 700, None)
        )
        marks = {}
        for wanted in (longest, brief, longer, brief, longest, brief):
            reserved = await store.reserve([wanted])
            marks[wanted] = reserved.marks[0]
        for wanted, least, most in ((brief, 9, 10.3), (longer, 690, 715), (longest, 1490, 1531)):
            (level,) = await store.look([wanted])
            assert least < level.seconds <= most
            part = Charge(person, wanted[1].field, marks[wanted], 9, "slot")
            await store.give_back([part])
        assert (await store.look([brief]))[0] == (9, 0)

    async def test_slots_end_a_little_late_at_most(self, store: Store) -> None:
        """A slot nobody gives back is held for its length, and up to 2 % longer."""
        reserved = await store.reserve([(new_key(), slots(1, seconds=100))])
        assert 99.9 < reserved.levels[0].seconds <= 102

    async def test_mark_of_another_window(self, store: Store) -> None:
        """What belongs to no window that runs is given back to none."""
        key, quota = new_key(), window(3)
        mark = (await store.reserve([(key, quota)])).marks[0]
        parts = [
            Charge(key, quota.field, mark + 1, 1, "rate"),
            Charge(key, quota.field, mark - 60_000, 1, "rate"),
        ]
        await store.give_back([*parts, Charge(new_key(), quota.field, mark, 1, "rate")])
        assert (await store.look([(key, quota)]))[0].left == 2

    async def test_nothing_taken_only_looks(self, store: Store) -> None:
        """An amount of 0 fits as long as nothing is over."""
        key = new_key()
        switch = window(0, amount=0, field="switch")
        assert (await store.reserve([(key, switch)])).taken
        await store.reserve([(key, window(9, field="switch"))])
        assert not (await store.reserve([(key, switch)])).taken

    async def test_looking_takes_nothing(self, store: Store) -> None:
        """However often."""
        wanted = [(new_key(), window(2)), (new_key(), slots(3))]
        for _ in range(3):
            assert await store.look(wanted) == ((2, 0), (3, 0))

    async def test_visitor_who_signs_in_keeps_what_they_spent(self, store: Store) -> None:
        """It moves once; whichever of the two asks from then on, both are one."""
        visitor, person, quota = new_key(), new_key(), window(10)
        taken = [await store.reserve([(visitor, quota)]) for _ in range(3)]
        await store.reserve([(person, quota)])
        move = MergeUsage(visitor, person, 60)
        assert (await store.reserve([(person, quota)], move)).levels[0].left == 5
        assert (await store.look([(person, quota)]))[0].left == 8, "nothing has moved yet"
        assert (await store.move(move, [])).taken
        assert (await store.reserve([(person, quota)], move)).levels[0].left == 4
        assert (await store.move(move, [])).taken
        assert (await store.reserve([(visitor, quota)])).levels[0].left == 3
        await store.give_back([Charge(visitor, quota.field, taken[0].marks[0], 1, "rate")])
        left = [(await store.look([(who, quota)]))[0].left for who in (visitor, person)]
        assert left == [4, 4]

    async def test_who_signs_in_twice_moves_once(self, store: Store) -> None:
        """A second person gets nothing of it, and the first loses nothing."""
        visitor, first, second = new_key(), new_key(), new_key()
        quota = slots(9)
        await store.reserve([(visitor, quota)])
        await store.reserve([(first, quota)])
        await store.move(MergeUsage(visitor, first, 60), [])
        told = await store.reserve([(second, quota)], MergeUsage(visitor, second, 60))
        await store.move(MergeUsage(visitor, second, 60), [])
        assert told.levels[0].left == 8
        assert (await store.look([(first, quota)]))[0].left == 7

    async def test_visitor_who_spent_nothing(self, store: Store) -> None:
        """There is nothing to move, and nothing is kept of it."""
        visitor, person, quota = new_key(), new_key(), window(9)
        await store.reserve([(person, quota)], MergeUsage(visitor, person, 60))
        await store.move(MergeUsage(visitor, person, 60), [])
        assert (await store.reserve([(visitor, quota)])).levels[0].left == 8

    async def test_nothing_moves_where_somebody_is_refused(self, store: Store) -> None:
        """What the visitor spent counts, and each keeps their own."""
        visitor, person, quota = new_key(), new_key(), window(3)
        for _ in range(3):
            await store.reserve([(visitor, quota)])
        for _ in range(2):
            assert not (
                await store.reserve([(person, quota)], MergeUsage(visitor, person, 60))
            ).taken
        levels = await store.look([(person, quota), (visitor, quota)])
        assert [level.left for level in levels] == [3, 0]

    async def test_moves_only_where_all_is_taken(self, store: Store) -> None:
        """A mark that can be made once, and a bound for each person, stand beside it."""
        visitor, person, quota = new_key(), new_key(), window(9)
        mark, share = (new_key(), window(1)), (new_key(), slots(2))
        move = MergeUsage(visitor, person, 60)
        await store.reserve([(visitor, quota)])
        assert (await store.move(move, [mark, share])).taken
        assert [level.left for level in await store.look([mark, share])] == [0, 1]
        again = await store.move(MergeUsage(visitor, new_key(), 60), [mark, share])
        assert (again.taken, [level.left for level in again.levels]) == (False, [0, 1])
        other = new_key()
        await store.reserve([(other, quota)])
        await store.reserve([share])
        assert not (
            await store.move(MergeUsage(other, person, 60), [(new_key(), window(1)), share])
        ).taken
        assert [level.left for level in await store.look([(person, quota), (other, quota)])] == [
            8,
            8,
        ]

    async def test_so_many_of_one_owner(self, store: Store) -> None:
        """All that is kept counts for each owner; what isn't kept takes nothing of anybody."""
        account, address, other = (new_key() for _ in range(3))
        of_one, of_place = slots(2), slots(3)

        async def put(who: str, key: str = "") -> bool:
            within = [(who, of_one), (address, of_place)]
            return await store.put(key or new_key(), b"v", 60, Region.PROOFS, within)

        key = new_key()
        assert await put(account, key)
        assert await put(account, key) is False, "takes nothing"
        assert await put(account)
        for _ in range(2):
            with pytest.raises(OverBudgetError) as refused:
                await put(account)
            assert (refused.value.place, 0 < refused.value.seconds <= 62) == (0, True)
        assert await put(other)
        refused_key = new_key()
        with pytest.raises(OverBudgetError) as refused:
            await put(other, refused_key)
        assert refused.value.place == 1
        assert await store.take(refused_key) is None
        assert await store.take(key) == b"v"
        assert [level.left for level in await store.look([(account, of_one), (other, of_one)])] == [
            0,
            1,
        ]

    async def test_of_many_at_once_so_many_are_kept(self, store: Store) -> None:
        """However many try in parallel, exactly as many as one owner may have."""
        within = [(new_key(), slots(50))]

        async def put() -> bool:
            try:
                return await store.put(new_key(), b"", 60, Region.PUZZLES, within)
            except OverBudgetError:
                return False

        told = await asyncio.gather(*(put() for _ in range(200)))
        assert told.count(True) == 50

    async def test_settled_once_with_the_true_length(self, store: Store) -> None:
        """Time that was not used and slots come back; that something was issued does not."""
        wanted = [(new_key(), window(9)), (new_key(), talk(1000, 600)), (new_key(), slots(2))]
        reserved = await store.reserve(wanted)
        name = new_key()
        await store.remember(PendingSettlement(name, taken_parts(wanted, reserved), "about it", 60))
        assert [each.left for each in await store.look(wanted)] == [8, 400, 1]
        assert await store.settle(name, 250) == "about it"
        assert [each.left for each in await store.look(wanted)] == [8, 750, 2]
        assert await store.settle(name, 0) is None
        assert [each.left for each in await store.look(wanted)] == [8, 750, 2]

    async def test_longer_than_reserved(self, store: Store) -> None:
        """The true length counts, whatever was taken for it."""
        wanted = [(new_key(), talk(1000, 600))]
        name, reserved = new_key(), await store.reserve(wanted)
        await store.remember(PendingSettlement(name, taken_parts(wanted, reserved), "", 60))
        assert await store.settle(name, 1600) == ""
        assert (await store.look(wanted))[0].left == -600

    async def test_settled_by_one_of_many(self, store: Store) -> None:
        """However many hear of the end at once."""
        wanted = [(new_key(), talk(1000, 600))]
        name, reserved = new_key(), await store.reserve(wanted)
        await store.remember(PendingSettlement(name, taken_parts(wanted, reserved), "x", 60))
        told = await asyncio.gather(*(store.settle(name, 100) for _ in range(50)))
        assert told.count("x") == 1
        assert (await store.look(wanted))[0].left == 900

    async def test_refusal_tells_of_open_reservations(self, store: Store) -> None:
        """Those of whoever has no slot or time left, the oldest first, until they are settled."""
        person = new_key()
        wanted = [(person, slots(2)), (new_key(), window(99))]
        names = [new_key(), new_key()]
        for name in names:
            reserved = await store.reserve(wanted)
            assert reserved.open_notes == ()
            await store.remember(PendingSettlement(name, taken_parts(wanted, reserved), "", 60))
        assert (await store.reserve(wanted)).open_notes == tuple(names)
        await store.settle(names[0], 0)
        assert (await store.reserve(wanted)).taken
        assert (await store.reserve(wanted)).open_notes == (names[1],)

    async def test_refused_rates_tell_of_nothing(self, store: Store) -> None:
        """An ended conversation gives no credential back."""
        person = new_key()
        wanted = [(person, window(1)), (person, slots(2))]
        reserved = await store.reserve(wanted)
        await store.remember(PendingSettlement(new_key(), taken_parts(wanted, reserved), "", 60))
        refused = await store.reserve(wanted)
        assert (refused.taken, refused.open_notes) == (False, ())

    async def test_tells_of_the_oldest_and_some_more(self, store: Store) -> None:
        """The oldest are over soonest; nothing grows with those that are never settled."""
        wanted = [(new_key(), slots(100))]
        names = await noted(store, wanted, 100)
        told = (await store.reserve(wanted)).open_notes
        assert told[:32] == names[:32]
        assert len(told) <= 64
        assert sorted(told, key=names.index) == list(told)

    async def test_settled_leaves_the_list(self, store: Store) -> None:
        """Wherever it stands, in the order of the rest."""
        wanted = [(new_key(), slots(30))]
        names = await noted(store, wanted, 30)
        for name in (names[29], names[15], names[0]):
            assert await store.settle(name, 0) == "about"
        told = await noted(store, wanted, 3)
        left = (*names[1:15], *names[16:29], *told)
        assert (await store.reserve(wanted)).open_notes == left
        assert [await store.is_pending(name) for name in (names[0], names[1])] == [False, True]

    async def test_notes_that_ended_leave_the_list(self, store: Store) -> None:
        """So that those behind them are told of."""
        wanted = [(new_key(), slots(80))]
        short = await noted(store, wanted, 40, seconds=0.01)
        lasting = await noted(store, wanted, 40)
        while any([await store.is_pending(name) for name in short]):
            pass  # until they have ended
        for _ in range(2):
            assert (await store.reserve(wanted)).open_notes == lasting

    async def test_whole_of_a_budget_can_be_used(self, store: Store) -> None:
        """However many are open when it is exhausted, if each is settled once it is told of."""
        wanted, open_ones, done = [(new_key(), talk(90_000, 600))], 0, 0
        while True:
            reserved = await store.reserve(wanted)
            if reserved.taken:
                note = PendingSettlement(new_key(), taken_parts(wanted, reserved), "", 60)
                await store.remember(note)
                open_ones += 1
            elif not reserved.open_notes:
                break
            for name in reserved.open_notes[:8]:
                assert await store.settle(name, 150) is not None
                open_ones, done = open_ones - 1, done + 1
        assert (open_ones, done) == (0, (90_000 - 600) // 150 + 1)

    async def test_notes_move_with_a_visitor(self, store: Store) -> None:
        """Behind the person's own, all of them."""
        visitor, person, quota = new_key(), new_key(), slots(23)
        own = await noted(store, [(person, quota)], 3)
        brought = await noted(store, [(visitor, quota)], 20)
        refused = await store.reserve([(person, quota)], MergeUsage(visitor, person, 60))
        assert (refused.taken, refused.open_notes) == (False, (*own, *brought))
        await store.move(MergeUsage(visitor, person, 60), [])
        assert await store.settle(brought[19], 0) == "about"
        assert (await store.reserve([(visitor, quota)])).taken
        assert (await store.reserve([(person, quota)])).open_notes == (*own, *brought[:19])

    async def test_visitors_conversation_is_settled_for_the_person(self, store: Store) -> None:
        """What began before somebody signed in is theirs afterwards."""
        visitor, person, name = new_key(), new_key(), new_key()
        quota = talk(1000, 600)
        reserved = await store.reserve([(visitor, quota)])
        await store.remember(
            PendingSettlement(name, taken_parts([(visitor, quota)], reserved), "", 60)
        )
        refused = await store.reserve([(person, quota)], MergeUsage(visitor, person, 60))
        assert (refused.taken, refused.open_notes) == (False, (name,))
        await store.move(MergeUsage(visitor, person, 60), [])
        await store.settle(name, 100)
        assert [(await store.look([(who, quota)]))[0].left for who in (visitor, person)] == [
            900,
            900,
        ]

    async def test_notes_of_nobody(self, store: Store) -> None:
        """Where all was given back meanwhile, settling gives nothing more."""
        wanted = [(new_key(), slots(2))]
        name, reserved = new_key(), await store.reserve(wanted)
        parts = taken_parts(wanted, reserved)
        await store.give_back(parts)
        await store.remember(PendingSettlement(name, parts, "late", 60))
        assert await store.settle(name, 0) == "late"
        assert (await store.look(wanted))[0].left == 2

    async def test_windows_end(self, store: Store) -> None:
        """At the end of a window all of it is there again, by the store's clock."""
        key, quota = new_key(), window(2, seconds=0.05)
        while not (await store.reserve([(key, quota)])).taken:
            pass  # until the time has come; a loaded machine may take longer
        for _ in range(3):
            seen = await count_until_refused(store, key, quota)
            assert seen <= 4, "at most twice as many across a seam"

    async def test_repr_names_its_kind(self, store: Store) -> None:
        """A rendering holds no address and no value."""
        assert repr(store).startswith(type(store).__name__)
        assert "cAnArY" not in repr(store)


def new_key() -> str:
    return secrets.token_hex(8)


def window(most: int, *, amount: int = 1, seconds: float = 60, field: str = "w") -> Quota:
    """Return a quota that comes back all at once."""
    return Quota(field=field, most=most, amount=amount, seconds=seconds, kind="rate")


def talk(most: int, amount: int) -> Quota:
    """Return a quota of milliseconds."""
    return Quota(field="t", most=most, amount=amount, seconds=60, kind="time")


def slots(most: int, *, seconds: float = 60, field: str = "s", held: float | None = None) -> Quota:
    """Return a quota whose parts come back one by one."""
    return Quota(field=field, most=most, amount=1, seconds=seconds, kind="slot", held=held)


async def noted(
    store: Store, wanted: list[tuple[str, Quota]], count: int, *, seconds: float = 60
) -> tuple[str, ...]:
    """Reserve so often, and return the names by which it can be settled."""
    names = [new_key() for _ in range(count)]
    for name in names:
        reserved = await store.reserve(wanted)
        await store.remember(
            PendingSettlement(name, taken_parts(wanted, reserved), "about", seconds)
        )
    return tuple(names)


async def count_until_refused(store: Any, key: str, quota: Quota) -> int:
    """Take until nothing is left, then wait until something is; tell how much was taken."""
    taken = 0
    while (await store.reserve([(key, quota)])).taken:
        taken += 1
    while (await store.look([(key, quota)]))[0].left < quota.most:
        pass
    return taken
