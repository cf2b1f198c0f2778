"""Workers of real servers, one Redis: limits hold over all of them, killed ones included."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Final

import httpx
import pytest
from stores.redis_server import running_redis

from .servers import PATIENCE, PROC, TOKEN, Running, running

WORKERS: Final = 3
ASK: Final = "/get-signed-url"


async def ask(server: Running, times: int) -> list[int]:
    """Send so many requests, all at once; 0 stands for one that got no answer."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=PATIENCE) as client:

        async def one() -> int:
            try:
                return (await client.get(ASK, headers=headers)).status_code
            except httpx.TransportError:
                return 0

        return await asyncio.gather(*(one() for _ in range(times)))


def workers_of(server: Running) -> list[int]:
    """Return the processes that a server started, as the kernel lists them."""
    found = []
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            name, _, fields = stat.read_text(encoding="utf-8").rpartition(")")
        except OSError:
            continue
        if int(fields.split()[1]) == server.process.pid:
            found.append(int(name.split()[0]))
    return sorted(found)


@pytest.mark.parametrize("server", ["uvicorn", "hypercorn", "granian"])
async def test_limit_over_several_workers(server: str, tmp_path: Path) -> None:
    """Fifty are issued, whoever asks which worker."""
    with running_redis() as redis:
        options = {"module": "served_workers", "workers": WORKERS}
        environment = {"SERVED_REDIS": redis.url}
        with running(server, tmp_path, environment=environment, **options) as served:
            told = await ask(served, 150)
    assert sorted(set(told)) == [200, 429]
    assert told.count(200) == 50


async def test_killed_worker(tmp_path: Path) -> None:
    """kill -9 in mid-traffic: never more than fifty, and only what was under way is lost."""
    with running_redis() as redis:
        environment = {"SERVED_REDIS": redis.url}
        with running(
            "uvicorn",
            tmp_path,
            module="served_workers",
            workers=WORKERS,
            environment=environment,
        ) as served:
            first = await ask(served, 20)
            asking = asyncio.ensure_future(ask(served, 60))
            await asyncio.sleep(0)
            victim = max(pid for pid in workers_of(served))
            os.kill(victim, signal.SIGKILL)
            during = await asking
            afterwards = await ask(served, 60)
    told = [*first, *during, *afterwards]
    assert told.count(200) <= 50
    assert told.count(200) >= 50 - during.count(0)
    assert 429 in afterwards


async def test_workers_that_count_by_themselves(tmp_path: Path) -> None:
    """Without a shared store each worker but the first says so at start."""
    with running("uvicorn", tmp_path, module="served_workers", workers=WORKERS) as served:
        async with asyncio.timeout(PATIENCE):
            while served.log.read_text(encoding="utf-8").count("another worker") < WORKERS - 1:
                await ask(served, 1)
    assert served.log.read_text(encoding="utf-8").count("another worker") == WORKERS - 1
