"""The servers of the demo, each on a loopback port: platform, provider, and the page's app."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from xuna_middleware import XunaGate, XunaMiddleware
from xuna_middleware.demo.app import page_app
from xuna_middleware.demo.feed import Feed
from xuna_middleware.demo.scene import (
    AGENTS,
    AUDIENCE,
    CAST,
    CLIENT_ID,
    IN_WORDS,
    OVERSEE_SCOPE,
    PLATFORM_AGENTS,
    Wiring,
    build_gate,
)
from xuna_middleware.sandbox import (
    VOICE_SCOPE,
    Place,
    SandboxPlatform,
    SandboxProvider,
    serve,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Hold what runs. `url` is the page's address, without a slash at its end."""

    url: str
    gate: XunaGate
    platform: SandboxPlatform
    provider: SandboxProvider
    feed: Feed


@asynccontextmanager
async def raise_stage(
    *, port: int = 0, build: Callable[[Wiring], XunaGate] = build_gate
) -> AsyncIterator[Stage]:
    """Serve all three until the block ends; 0 takes a free port for the page.

    Raises:
        OSError: the port is taken. RuntimeError: an extra is missing, or an app did not start.
    """
    async with AsyncExitStack() as stack:
        page, door, hall = (_place(stack, port), _place(stack), _place(stack))
        feed = Feed()
        platform = SandboxPlatform(agents=PLATFORM_AGENTS)
        provider = SandboxProvider(
            issuer=door.url,
            audience=AUDIENCE,
            client_id=CLIENT_ID,
            redirect_uris=[f"{page.url}/", f"{page.url}/operator"],
            people=CAST,
        )
        gate = build(
            Wiring(
                issuer=door.url,
                platform_url=hall.url,
                api_key=platform.api_key,
                public_url=f"{page.url}/xuna",
                on_event=feed,
            )
        )
        app = page_app(_config(page.url, hall.url, provider), feed, gate)
        await stack.enter_async_context(serve(platform, place=hall))
        await stack.enter_async_context(serve(provider, place=door))
        gated = XunaMiddleware(app, gate, prefix="/xuna", protect=["/api"])
        await stack.enter_async_context(serve(gated, place=page))
        stack.callback(feed.close)  # watchers would keep their server from stopping
        yield Stage(url=page.url, gate=gate, platform=platform, provider=provider, feed=feed)


def _place(stack: AsyncExitStack, port: int = 0) -> Place:
    place = Place.reserve(port=port)
    stack.callback(place.close)
    return place


def _config(page: str, hall: str, provider: SandboxProvider) -> dict[str, Any]:
    """Return what `/demo/config` tells the page."""
    longest = {agent.name: agent.max_duration for agent in AGENTS if agent.is_relayed}
    return {
        "issuer": provider.issuer,
        "client_id": CLIENT_ID,
        "scope": f"openid profile {VOICE_SCOPE} {OVERSEE_SCOPE}",
        "talk_scope": VOICE_SCOPE,
        # The page's own WebSocket, too: not every browser takes it for 'self'.
        "connect": [provider.issuer, *(url.replace("http", "ws", 1) for url in (page, hall))],
        "people": [
            {"subject": one.subject, "name": one.name, "about": one.note} for one in provider.people
        ],
        "agents": [
            {"name": name, "title": title, "about": about, "longest": longest.get(name)}
            for name, (title, about) in IN_WORDS.items()
        ],
    }
