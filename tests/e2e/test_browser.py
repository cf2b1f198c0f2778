"""From a real provider's token to a live conversation, in a real browser with the real client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Page
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Route

from xuna_middleware import (
    Agent,
    OIDCVerifier,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
    claim,
    require_scopes,
)
from xuna_middleware.sandbox import SandboxAgent, SandboxPlatform, serve

from .provider import Provider

PAGE = Path(__file__).parent / "browser" / "page.html"
AGENT_ID = "agent_7101k5zvyjhmfg983brhmhkd98n6"
#: How long a walk through the page may take, in seconds.
PATIENCE = 60


def site(client: Path) -> Starlette:
    """Return somebody's site: a page, and the client's script."""
    return Starlette(
        routes=[
            Route("/", lambda _: FileResponse(PAGE)),
            Route("/client.js", lambda _: FileResponse(client)),
        ]
    )


def gate_to(platform: SandboxPlatform, base_url: str, provider: Provider) -> XunaGate:
    return XunaGate(
        verifier=OIDCVerifier(provider.issuer, audience="voice"),
        agents=[
            Agent(
                "support",
                id=AGENT_ID,
                allow=require_scopes("voice:talk"),
                dynamic_variables={"user_name": claim("sub")},
            )
        ],
        platform=XunaPlatform(
            platform.api_key, base_url=base_url, livekit_url=base_url.replace("http", "ws", 1)
        ),
    )


@asynccontextmanager
async def opened(
    platform: SandboxPlatform, provider: Provider, client: Path, chromium: BrowserContext
) -> AsyncIterator[Page]:
    """Serve platform and site on loopback, open the site's page, and give it a minute."""
    async with asyncio.timeout(PATIENCE), serve(platform) as base_url:
        gate = gate_to(platform, base_url, provider)
        async with serve(XunaMiddleware(site(client), gate, prefix="/xuna")) as url:
            page = await chromium.new_page()
            await page.goto(url)
            yield page
            await page.close()


def rehearsal() -> SandboxPlatform:
    agent = SandboxAgent(AGENT_ID, first_message="Hello {{user_name}}, how can I help?")
    return SandboxPlatform(agents=[agent])


async def test_a_conversation_from_the_sign_in_to_the_hang_up(
    oidc_provider: Provider, browser_client: Path, chromium: BrowserContext
) -> None:
    """Connected with what the gate attached, two turns, closed by the user: both sides agree."""
    platform = rehearsal()
    token = oidc_provider.code_pkce("RS256", "voice", user="ada")

    async with opened(platform, oidc_provider, browser_client, chromium) as page:
        given = await page.evaluate("token => talk(token)", token)
        assert given["status"] == 200
        greeting = await page.evaluate("answer(1)")
        first = await page.evaluate("say('The printer is on fire')")
        second = await page.evaluate("say('Now it is not')")
        seen = await page.evaluate("hangUp()")

    assert "Hello ada, how can I help?" in greeting
    assert "The printer is on fire" in first
    assert "Now it is not" in second
    assert seen["statuses"] == ["connecting", "connected", "disconnecting", "disconnected"]
    assert (seen["ended"], seen["errors"]) == ("user", [])
    assert_recorded(platform, given["id"], [greeting, first, second])


def assert_recorded(platform: SandboxPlatform, conversation_id: str, said: list[Any]) -> None:
    (record,) = platform.conversations
    assert (record.id, record.agent_id) == (conversation_id, AGENT_ID)
    assert (record.ended_by, record.close_code) == ("user", 1000)
    assert record.dynamic_variables["user_name"] == "ada"
    assert [line.text for line in record.transcript if line.role == "agent"] == said
    assert [line.text for line in record.transcript if line.role == "user"] == [
        "The printer is on fire",
        "Now it is not",
    ]


async def test_the_page_is_refused_and_nothing_is_issued(
    oidc_provider: Provider, browser_client: Path, chromium: BrowserContext
) -> None:
    """A forged token is a 401, a person without the scope a 403; the page can read which."""
    platform = rehearsal()
    good = oidc_provider.code_pkce("RS256", "voice", user="ada")
    forged = f"{good[:-8]}AAAAAAAA"
    unscoped = oidc_provider.code_pkce("RS256", "voice", user="ben", scope="voice:listen")

    async with opened(platform, oidc_provider, browser_client, chromium) as page:
        answers = [await page.evaluate("token => talk(token)", each) for each in (forged, unscoped)]

    assert [answer["status"] for answer in answers] == [401, 403]
    assert answers[0]["code"] == "invalid_token"
    assert (platform.issued, platform.conversations) == ((), ())
