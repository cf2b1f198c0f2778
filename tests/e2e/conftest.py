"""Fixtures that start the real peers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from .chromium import find_chromium, running_chromium
from .node import NodeUnavailableError, install
from .provider import Provider, running_provider


@pytest.fixture(scope="session")
def oidc_provider() -> Iterator[Provider]:
    """Run npm's `oidc-provider`. Skips where there is no Node, or no way to npm's registry."""
    with ExitStack() as stack:
        try:
            provider = stack.enter_context(running_provider())
        except NodeUnavailableError as reason:
            pytest.skip(f"no real OpenID provider: {reason}")
        yield provider


@pytest.fixture(scope="session")
def browser_client() -> Path:
    """Return the real browser client, one script. Skips where npm's registry can't be reached."""
    try:
        modules = install(Path(__file__).parent / "browser")
    except NodeUnavailableError as reason:
        pytest.skip(f"no real browser client: {reason}")
    return modules / "@elevenlabs/client/dist/lib.iife.js"


@pytest.fixture
async def chromium(tmp_path: Path) -> AsyncIterator[BrowserContext]:
    """Run Chromium with a profile of its own. Skips where none is installed."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    async with running_chromium(executable, tmp_path / "profile") as context:
        yield context
