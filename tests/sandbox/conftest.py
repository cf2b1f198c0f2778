"""One server for a whole module; the platform behind it changes from test to test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest_asyncio

from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform, serve

from .stage import AGENT, Stage, StageOf, Switchboard, platform_with


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage_of() -> AsyncIterator[StageOf]:
    """Serve a switchboard; the function puts a platform behind it."""
    switchboard = Switchboard()
    switchboard.platform = platform_with()
    async with serve(switchboard) as url:

        @asynccontextmanager
        async def staged(platform: SandboxPlatform) -> AsyncIterator[Stage]:
            switchboard.platform = platform
            async with Stage.at(url, platform) as stage:
                yield stage

        yield staged


@pytest_asyncio.fixture(loop_scope="module")
async def shared(stage_of: StageOf) -> AsyncIterator[Stage]:
    """Stage one private and one public agent, for tests that only look."""
    public = SandboxAgent("agent_public", private=False)
    async with stage_of(platform_with(AGENT, public)) as stage:
        yield stage
