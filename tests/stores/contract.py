"""What every store promises, shown on each of them."""

import asyncio
import secrets

from xuna_middleware import Store


class StoreContract:
    """Subclasses give the fixture `store`."""

    async def test_first_put_wins(self, store: Store) -> None:
        """The second is told that it was late, and changes nothing."""
        key = new_key()
        assert await store.put(key, b"first", 60) is True
        assert await store.put(key, b"second", 60) is False
        assert await store.take(key) == b"first"

    async def test_take_once(self, store: Store) -> None:
        """Taken is gone; what was never there is nothing; the key may be used again."""
        key = new_key()
        assert await store.take(key) is None
        await store.put(key, b"value", 60)
        assert await store.take(key) == b"value"
        assert await store.take(key) is None
        assert await store.put(key, b"again", 60) is True

    async def test_keys_are_apart(self, store: Store) -> None:
        """A value is its key's own."""
        one, other = new_key(), new_key()
        await store.put(one, b"1", 60)
        await store.put(other, b"2", 60)
        assert (await store.take(other), await store.take(one)) == (b"2", b"1")

    async def test_any_octets(self, store: Store) -> None:
        """Values come back as they were."""
        key, value = new_key(), bytes(range(256))
        await store.put(key, value, 60)
        assert await store.take(key) == value

    async def test_of_many_at_once_one_puts(self, store: Store) -> None:
        """However many try in parallel, exactly one is first."""
        key = new_key()
        told = await asyncio.gather(*(store.put(key, b"", 60) for _ in range(200)))
        assert told.count(True) == 1

    async def test_of_many_at_once_one_takes(self, store: Store) -> None:
        """However many try in parallel, exactly one gets it."""
        key = new_key()
        await store.put(key, b"it", 60)
        got = await asyncio.gather(*(store.take(key) for _ in range(200)))
        assert got.count(b"it") == 1
        assert got.count(None) == 199

    async def test_repr_names_its_kind(self, store: Store) -> None:
        """A rendering holds no address and no value."""
        assert repr(store).startswith(type(store).__name__)
        assert "cAnArY" not in repr(store)


def new_key() -> str:
    return secrets.token_hex(8)
