"""What a page's markup can make a real browser send: none of it spends a cookie's caller."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from playwright.async_api import BrowserContext, Page
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xuna_middleware import Agent, Identity, XunaGate, XunaMiddleware
from xuna_middleware.sandbox import serve
from xuna_middleware.testing import Sandbox, sandboxed

PATIENCE: Final = 60
#: Each asks the gate for a credential; `as` tells one from another.
MARKUP: Final = {
    "img": '<img src="{}">',
    "img-cors": '<img crossorigin="use-credentials" src="{}">',
    "srcset": '<picture><source srcset="{}"><img></picture>',
    "css": '<div style="background:url({})">x</div>',
    "mask": '<div style="mask:url({}#m)">x</div>',
    "use": '<svg><use href="{}#x"/></svg>',
    "script": '<script src="{}"></script>',
    "module": '<script type="module" src="{}"></script>',
    "stylesheet": '<link rel="stylesheet" href="{}">',
    "preload": '<link rel="preload" as="fetch" href="{}">',
    "preload-cors": '<link rel="preload" as="fetch" crossorigin href="{}">',
    "preload-credentials": (
        '<link rel="preload" as="fetch" crossorigin="use-credentials" href="{}">'
    ),
    "prefetch": '<link rel="prefetch" href="{}">',
    "modulepreload": '<link rel="modulepreload" href="{}">',
    "iframe": '<iframe src="{}"></iframe>',
    "object": '<object data="{}"></object>',
    "embed": '<embed src="{}">',
    "video": '<video src="{}"></video>',
    "audio": '<audio src="{}"></audio>',
    "track": '<video><track default src="{}"></video>',
    "input": '<input type="image" src="{}">',
    "font": "<style>@font-face {{font-family:x; src:url({})}} p {{font-family:x}}</style><p>x</p>",
    "speculation": (
        '<script type="speculationrules">'
        '{{"prefetch": [{{"source": "list", "urls": ["{}"], "eagerness": "immediate"}}]}}</script>'
    ),
    "ping": '<a id="ping" href="#x" ping="{}">x</a>',
    "download": '<a id="download" download href="{}">x</a>',
    "get-form": '<form id="get" action="{}" target="gets">'
    '<input name="as" value="get-form"></form>'
    '<iframe name="gets"></iframe>',
    "post-form": '<form id="post" action="{}" method="post" target="posts"></form>'
    '<iframe name="posts"></iframe>',
}


class Answers:
    """Note what the gate answers to whom: the name in the query, and the status."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.seen: dict[str, set[int]] = {}
        self._more = asyncio.Event()

    async def until(self, names: set[str]) -> None:
        """Wait until all of these have an answer; the test's patience bounds it."""
        while not names <= set(self.seen):
            self._more.clear()
            await self._more.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and "/xuna/" in scope["path"]:
                name = scope["query_string"].decode().partition("as=")[2].partition("&")[0]
                self.seen.setdefault(name, set()).add(message["status"])
                self._more.set()
            await send(message)

        await self._app(scope, receive, noted)


async def home(request: Request) -> Response:
    page = HTMLResponse("<!doctype html><p>empty</p>")
    page.set_cookie("user", "ada", samesite="lax", httponly=True)
    return page


async def marked_up(request: Request) -> Response:
    body = "".join(
        markup.format(f"/xuna/get-signed-url?as={name}") for name, markup in MARKUP.items()
    )
    return HTMLResponse(f"<!doctype html>{body}")


async def by_cookie(connection: HTTPConnection) -> Identity | None:
    user = connection.cookies.get("user")
    return Identity(subject=user) if user else None


@asynccontextmanager
async def opened(chromium: BrowserContext) -> AsyncIterator[tuple[Page, str, Answers, Sandbox]]:
    gate = XunaGate(authenticator=by_cookie, agents=[Agent("support", id="agent_1")])
    site = Starlette(routes=[Route("/", home), Route("/markup", marked_up)])
    app = Answers(XunaMiddleware(site, gate))
    with sandboxed(gate) as sandbox:
        async with asyncio.timeout(PATIENCE), serve(app) as url:
            page = await chromium.new_page()
            await page.goto(url)
            yield page, url, app, sandbox
            await page.close()


async def test_markup_of_the_gates_own_origin_issues_nothing(chromium: BrowserContext) -> None:
    """The browser sends each with the cookie; every one is a 403, and nothing is issued."""
    async with opened(chromium) as (page, url, answers, sandbox):
        await page.goto(f"{url}/markup")
        await page.click("#ping")
        await page.evaluate("document.getElementById('get').requestSubmit()")
        await page.evaluate("document.getElementById('post').requestSubmit()")
        await page.evaluate("navigator.sendBeacon('/xuna/get-signed-url?as=beacon')")
        await page.evaluate("document.getElementById('download').click()")
        await answers.until(set(MARKUP) | {"beacon"})
    assert {name: statuses for name, statuses in answers.seen.items() if statuses != {403}} == {}
    assert not sandbox.issued


async def test_a_script_of_that_page_gets_one(chromium: BrowserContext) -> None:
    """`fetch()` and XMLHttpRequest, by GET and by POST."""
    async with opened(chromium) as (page, _, answers, sandbox):
        asked = """async () => {
            const path = "/xuna/get-signed-url?as=";
            await fetch(path + "get");
            await fetch(path + "post", {method: "POST"});
            await fetch(path + "json", {method: "POST", body: "{}",
                headers: {"Content-Type": "application/json"}});
            await new Promise(done => {
                const request = new XMLHttpRequest();
                request.onload = done;
                request.open("GET", path + "xhr");
                request.send();
            });
        }"""
        await page.evaluate(asked)
    assert answers.seen == {name: {200} for name in ("get", "post", "json", "xhr")}
    assert len(sandbox.issued) == 4
