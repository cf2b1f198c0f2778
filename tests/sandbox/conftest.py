"""One served platform for tests that only look at it."""

from collections.abc import AsyncIterator

import pytest

from xuna_middleware.sandbox import SandboxAgent

from .stage import AGENT, Stage, platform_with


@pytest.fixture
async def shared() -> AsyncIterator[Stage]:
    """Serve one private and one public agent."""
    public = SandboxAgent("agent_public", private=False)
    async with Stage.of(platform_with(AGENT, public)) as stage:
        yield stage
