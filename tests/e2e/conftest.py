"""Fixtures that start the real peers."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext

from .authority import Authority, new_authority
from .chromium import FAKE_MICROPHONE, find_chromium, running_chromium
from .node import NodeUnavailableError, install
from .provider import Provider
from .provider_process import Operated, running_provider


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make a certificate authority that has issued for a server and two clients."""
    return new_authority(tmp_path_factory.mktemp("authority"), clients=("holder", "thief"))


@pytest.fixture(scope="session")
def oidc_provider(authority: Authority) -> Iterator[Provider]:
    """Run npm's `oidc-provider`. Skips where there is no Node, or no way to npm's registry."""
    with operated(authority) as provider:
        yield provider.provider


@pytest.fixture(scope="module")
def operated_provider() -> Iterator[Operated]:
    """Run one of the module's own, to be given orders."""
    with operated() as provider:
        yield provider


@contextmanager
def operated(authority: Authority | None = None) -> Iterator[Operated]:
    with ExitStack() as stack:
        try:
            provider = stack.enter_context(running_provider(authority))
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
    async with running_chromium(installed_chromium(), tmp_path / "profile") as context:
        yield context


@pytest.fixture
async def speaking_chromium(tmp_path: Path) -> AsyncIterator[BrowserContext]:
    """Run Chromium with a microphone that pages may use. Skips where none is installed."""
    profile = tmp_path / "profile"
    async with running_chromium(installed_chromium(), profile, *FAKE_MICROPHONE) as context:
        yield context


def installed_chromium() -> str:
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return executable
