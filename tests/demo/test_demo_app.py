"""The page's app and its feed."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from xuna_middleware import Event
from xuna_middleware.demo.app import PAGE, page_app
from xuna_middleware.demo.feed import Feed, encode
from xuna_middleware.demo.scene import Wiring, build_gate
from xuna_middleware.demo.stage import Stage, raise_stage
from xuna_middleware.demo.visitor import Visitor

CONFIG = {"connect": ["http://127.0.0.1:1", "ws://127.0.0.1:2"]}
RELAY_PAGE = Path(__file__).parents[2] / "docs" / "relay.md"
REVOKE = "/api/revoke"


def happened(number: int) -> Event:
    return Event(name="refused", time=float(number), code="access_denied", status=403)


@pytest.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    feed = Feed()
    wiring = Wiring(
        issuer="http://127.0.0.1:1",
        platform_url="http://127.0.0.1:2",
        api_key="no-key",
        public_url="http://127.0.0.1:8000/xuna",
        on_event=feed,
    )
    app = page_app(CONFIG, feed, build_gate(wiring))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with raise_stage() as stage:
        yield stage


@pytest.mark.parametrize(
    "path", ["/", "/operator", "/page/app.js", "/page/style.css", "/page/icon.svg", "/no"]
)
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


async def test_the_page_may_open_its_own_websocket(stage: Stage) -> None:
    """Not every browser takes it for 'self': the policy names it, beside provider and platform."""
    async with aclosing(Visitor(stage.url)) as visitor:
        policy = (await visitor.get("/")).headers["content-security-policy"]
    (connect,) = [part for part in policy.split("; ") if part.startswith("connect-src")]
    own = stage.url.replace("http", "ws", 1)
    assert own in connect.split()
    assert len(connect.split()) == 5


@pytest.mark.parametrize(
    ("person", "body", "headers", "status"),
    [
        (None, {}, {}, 401),
        ("ada", {"issuer": "i", "subject": "s"}, {}, 403),
        ("olga", {"issuer": "i", "subject": "s"}, {"sec_fetch_site": "cross-site"}, 403),
        ("olga", {"issuer": "i", "subject": "s"}, {"sec_fetch_site": "same-site"}, 403),
        ("olga", {"issuer": "i", "subject": "s"}, {"content_type": "text/plain"}, 415),
        ("olga", {"issuer": "i"}, {}, 400),
        ("olga", {"issuer": "i", "subject": ""}, {}, 400),
        ("olga", {"issuer": "i", "subject": ["s"]}, {}, 400),
        ("olga", {"issuer": "i", "subject": "s\n"}, {}, 400),
        ("olga", ["i", "s"], {}, 400),
        ("olga", {"issuer": "i", "subject": "s" * 5000}, {}, 413),
        ("olga", {"issuer": "i", "subject": "s"}, {}, 200),
        ("olga", {"issuer": "i", "subject": "s"}, {"sec_fetch_site": "same-origin"}, 200),
    ],
)
async def test_operators_alone_revoke(
    stage: Stage, person: str | None, body: Any, headers: dict[str, str], status: int
) -> None:
    """From their own page and in JSON; whoever is turned away has revoked nobody."""
    token = None if person is None else stage.provider.token(person)
    async with aclosing(Visitor(stage.url)) as visitor:
        answer = await visitor.post(REVOKE, body, token, **headers)
    assert answer.status_code == status
    revoked = [event.subject for event in stage.feed.events() if event.name == "revoked"]
    assert revoked == (["s"] if status == 200 else [])


def test_the_page_has_words_for_every_close_code() -> None:
    """Those of the table in docs/relay.md."""
    codes = re.findall(r"^\| (\d{4}) \|", RELAY_PAGE.read_text("utf-8"), re.MULTILINE)
    words = re.findall(r"^  (\d{4}): \"\S", (PAGE / "endings.js").read_text("utf-8"), re.MULTILINE)
    assert len(codes) > 10
    assert words == codes
