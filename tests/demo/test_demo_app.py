"""The page's app and its feed."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from xuna_middleware import Event
from xuna_middleware.demo.app import page_app
from xuna_middleware.demo.feed import Feed, encode

CONFIG = {"connect": ["http://127.0.0.1:1", "ws://127.0.0.1:2"]}


def happened(number: int) -> Event:
    return Event(name="refused", time=float(number), code="access_denied", status=403)


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    app = page_app(CONFIG, Feed())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/page/icon.svg", "/no"])
async def test_every_answer_is_locked_down(browser: httpx.AsyncClient, path: str) -> None:
    """No inline script, no other origin but the two named, no guessing of types, no referrer."""
    headers = (await browser.get(path)).headers
    policy = headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert "connect-src 'self' http://127.0.0.1:1 ws://127.0.0.1:2" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("host", ["localhost:8000", "evil.example", "127.0.0.1.evil.example"])
async def test_another_host_name_is_turned_away(browser: httpx.AsyncClient, host: str) -> None:
    """A name that somebody let resolve to this machine doesn't get to read the events."""
    answer = await browser.get("/demo/events", headers={"Host": host})
    assert answer.status_code == 400


async def test_the_feed_goes_on_where_a_watcher_was() -> None:
    """Older entries are not repeated, newer ones come as they happen, and closing ends it."""
    feed = Feed()
    for number in (1, 2, 3):
        feed(happened(number))
    watching = feed.watch(2)
    first = await anext(watching)
    waiting = asyncio.ensure_future(anext(watching))
    await asyncio.wait([waiting], timeout=0)
    assert not waiting.done()
    feed(happened(4))
    second = await waiting
    feed.close()
    assert [entry and entry.number for entry in (first, second)] == [3, 4]
    assert [entry async for entry in watching] == []


async def test_the_feed_is_bounded() -> None:
    """Only the last ones are kept; a watcher from before them gets what is left."""
    feed = Feed(keep=5)
    for number in range(1, 101):
        feed(happened(number))
    watching = feed.watch(50)
    entries = [await anext(watching) for _ in range(5)]
    assert [entry and entry.number for entry in entries] == [96, 97, 98, 99, 100]
    assert len(feed.events()) == 5


async def test_a_watcher_of_an_earlier_run_gets_all() -> None:
    """A server that was started anew counts from 1 again: what the watcher had last is unknown."""
    feed = Feed()
    feed(happened(1))
    entry = await anext(feed.watch(77))
    assert entry is not None
    assert entry.number == 1


async def test_the_feed_shows_signs_of_life() -> None:
    """Where nothing happens, something is sent all the same, so that a dead line is noticed."""
    assert await anext(Feed().watch(pulse=0.001)) is None


def test_an_entry_reads_as_an_event() -> None:
    """One id line and one data line, whatever is in it; what isn't said is left out."""
    feed = Feed()
    feed(Event(name="refused", time=1.5, cause="rule: line\nbreak", variables=("user_name",)))
    number, data, *end = encode(feed.entries()[0]).split("\n")
    assert number == "id: 1"
    assert json.loads(data.removeprefix("data: ")) == {
        "name": "refused",
        "time": 1.5,
        "cause": "rule: line\nbreak",
        "variables": ["user_name"],
    }
    assert end == ["", ""]
