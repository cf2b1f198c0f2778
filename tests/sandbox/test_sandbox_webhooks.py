"""The platform's webhook: how it is sent, and all the way from a signed URL to a settled minute."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from support.deliveries import HEADER, SECRET, digest, signature
from support.doubles import in_fast_time, make_gate, seconds
from support.signing import NOW, RSA
from websockets.asyncio.client import connect

from xuna_middleware import (
    Agent,
    Event,
    MemoryStore,
    PostCallWebhook,
    TalkTime,
    XunaMiddleware,
    XunaPlatform,
)
from xuna_middleware.sandbox import Place, SandboxAgent, SandboxPlatform, serve
from xuna_middleware.sandbox.webhooks import Webhook
from xuna_middleware.stores import StoreError
from xuna_middleware.testing import sandboxed

from .stage import AGENT, Caller, Clock

GATE = "https://gate.test/webhooks/post-call"


@dataclass
class Taker:
    """Stand where webhooks go: keep what comes, and answer as told, a 200 at the end."""

    answers: list[int | Exception]
    taken: list[httpx.Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.taken.append(request)
        self.times.append(seconds())
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer)

    def webhook(self, clock: Callable[[], float] = lambda: NOW) -> Webhook:
        return Webhook(GATE, SECRET, transport=httpx.MockTransport(self.handle), clock=clock)


async def sent(webhook: Webhook, data: dict[str, Any]) -> None:
    """Send one delivery, and wait until it is taken or given up."""
    webhook.begin(data)
    await asyncio.gather(*webhook._sending)


async def test_delivery_is_signed() -> None:
    """What it says, and the digest of just that."""
    taker = Taker([])
    await sent(taker.webhook(lambda: NOW + 0.9), {"conversation_id": "conv_1"})
    (request,) = taker.taken
    assert (request.method, str(request.url)) == ("POST", GATE)
    assert request.headers[HEADER] == signature(request.content)
    assert json.loads(request.content) == {
        "type": "post_call_transcription",
        "event_timestamp": int(NOW),
        "data": {"conversation_id": "conv_1"},
    }


@pytest.mark.parametrize(
    ("answers", "attempts"),
    [
        ([200], 1),
        ([204], 1),
        ([503, 200], 2),
        ([httpx.ConnectError("no"), 500, 200], 3),
        ([httpx.ReadTimeout("late"), 302, 401, 200], 3),
    ],
)
def test_three_attempts(
    answers: list[int | Exception], attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Each signed anew, with a pause between; then it is given up, and nobody is harmed."""

    async def story() -> None:
        taker = Taker(answers)
        await sent(taker.webhook(lambda: NOW + seconds()), {})
        assert len(taker.taken) == attempts
        assert taker.times == pytest.approx([0.0, 0.2, 1.2][:attempts])
        for request, time in zip(taker.taken, taker.times, strict=True):
            assert digest(request.content, int(NOW + time)) in request.headers[HEADER]

    failures = [answer for answer in answers[:attempts] if answer not in (200, 204)]
    in_fast_time(story())
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == len(failures)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        *("", "gate.test", "ftp://127.0.0.1/x", "https://gate.test/x", "http://gate.test/x"),
        *("http://127.0.0.1.gate.test/x", "http://127.0.0.1@gate.test/x", "http://10.0.0.1/x"),
    ],
)
def test_webhooks_stay_on_this_machine(url: str) -> None:
    """Unless they stay in this process."""
    with pytest.raises(ValueError, match="webhook_url"):
        SandboxPlatform(webhook_url=url)


def test_its_secret_is_random_or_given() -> None:
    """As its key is."""
    assert SandboxPlatform().webhook_secret != SandboxPlatform().webhook_secret
    assert SandboxPlatform(webhook_secret=SECRET).webhook_secret == SECRET
    with pytest.raises(ValueError, match="empty"):
        SandboxPlatform(webhook_secret="")


