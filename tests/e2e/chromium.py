"""A real browser: Debian's Chromium, driven by Playwright, that can reach this machine only."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from playwright.async_api import BrowserContext, Route, async_playwright

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_FLAGS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # The routes below see what pages ask for; this stops what the browser asks for by itself.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
#: A microphone that is none, which beeps, and no question whether a page may use it.
FAKE_MICROPHONE: Final = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


def find_chromium() -> str | None:
    """Return the path of a Chromium that is installed here, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def running_chromium(
    executable: str, profile: Path, *flags: str
) -> AsyncIterator[BrowserContext]:
    """Run a headless Chromium with a fresh profile; whatever is not this machine is blocked."""
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile, executable_path=executable, headless=True, args=[*_FLAGS, *flags]
        )
        try:
            await context.route("**/*", _stay_here)
            yield context
        finally:
            await context.close()


async def _stay_here(route: Route) -> None:
    if urlsplit(route.request.url).hostname == "127.0.0.1":
        await route.continue_()
    else:
        await route.abort("addressunreachable")
