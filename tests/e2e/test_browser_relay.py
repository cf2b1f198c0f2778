"""A relayed conversation in a real browser: the real client, unchanged, and what it can't forge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import BrowserContext, Page

from xuna_middleware import (
    Agent,
    Concurrent,
    Credentials,
    Identity,
    InvalidTokenError,
    XunaGate,
    XunaMiddleware,
    XunaPlatform,
)
from xuna_middleware.sandbox import Place, SandboxAgent, SandboxPlatform, serve

from .test_browser import PATIENCE, site

TOKEN = "canary-browser-relay"
AGENT_ID = "agent_7101k5zvyjhmfg983brhmhkd98n6"


class Ada:
    """Know one token."""

    async def verify(self, credentials: Credentials) -> Identity:
        if credentials.token != TOKEN:
            raise InvalidTokenError
        return Identity(subject="ada")


def support(**options: Any) -> Agent:
    return Agent(
        "support",
        id=AGENT_ID,
        transports=("relay",),
        dynamic_variables={"plan": "free", "secret__key": "canary-secret-variable"},
        overrides={"agent.prompt.prompt": "You know that the plan is {{plan}}."},
        client_variables=("page",),
        client_overrides=("conversation.text_only",),
        limits=[Concurrent(1)],
        **options,
    )


@asynccontextmanager
async def opened(
    platform: SandboxPlatform, agent: Agent, client: Path, chromium: BrowserContext
) -> AsyncIterator[tuple[Page, XunaGate]]:
    """Serve platform and site on loopback, open the site's page, and give it a minute."""
    place = Place.reserve()
    async with asyncio.timeout(PATIENCE), serve(platform) as base_url:
        gate = XunaGate(
            verifier=Ada(),
            agents=[agent],
            platform=XunaPlatform(platform.api_key, base_url=base_url),
            public_url=f"{place.url}/xuna",
        )
        async with serve(XunaMiddleware(site(client), gate), place=place) as url:
            page = await chromium.new_page()
            await page.goto(url)
            yield page, gate
            await page.close()


def rehearsal() -> SandboxPlatform:
    agent = SandboxAgent(
        AGENT_ID,
        first_message="Hello, you are on the {{plan}} plan.",
        allowed_overrides=frozenset({"agent.prompt.prompt"}),
    )
    return SandboxPlatform(agents=[agent])


async def test_the_documented_page_talks_through_the_gate(
    browser_client: Path, chromium: BrowserContext
) -> None:
    """The page is the documented one; the server's word reaches the platform, and nobody else."""
    platform = rehearsal()
    async with opened(platform, support(), browser_client, chromium) as (page, gate):
        given = await page.evaluate("token => talk(token)", TOKEN)
        greeting = await page.evaluate("answer(1)")
        (session,) = await gate.sessions()
        said = await page.evaluate("say('The printer is on fire')")
        seen = await page.evaluate("hangUp()")

    (record,) = platform.conversations
    assert greeting == "[sandbox] Hello, you are on the free plan."
    assert "The printer is on fire" in said
    assert (seen["ended"], seen["errors"]) == ("user", [])
    assert seen["pass"] == ["agent", "signed_url", "start_by", "transport"]
    assert given["id"] == record.id == session.conversation_id
    assert record.dynamic_variables["secret__key"] == "canary-secret-variable"
    assert record.overrides["agent.prompt.prompt"] == "You know that the plan is {{plan}}."
    assert (record.ended_by, record.close_code) == ("user", 1000)


async def test_a_forged_variable_never_arrives(
    browser_client: Path, chromium: BrowserContext
) -> None:
    """The page says what the server said already: the conversation ends, nothing was sent on."""
    platform = rehearsal()
    async with opened(platform, support(), browser_client, chromium) as (page, _):
        forged = await page.evaluate(
            "token => talk(token, { dynamicVariables: { plan: 'enterprise' } }).catch(String)",
            TOKEN,
        )
        again = await page.evaluate("token => talk(token)", TOKEN)
    assert "variable_not_allowed" in forged
    assert again["status"] == 200
    assert [record.dynamic_variables["plan"] for record in platform.conversations] == ["free"]


async def test_the_page_is_told_why_it_ended(
    browser_client: Path, chromium: BrowserContext
) -> None:
    """Time is up, and an operator's word: the client reports an error, with the reason."""
    platform = rehearsal()
    async with opened(platform, support(max_duration=1), browser_client, chromium) as (page, _):
        await page.evaluate("token => talk(token)", TOKEN)
        seen = await page.evaluate("ended()")
    assert (seen["ended"], seen["closed"]) == ("error", [4410, "max_duration"])

    async with opened(platform, support(), browser_client, chromium) as (page, gate):
        await page.evaluate("token => talk(token)", TOKEN)
        (session,) = await gate.sessions()
        assert await gate.end_session(session.id)
        seen = await page.evaluate("ended()")
    assert (seen["ended"], seen["closed"]) == ("error", [4412, "ended_by_operator"])
