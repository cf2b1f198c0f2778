"""`examples/browser.html` as it stands, in a real browser, against both kinds of gate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import BrowserContext, Page
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from xuna_middleware import Agent, Identity, XunaGate, XunaMiddleware, require_scopes
from xuna_middleware.sandbox import serve
from xuna_middleware.testing import Sandbox, sandboxed

EXAMPLE = Path(__file__).parents[2] / "examples" / "browser.html"
#: Stands in for the client's package, which wants a microphone: it notes what it was given.
CLIENT = """
export const Conversation = { startSession: async (options) => { window.started = options; } };
"""
IMPORTS = '<script type="importmap">{"imports": {"@xuna-ai/client": "/client.js"}}</script>'
PATIENCE = 60


async def home(request: Request) -> Response:
    page = HTMLResponse(IMPORTS + EXAMPLE.read_text(encoding="utf-8"))
    page.set_cookie("user", "ada", samesite="lax", httponly=True)
    return page


async def client(request: Request) -> Response:
    return Response(CLIENT, media_type="text/javascript")


async def by_cookie(connection: HTTPConnection) -> Identity | None:
    user = connection.cookies.get("user")
    return Identity(subject=user, scopes=frozenset({"voice:talk"})) if user else None


@asynccontextmanager
async def opened(chromium: BrowserContext) -> AsyncIterator[tuple[Page, Sandbox]]:
    """Serve the page behind a gate that knows bearer tokens and cookies, and open it."""
    gate = XunaGate(
        authenticator=by_cookie,
        agents=[
            Agent(
                "support",
                id="agent_support",
                allow=require_scopes("voice:talk"),
                dynamic_variables={"user_name": lambda who: who.subject},
            )
        ],
    )
    site = Starlette(routes=[Route("/", home), Route("/client.js", client)])
    app = XunaMiddleware(site, gate, prefix="")
    with sandboxed(gate) as sandbox:
        async with asyncio.timeout(PATIENCE), serve(app) as url:
            page = await chromium.new_page()
            await page.goto(url)
            yield page, sandbox
            await page.close()


async def press(page: Page, button: str) -> str:
    """Press a button and return what the page says then."""
    await page.click(f"text={button}")
    await page.wait_for_function("document.querySelector('output').textContent !== ''")
    return await page.text_content("output") or ""


async def keep_token(page: Page, headers: dict[str, str]) -> None:
    """Put a token where the page's login would."""
    token = headers["Authorization"].removeprefix("Bearer ")
    await page.evaluate("token => sessionStorage.setItem('access_token', token)", token)


async def test_with_a_bearer_token(chromium: BrowserContext) -> None:
    """The signed URL reaches the client, with what the client has to carry."""
    async with opened(chromium) as (page, sandbox):
        await keep_token(page, sandbox.sign_in("user-1", scopes=["voice:talk"]))
        assert await press(page, "Talk to us") == "Connected."
        started = await page.evaluate("started")

    assert sorted(started) == ["dynamicVariables", "signedUrl"]
    assert started["dynamicVariables"] == {"user_name": "user-1"}
    assert [(each.subject, each.transport) for each in sandbox.issued] == [("user-1", "websocket")]


async def test_with_a_cookie(chromium: BrowserContext) -> None:
    """The browser adds the cookie and says same-origin; the token reaches the client."""
    async with opened(chromium) as (page, sandbox):
        assert await press(page, "Call us") == "Connected."
        started = await page.evaluate("started")

    assert sorted(started) == ["conversationToken"]
    assert [(each.subject, each.transport) for each in sandbox.issued] == [("ada", "webrtc")]


@pytest.mark.parametrize(("good", "detail"), [(True, "lacks a scope"), (False, "not accepted")])
async def test_a_refusal_is_shown(chromium: BrowserContext, good: bool, detail: str) -> None:
    """Without the scope, or with a token that is none: the reason and the reference."""
    async with opened(chromium) as (page, sandbox):
        forged = {"Authorization": "Bearer x.y.z"}
        await keep_token(page, sandbox.sign_in("user-1") if good else forged)
        said = await press(page, "Talk to us")
        assert "(reference " in said
        assert "(reference null)" not in said
        assert detail in said
        assert not sandbox.issued
