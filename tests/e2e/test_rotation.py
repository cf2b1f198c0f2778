"""A real provider changes its keys in mid-traffic, and no caller of a served gate notices."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Final

import httpx

from .provider_process import Operated
from .servers import Running, running

REQUESTS: Final = 10_000
ROTATIONS: Final = 20
CALLERS: Final = 6
#: In seconds. The gate's cooldown is 1; it renews its keys every 10.
SPACING: Final = 1.1
RENEWAL: Final = 10


class Traffic:
    """Send requests without a pause, each with one of the two newest tokens."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self.client = client
        self.tokens: list[str] = []
        self.answers = Counter[int]()
        self.over = False

    async def call(self) -> None:
        token = self.tokens[-1 - self.answers.total() % len(self.tokens[-2:])]
        reply = await self.client.get(self.url, headers={"Authorization": f"Bearer {token}"})
        self.answers[reply.status_code] += 1

    async def go_on(self) -> None:
        while not self.over:
            await self.call()

    async def pass_by(self, requests: int, seconds: float) -> None:
        """Return once that many more were answered and that much time went by."""
        wanted, until = self.answers.total() + requests, time.monotonic() + seconds
        while self.answers.total() < wanted or time.monotonic() < until:
            await self.call()


async def test_no_request_is_lost_over_twenty_rotations(
    operated_provider: Operated, tmp_path: Path
) -> None:
    """Tokens of the new key come at once, those of the old one go on: every answer is 200.

    The provider is asked for its keys once a rotation and once a renewal, however many call.
    """
    with running("uvicorn", tmp_path, **served(operated_provider)) as server:
        traffic, seconds = await rotated(operated_provider, server)

    assert traffic.answers.total() >= REQUESTS
    assert traffic.answers == {200: traffic.answers.total()}
    first, renewals = 1, seconds / RENEWAL + 1
    assert ROTATIONS <= operated_provider.asked() <= first + ROTATIONS + renewals


async def rotated(operator: Operated, server: Running) -> tuple[Traffic, float]:
    """Rotate again and again in mid-traffic; return the traffic, and how long it took."""
    begun = time.monotonic()
    limits = httpx.Limits(max_keepalive_connections=CALLERS + 1, keepalive_expiry=2)
    async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=20) as client:
        traffic = Traffic(f"{server.url}/api/me", client)
        await present_new_token(operator, traffic)
        async with asyncio.TaskGroup() as callers:
            for _ in range(CALLERS):
                callers.create_task(traffic.go_on())
            for _ in range(ROTATIONS):
                await asyncio.to_thread(operator.rotate)
                await present_new_token(operator, traffic)
                await traffic.pass_by(REQUESTS // ROTATIONS, SPACING)
            traffic.over = True
    return traffic, time.monotonic() - begun


async def present_new_token(operator: Operated, traffic: Traffic) -> None:
    traffic.tokens.append(
        await asyncio.to_thread(operator.provider.client_credentials, "ES256", "voice")
    )


def served(operator: Operated) -> dict[str, object]:
    environment = {
        "SERVED_ISSUER": operator.provider.issuer,
        "SERVED_PUBLIC_URL": "http://127.0.0.1:{port}/xuna",
        "SERVED_BINDING": "none",
    }
    return {"module": "served_gates", "app": "wrapped", "environment": environment}