class Faltering(MemoryStore):
    """A store that can't settle so many times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def settle(self, name: str, milliseconds: int) -> str | None:
        if self.failures:
            self.failures -= 1
            raise StoreError("the store does not answer")
        return await super().settle(name, milliseconds)


@dataclass
class Scene:
    """Hold a served gate before a served platform, and what the gate told of webhooks."""

    client: httpx.AsyncClient
    clock: Clock
    received: asyncio.Queue[Event]

    async def left(self) -> int:
        """Return how many seconds the caller may still talk, as the gate tells them."""
        answer = await self.client.get("/xuna/agents")
        left = answer.json()["agents"][0]["limits"][0]["left"]
        assert isinstance(left, int)
        return left


@asynccontextmanager
async def scene(store: MemoryStore) -> AsyncIterator[Scene]:
    """Serve both on loopback: the platform knows where the gate takes webhooks."""
    clock, received = Clock(NOW), asyncio.Queue[Event]()
    async with AsyncExitStack() as stack:
        place = Place.reserve()
        stack.callback(place.close)
        webhook_url = f"{place.url}/xuna/webhooks/post-call"
        platform = SandboxPlatform(agents=[AGENT], clock=clock, webhook_url=webhook_url)
        base_url = await stack.enter_async_context(serve(platform))
        gate = make_gate(
            XunaPlatform(
                platform.api_key, base_url=base_url, http_transport=httpx.AsyncHTTPTransport()
            ),
            agents=[
                Agent("support", id=AGENT.id, max_duration=60, limits=[TalkTime("1 hour/day")])
            ],
            webhook=PostCallWebhook(platform.webhook_secret, clock=clock),
            store=store,
            on_event=[lambda event: _note(event, received)],
        )
        url = await stack.enter_async_context(serve(XunaMiddleware(Starlette(), gate), place=place))
        headers = {"Authorization": f"Bearer {RSA.token()}"}
        client = httpx.AsyncClient(base_url=url, headers=headers, trust_env=False)
        yield Scene(await stack.enter_async_context(client), clock, received)


def _note(event: Event, received: asyncio.Queue[Event]) -> None:
    if event.name == "webhook_received":
        received.put_nowait(event)


@pytest.mark.parametrize("failures", [0, 1])
async def test_from_a_signed_url_to_a_settled_minute(failures: int) -> None:
    """Talk for twelve seconds of a reserved minute, over a direct signed URL, and hang up.

    The platform's webhook comes; where the gate's store was down, it comes again.
    """
    async with scene(Faltering(failures)) as stage:
        signed = (await stage.client.get("/xuna/get-signed-url")).json()
        assert await stage.left() == 3540
        async with connect(signed["signed_url"], proxy=None) as socket:
            caller = Caller(socket)
            conversation_id = await caller.begin()
            await caller.said()
            stage.clock.now += 12
        async with asyncio.timeout(10):
            event = await stage.received.get()
        assert (event.conversation_id, event.seconds) == (conversation_id, 12.0)
        assert event.cause == "settled"
        assert await stage.left() == 3588


async def test_sandboxed_gate_takes_the_sandboxs_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a secret in the environment, by in-process calls; and its own again afterwards."""
    monkeypatch.delenv("XUNA_AI_WEBHOOK_SECRET", raising=False)
    gate = make_gate(webhook=PostCallWebhook())
    yours = gate.webhook
    statuses: list[int] = []

    class Watched(httpx.ASGITransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await super().handle_async_request(request)
            statuses.append(answer.status_code)
            return answer

    platform = SandboxPlatform(
        unknown_agents=SandboxAgent, webhook_url=GATE, webhook_transport=Watched(gate)
    )
    with sandboxed(gate, platform=platform):
        async with gate:
            assert platform._webhook is not None
            await sent(platform._webhook, {"conversation_id": "conv_1", "metadata": {}})
    assert statuses == [200]
    assert gate.webhook is yours
