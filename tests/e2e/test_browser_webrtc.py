"""A conversation over WebRTC with a token from the gate: a real browser, the real client.

Real time all the way: ICE, DTLS and SCTP run between Chromium and the sandbox, on loopback.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Page
from playwright.async_api import Error as PageError

from xuna_middleware.sandbox import Conversation, SandboxAgent, SandboxPlatform

from .provider import Provider
from .test_browser import AGENT_ID, assert_recorded, opened, rehearsal

TALK = "([token, more]) => talkOverWebRTC(token, more)"


async def talk(page: Page, token: str, **more: Any) -> Any:
    """Get a token from the gate and begin; `more` is what the page adds of its own."""
    return await page.evaluate(TALK, [token, more])


async def ended(platform: SandboxPlatform) -> Conversation:
    """Return the one conversation once its record is finished."""
    async with asyncio.timeout(10):
        while platform.conversations[0].live:  # noqa: ASYNC110 - it has no event to await
            await asyncio.sleep(0.01)
    (record,) = platform.conversations
    return record


async def test_what_the_server_attached_wins(
    oidc_provider: Provider, browser_client: Path, chromium: BrowserContext
) -> None:
    """A page that forges a variable gets the conversation of the person whom the gate knows."""
    platform = rehearsal()
    token = oidc_provider.code_pkce("RS256", "voice", user="ada")
    forged = {"user_name": "Mallory", "topic": "printers"}

    async with opened(platform, oidc_provider, browser_client, chromium) as page:
        given = await talk(page, token, dynamicVariables=forged)
        greeting = await page.evaluate("answer(1)")
        first = await page.evaluate("say('The printer is on fire')")
        second = await page.evaluate("say('Now it is not')")
        seen = await page.evaluate("hangUp()")
        record = await ended(platform)

    assert given["status"] == 200
    assert "Hello ada, how can I help?" in greeting
    assert "The printer is on fire" in first
    assert seen["session"] == ["livekitUrl"]
    assert seen["statuses"] == ["connecting", "connected", "disconnecting", "disconnected"]
    assert (seen["ended"], seen["errors"]) == ("user", [])
    assert_recorded(platform, given["id"], [greeting, first, second])
    assert (record.admitted_by, record.attached) == ("token", frozenset({"user_name"}))
    assert record.dynamic_variables["topic"] == "printers"


async def test_the_agent_s_end_is_told_with_its_reason(
    oidc_provider: Provider, browser_client: Path, chromium: BrowserContext
) -> None:
    """The last words arrive before the room is gone."""
    platform = SandboxPlatform(agents=[SandboxAgent(AGENT_ID, required_variables=("order",))])
    token = oidc_provider.code_pkce("RS256", "voice", user="ada")

    async with opened(platform, oidc_provider, browser_client, chromium) as page:
        await talk(page, token)
        await page.wait_for_function("seen.ended !== null")
        seen = await page.evaluate("seen")
        record = await ended(platform)

    assert seen["ended"] == "agent"
    assert seen["errors"] == ["Server error: Sandbox: required dynamic variables missing: order"]
    assert (record.ended_by, record.error) == ("agent", "missing_dynamic_variable")


async def test_a_token_that_is_none_is_refused_in_words(
    oidc_provider: Provider, browser_client: Path, chromium: BrowserContext
) -> None:
    """The client asks why it was refused, and tells the page."""
    platform = rehearsal()
    token = oidc_provider.code_pkce("RS256", "voice", user="ada")

    async with opened(platform, oidc_provider, browser_client, chromium) as page:
        with pytest.raises(PageError, match="sandbox: conversation token unknown or used before"):
            await talk(page, token, conversationToken="invented")

    assert platform.conversations == ()


async def test_a_person_who_speaks(
    oidc_provider: Provider, browser_client: Path, speaking_chromium: BrowserContext
) -> None:
    """A microphone is published and unheard; the data channel carries the conversation on."""
    platform = rehearsal()
    token = oidc_provider.code_pkce("RS256", "voice", user="ada")

    async with opened(platform, oidc_provider, browser_client, speaking_chromium) as page:
        await talk(page, token, textOnly=False)
        greeting = await page.evaluate("answer(1)")
        answer = await page.evaluate("say('My microphone is on')")
        seen = await page.evaluate("hangUp()")
        record = await ended(platform)

    assert "Hello ada" in greeting
    assert "My microphone is on" in answer
    assert (seen["ended"], seen["errors"], record.audio_bytes) == ("user", [], 0)
