"""What every store promises about live conversations and revocations, shown on each of them."""

import asyncio
from typing import Final

import pytest

from xuna_middleware.stores import Charge, Lease, MergeUsage, Quota, RevocationCheck, Store
from xuna_middleware.stores.protocol import taken_parts

from .contract import new_key, slots, window

#: Seconds in which what is to come must have come, on a loaded machine too.
PATIENCE: Final = 10.0
#: When credentials of these tests were issued, in seconds since the epoch.
ISSUED: Final = 1_700_000_000.25


class LeaseContract:
    """Subclasses give the fixture `store`."""

    async def test_held_slot_moves(self, store: Store) -> None:
        """It is one slot, however often it is held; its end is later each time it is looked at."""
        wanted = (new_key(), leased(2))
        lease = await talking(store, wanted)
        for _ in range(3):
            (held,) = await store.hold([lease])
            assert held.word == ""
            assert held.slots[0]._replace(mark=0) == lease.slots[0]._replace(mark=0)
            lease = lease._replace(slots=held.slots)
            (level,) = await store.look([wanted])
            assert level.left == 1
            assert 9.8 < level.seconds <= 10.2

    async def test_held_at_first_for_less(self, store: Store) -> None:
        """A reservation that is a lease ends soon, beside others of the same limit that don't."""
        person = new_key()
        whole, lease = slots(3, seconds=1500, field="s"), leased(3, seconds=1500, field="s")
        await store.reserve([(person, whole)])
        assert 1500 < (await store.look([(person, whole)]))[0].seconds + 1 <= 1531
        reserved = await store.reserve([(person, lease)])
        assert reserved.levels[0].left == 1
        assert 9.8 < reserved.levels[0].seconds <= 10.2

    async def test_let_go_once(self, store: Store) -> None:
        """The slot is free at once; a second call takes none from another conversation."""
        wanted = (new_key(), leased(2))
        first, second = await talking(store, wanted), await talking(store, wanted)
        assert (await store.look([wanted]))[0].left == 0
        for _ in range(3):
            await store.release_lease(first.name, first.slots)
            assert (await store.look([wanted]))[0].left == 1
        await store.release_lease(second.name, second.slots)
        assert await store.look([wanted]) == ((2, 0),)

    async def test_let_go_of_nothing(self, store: Store) -> None:
        """What was never held gives nothing back: its reservation may."""
        wanted = (new_key(), leased(2))
        reserved = await store.reserve([wanted])
        parts = taken_parts([wanted], reserved)
        await store.release_lease(new_key(), parts)
        assert (await store.look([wanted]))[0].left == 1
        await store.give_back(parts)
        assert (await store.look([wanted]))[0].left == 2

    async def test_answer_that_was_lost(self, store: Store) -> None:
        """Whoever missed an answer holds and lets go with old marks: no slot is left behind."""
        wanted = (new_key(), leased(2))
        lease = await talking(store, wanted)
        wrong = lease._replace(slots=tuple(part._replace(mark=1) for part in lease.slots))
        await store.hold([wrong])
        assert (await store.look([wanted]))[0].left == 1
        await store.release_lease(wrong.name, wrong.slots)
        assert (await store.look([wanted]))[0].left == 2

    async def test_running_conversation_is_counted_even_where_nothing_is_left(
        self, store: Store
    ) -> None:
        """A slot that is gone is taken anew, beyond what there is."""
        wanted = (new_key(), leased(1))
        lost = Charge(wanted[0], wanted[1].field, 1, 1, "slot")
        await talking(store, wanted)
        (held,) = await store.hold([make_lease(lost)])
        assert held.word == ""
        assert (await store.look([wanted]))[0].left == -1
        assert not (await store.reserve([wanted])).taken

    async def test_several_slots_of_several_principals(self, store: Store) -> None:
        """They are held together, and let go together."""
        wanted = [(new_key(), leased(5)), (new_key(), leased(6)), (new_key(), leased(7, field="x"))]
        lease = await talking(store, *wanted)
        assert [part.principal for part in lease.slots] == [who for who, _ in wanted]
        assert [level.left for level in await store.look(wanted)] == [4, 5, 6]
        await store.release_lease(lease.name, lease.slots)
        assert [level.left for level in await store.look(wanted)] == [5, 6, 7]

    async def test_without_slots(self, store: Store) -> None:
        """A conversation that no limit counts can be ended, too."""
        lease = make_lease()
        assert await store.hold([lease]) == (((), ""),)
        assert await store.end(lease.name)
        assert await store.hold([lease]) == (((), "ended"),)
        await store.release_lease(lease.name, ())
        assert await store.hold([]) == ()

    async def test_hundreds_at_once(self, store: Store) -> None:
        """Each gets its own answer, in order."""
        wanted = (new_key(), leased(500))
        reserved = await store.reserve([wanted])
        part = taken_parts([wanted], reserved)[0]
        leases = [make_lease(part) for _ in range(150)]
        await store.hold(leases)
        ended = leases[::7]
        for lease in ended:
            assert await store.end(lease.name)
        told = await store.hold(leases)
        assert [held.word for held in told] == ["ended" if x in ended else "" for x in leases]
        for lease in leases:
            await store.release_lease(lease.name, lease.slots)
        assert (await store.look([wanted]))[0].left == 500

    async def test_ended_by_somebody(self, store: Store) -> None:
        """Its holder is told at each beat; nothing is renewed; there is nothing else to end."""
        wanted = (new_key(), leased(2))
        lease, other = await talking(store, wanted), await talking(store, wanted)
        assert await store.end(lease.name) is True
        assert await store.end(new_key()) is False
        for _ in range(2):
            told = await store.hold([lease, other])
            assert [held.word for held in told] == ["ended", ""]
        assert told[0].slots == lease.slots
        assert (await store.look([wanted]))[0].left == 0
        await store.release_lease(lease.name, lease.slots)
        assert await store.end(lease.name) is False
        assert (await store.look([wanted]))[0].left == 1

    async def test_tells_what_is_live(self, store: Store) -> None:
        """In the order of names, each once, until it is let go."""
        run = new_key()
        mine = [make_lease(name=f"{run}-{n}", about=f'["{run}","ü",{n}]') for n in (3, 1, 2)]
        await store.hold(mine)
        await store.hold([mine[1]])
        assert await self.told(store, run) == [mine[1].about, mine[2].about, mine[0].about]
        await store.release_lease(mine[2].name, ())
        assert await self.told(store, run) == [mine[1].about, mine[0].about]
        await store.hold([mine[1]._replace(about=f"{run} anew")])
        assert (await self.told(store, run))[0] == f"{run} anew"

    @staticmethod
    async def told(store: Store, run: str) -> list[str]:
        return [about for about in await store.leases() if run in about]

    async def test_lease_that_nobody_holds_ends(self, store: Store) -> None:
        """By the store's clock: it isn't listed, can't be ended, and letting go does no harm."""
        wanted, run = (new_key(), leased(1, held=0.05)), new_key()
        reserved = await store.reserve([wanted])
        parts = taken_parts([wanted], reserved)
        lease = Lease(run, run, 0.05, parts, None)
        await store.hold([lease])
        while await store.end(run):
            pass  # until it has run out; a loaded machine may take longer
        assert await self.told(store, run) == []
        while not (await store.reserve([wanted])).taken:
            pass  # its slot ends up to 2 % later
        await store.release_lease(run, parts)
        assert (await store.hold([make_lease(name=run)]))[0].word == ""

    async def test_visitor_who_signs_in_while_they_talk(self, store: Store) -> None:
        """Their slot is the person's from then on: held for them, and given back to them."""
        visitor, person, quota = new_key(), new_key(), leased(2)
        lease = await talking(store, (visitor, quota))
        moved = await store.reserve([(person, quota)], MergeUsage(visitor, person, 60))
        assert (moved.taken, moved.levels[0].left) == (True, 0)
        await store.move(MergeUsage(visitor, person, 60), [])
        (held,) = await store.hold([lease])
        assert held.slots[0].principal == visitor
        assert (await store.look([(person, quota), (visitor, quota)]))[0].left == 0
        await store.release_lease(lease.name, held.slots)
        assert [x.left for x in await store.look([(person, quota), (visitor, quota)])] == [1, 1]

    async def test_revoked_take_nothing(self, store: Store) -> None:
        """Whose credential was issued before, at the same time, or at no known time."""
        who, wanted = new_key(), [(new_key(), window(9)), (new_key(), slots(9))]
        await store.revoke(who, ISSUED, 60)
        for issued_at in (ISSUED, ISSUED - 0.25, 0.0, int(ISSUED), None):
            reserved = await store.reserve(wanted, standing=RevocationCheck(who, issued_at))
            assert reserved == (False, (), (), (), True)
        for standing in (
            RevocationCheck(who, ISSUED + 0.25),
            RevocationCheck(new_key(), 0.0),
            None,
        ):
            reserved = await store.reserve(wanted, standing=standing)
            assert (reserved.taken, reserved.is_revoked) == (True, False)
        assert [level.left for level in await store.look(wanted)] == [6, 6]

    async def test_only_the_revocation_is_read(self, store: Store) -> None:
        """Where nothing is to be counted."""
        who = new_key()
        assert await store.reserve([], standing=RevocationCheck(who, ISSUED)) == (
            True,
            (),
            (),
            (),
            False,
        )
        await store.revoke(who, ISSUED, 60)
        assert (await store.reserve([], standing=RevocationCheck(who, ISSUED))).is_revoked
        assert (await store.reserve([])).taken

    async def test_revoked_move_nothing(self, store: Store) -> None:
        """A visitor who signs in with a revoked credential stays a visitor."""
        visitor, person, quota = new_key(), new_key(), window(9)
        await store.reserve([(visitor, quota)])
        await store.revoke(person, ISSUED, 60)
        move, standing = MergeUsage(visitor, person, 60), RevocationCheck(person, ISSUED)
        assert (await store.reserve([(person, quota)], move, standing)).is_revoked
        assert [x.left for x in await store.look([(person, quota), (visitor, quota)])] == [9, 8]
        new = RevocationCheck(person, ISSUED + 1)
        assert (await store.reserve([(person, quota)], move, new)).levels[0].left == 7

    async def test_revoked_conversation_is_told(self, store: Store) -> None:
        """Of several conversations only those that it reaches; it goes before "ended"."""
        who, wanted = new_key(), (new_key(), leased(5))
        old = await talking(store, wanted, standing=RevocationCheck(who, ISSUED))
        undated = await talking(store, wanted, standing=RevocationCheck(who, None))
        new = await talking(store, wanted, standing=RevocationCheck(who, ISSUED + 1))
        await store.revoke(who, ISSUED, 60)
        assert await store.end(old.name)
        told = await store.hold([old, undated, new])
        assert [held.word for held in told] == ["revoked", "revoked", ""]
        assert (await store.look([wanted]))[0].left == 2
        for lease in (old, undated, new):
            await store.release_lease(lease.name, lease.slots)
        assert (await store.look([wanted]))[0].left == 5

    async def test_revoked_before_it_began(self, store: Store) -> None:
        """It isn't held even once: there is nothing to end."""
        who = new_key()
        await store.revoke(who, ISSUED, 60)
        lease = make_lease()._replace(standing=RevocationCheck(who, ISSUED))
        assert await store.hold([lease]) == (((), "revoked"),)
        assert await store.end(lease.name) is False

    async def test_later_revocation_stays(self, store: Store) -> None:
        """An earlier one changes nothing, whatever the order in which they come."""
        who = new_key()
        for at in (ISSUED, ISSUED - 100, ISSUED + 1, ISSUED):
            await store.revoke(who, at, 60)
        assert (await store.reserve([], standing=RevocationCheck(who, ISSUED + 1))).is_revoked
        assert not (await store.reserve([], standing=RevocationCheck(who, ISSUED + 2))).is_revoked

    async def test_revocation_is_never_shortened(self, store: Store) -> None:
        """A later one that lasts for less lasts as long; a short one ends by itself."""
        who, short = new_key(), new_key()
        await store.revoke(who, ISSUED, 60)
        await store.revoke(who, ISSUED + 1, 0.01)
        await store.revoke(short, ISSUED, 0.01)
        while (await store.reserve([], standing=RevocationCheck(short, ISSUED))).is_revoked:
            pass  # until it has ended
        assert (await store.reserve([], standing=RevocationCheck(who, ISSUED + 1))).is_revoked

    async def test_woken(self, store: Store) -> None:
        """By an end and by a revocation, and by nothing that nobody called."""
        lease = make_lease()
        await store.hold([lease])
        await listening(store)
        waiting = asyncio.ensure_future(store.wait_for_wakeup())
        await store.hold([lease])
        await store.reserve([(new_key(), window(9))])
        assert not waiting.done()
        await store.end(lease.name)
        await asyncio.wait_for(waiting, PATIENCE)
        waiting = asyncio.ensure_future(store.wait_for_wakeup())
        await store.revoke(new_key(), ISSUED, 1)
        await asyncio.wait_for(waiting, PATIENCE)

    async def test_woken_between_two_waits(self, store: Store) -> None:
        """Who calls while nobody waits is heard at the next wait."""
        await listening(store)
        await store.revoke(new_key(), ISSUED, 1)
        await asyncio.wait_for(store.wait_for_wakeup(), PATIENCE)

    async def test_waiting_can_be_cancelled(self, store: Store) -> None:
        """And begun anew."""
        await listening(store)
        waiting = asyncio.ensure_future(store.wait_for_wakeup())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await store.revoke(new_key(), ISSUED, 1)
        await asyncio.wait_for(store.wait_for_wakeup(), PATIENCE)


def leased(most: int, *, seconds: float = 60, held: float = 10, field: str = "s") -> Quota:
    """Return a quota of slots that are held for ten seconds at a time."""
    return Quota(field=field, most=most, amount=1, seconds=seconds, kind="slot", held=held)


def make_lease(*parts: Charge, name: str = "", about: str = "somebody") -> Lease:
    """Return a lease of ten seconds."""
    return Lease(name or new_key(), about, 10, parts, None)


async def talking(
    store: Store, *wanted: tuple[str, Quota], standing: RevocationCheck | None = None
) -> Lease:
    """Reserve, and hold for the first time."""
    reserved = await store.reserve(wanted)
    assert reserved.taken
    lease = make_lease(*taken_parts(wanted, reserved))._replace(standing=standing)
    (held,) = await store.hold([lease])
    assert held.word == ""
    return lease._replace(slots=held.slots)


async def listening(store: Store) -> None:
    """Wait until the store listens, which ends the first wait."""
    await asyncio.wait_for(store.wait_for_wakeup(), PATIENCE)
