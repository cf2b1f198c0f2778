"""The page in a real browser: what a person would do, and what must not be seen on the way."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from e2e.chromium import find_chromium, running_chromium
from playwright.async_api import Page, WebSocket, expect

from xuna_middleware import Identity
from xuna_middleware.demo.carried import hurried
from xuna_middleware.demo.scene import ledger_key
from xuna_middleware.demo.stage import Stage, raise_stage


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """Open a page in Chromium, on a phone's width. Skips where there is none."""
    executable = find_chromium()
    if executable is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    async with running_chromium(executable, tmp_path / "profile") as context:
        page = await context.new_page()
        await page.set_viewport_size({"width": 375, "height": 812})
        yield page


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with raise_stage() as stage:
        yield stage


async def sign_in(page: Page, name: str) -> None:
    """Choose this person at the provider, and come back."""
    await page.get_by_role("button", name=re.compile("^Sign in")).click()
    await page.get_by_role("button", name=name).click()
    await expect(page.locator("#name")).to_have_text(name)


async def test_a_person_signs_in_and_talks(page: Page, stage: Stage) -> None:
    """Two turns over the signed URL, a forged variable refused; the token is to be seen nowhere."""
    tokens: set[str] = set()
    page.on("request", lambda request: tokens.add(request.headers.get("authorization", "")))
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(error.message))
    page.on("console", lambda said: problems.append(said.text))
    await page.goto(stage.url)
    await sign_in(page, "Ada Moreau")
    await page.get_by_role("button", name="Signed URL", exact=True).click()
    await page.get_by_role("button", name="Start the conversation").click()
    lines = page.locator(".agent-line")
    await expect(lines).to_have_count(1)
    for turn, text in enumerate(["What is my plan?", "Thank you."], start=2):
        await page.get_by_label("Your message").fill(text)
        await page.keyboard.press("Enter")
        await expect(lines).to_have_count(turn)
    await expect(lines.nth(1)).to_contain_text("plan_name is pro")
    await page.get_by_role("button", name="End", exact=True).click()
    await expect(page.get_by_text("You ended the conversation.")).to_be_visible()
    assert problems == []

    await page.get_by_role("button", name="Forged variable").click()
    await expect(page.get_by_text("400 variable_not_allowed").first).to_be_visible()
    decision = page.locator("#timeline .refused").first
    await expect(decision).to_contain_text("400 variable_not_allowed")
    assert len(stage.platform.issued) == 1
    assert stage.platform.conversations[0].close_code == 1000

    shown = await page.content() + page.url
    stored = await page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
    secrets = [one.removeprefix("Bearer ") for one in tokens - {""}]
    assert secrets
    assert not [one for one in secrets if one in shown + stored]
    assert stored == "[{},{}]"
    assert "signature" not in shown.replace("signature stays the old one", "")
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide == 375


async def test_a_person_without_the_scope_is_refused(page: Page, stage: Stage) -> None:
    """The page says which answer it was, the timeline why, and nothing was issued."""
    await page.goto(stage.url)
    await sign_in(page, "Cleo Lindqvist")
    await expect(page.get_by_text("not open to you")).to_have_count(3)
    await page.get_by_role("button", name="Conversation token").click()
    await expect(page.locator("#pass")).to_contain_text("403 insufficient_scope")
    decision = page.locator("#timeline .refused").first
    await expect(decision).to_contain_text("lacks voice:talk")
    reference = await page.locator("#pass dd").inner_text()
    await expect(decision).to_contain_text(reference)
    assert stage.platform.issued == ()


async def test_a_smaller_plan_is_refused_in_the_authors_words(page: Page, stage: Stage) -> None:
    """And so are no token and a token that was tampered with."""
    await page.goto(stage.url)
    await sign_in(page, "Ben Okafor")
    await page.get_by_role("radio", name="Advisor").check()
    await page.get_by_role("button", name="Signed URL", exact=True).click()
    await expect(page.get_by_text("The advisor is part of the Pro plan.")).to_be_visible()
    for button, answer in (("No token", "not_authenticated"), ("Tampered token", "invalid_token")):
        row = page.get_by_role("listitem").filter(has=page.get_by_role("button", name=button))
        await page.get_by_role("button", name=button).click()
        await expect(row).to_contain_text(f"401 {answer}")
    assert stage.platform.issued == ()


async def test_whoever_cancels_is_told_and_may_try_again(page: Page, stage: Stage) -> None:
    """The provider's refusal becomes a sentence, and the address bar holds none of it."""
    await page.goto(stage.url)
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.get_by_role("alert")).to_contain_text("Not signed in.")
    assert page.url == f"{stage.url}/"
    await sign_in(page, "Ada Moreau")


async def test_an_answer_to_another_sign_in_is_not_taken(page: Page, stage: Stage) -> None:
    """A link with somebody else's code signs nobody in."""
    await page.goto(f"{stage.url}/?code=abc&state=def&iss={stage.provider.issuer}")
    await expect(page.get_by_role("alert")).to_contain_text("belongs to no sign-in")
    await expect(page.locator("#signed-in")).to_be_hidden()


async def test_a_visitor_does_the_work_and_meets_the_limit(page: Page, stage: Stage) -> None:
    """No sign-in: a puzzle, three credentials, then 429; signing in refills nothing."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(error.message))
    await page.goto(stage.url)
    ask = page.get_by_role("button", name="Signed URL as a visitor")
    visited = page.locator("#visited")
    for left in (2, 1, 0):
        await ask.click()
        await expect(page.locator("#left li").first).to_contain_text(f"{left} of 3 credentials")
        await expect(visited).to_contain_text("Signed URL received")
    await page.get_by_role("button", name="Start the conversation").click()
    await expect(page.locator(".agent-line").first).to_contain_text("Welcome, whoever you are")
    await page.get_by_role("button", name="End", exact=True).click()
    await ask.click()
    await expect(visited).to_contain_text("429 quota_exceeded")
    await expect(visited).to_contain_text("seconds")
    assert len(stage.platform.issued) == 3

    await sign_in(page, "Ada Moreau")
    await page.get_by_label("Guide").check()
    await page.get_by_role("button", name="Signed URL", exact=True).click()
    await expect(page.locator("#pass")).to_contain_text("429 quota_exceeded")
    assert len(stage.platform.issued) == 3
    assert "xuna_visitor" not in await page.evaluate("document.cookie")
    assert problems == []


async def talk_with_the_banker(page: Page) -> None:
    """Begin a conversation through the gate, and wait for its first words."""
    await page.get_by_role("radio", name="Banker").check()
    await page.get_by_role("button", name="Signed URL", exact=True).click()
    await expect(page.locator("#pass")).to_contain_text("It leads to the gate itself")
    await page.get_by_role("button", name="Start the conversation").click()
    await expect(page.locator(".agent-line")).to_have_count(1)


async def operators_window(page: Page) -> Page:
    """Open the second window, and sign in there as the operator."""
    async with page.context.expect_page() as opened:
        await page.get_by_role("link", name="Open the operator").click()
    window = await opened.value
    await sign_in(window, "Olga Brandt")
    return window


async def test_a_conversation_ends_from_a_second_window(page: Page, stage: Stage) -> None:
    """The operator sees who talks and ends it; the person reads why, and may begin another."""
    await page.goto(stage.url)
    await sign_in(page, "Ada Moreau")
    await talk_with_the_banker(page)
    await expect(page.get_by_role("timer")).to_contain_text(re.compile(r"in 1:[0-3]\d at the"))
    operator = await operators_window(page)
    problems: list[str] = []
    operator.on("pageerror", lambda error: problems.append(error.message))
    row = operator.get_by_role("table").get_by_role("row").nth(1)
    await expect(row.get_by_role("rowheader")).to_have_text("Ada Moreau")
    await expect(row).to_contain_text(re.compile(r"Banker.*1:[0-3]\d", re.DOTALL))
    await operator.get_by_role("button", name="End: Ada Moreau with Banker").click()
    await expect(operator.get_by_role("table")).to_be_hidden()
    await expect(operator.get_by_text("Nobody talks through the gate")).to_be_visible()
    await expect(operator.locator("#overseen")).to_contain_text("Ada Moreau’s conversation ends")
    await expect(operator.locator("#live-title")).to_be_focused()
    assert problems == []

    ended = "An operator ended the conversation. (4412 ended_by_operator)"
    await expect(page.get_by_text(ended)).to_be_visible()
    await talk_with_the_banker(page)
    await expect(operator.get_by_role("rowheader")).to_have_text("Ada Moreau")
    assert [one.live for one in stage.platform.conversations] == [False, True]


async def test_a_person_is_revoked_from_a_second_window(page: Page, stage: Stage) -> None:
    """The conversation ends, the next request is refused, and a new sign-in is good."""
    await page.goto(stage.url)
    await sign_in(page, "Ada Moreau")
    await talk_with_the_banker(page)
    operator = await operators_window(page)
    await operator.get_by_role("button", name="Revoke Ada Moreau").click()
    await expect(operator.locator("#overseen")).to_contain_text("Ada Moreau is revoked")
    await expect(page.locator("#lines")).to_contain_text("until you sign in again. (4411 revoked)")
    await expect(page.get_by_label("Your message")).to_be_disabled()
    for agent in ("Banker", "Concierge"):
        await page.get_by_role("radio", name=agent).check()
        await page.get_by_role("button", name="Signed URL", exact=True).click()
        await expect(page.locator("#pass")).to_contain_text("401 invalid_token")
    # A token's `iat` is in whole seconds: the next second's is later than the revocation.
    await page.wait_for_function(
        "at => Date.now() / 1000 > at", arg=int(stage.feed.events()[-1].time) + 1
    )
    await sign_in(page, "Ada Moreau")
    await talk_with_the_banker(page)


async def test_the_time_limit_comes(page: Page) -> None:
    """The page reads the close code in words; there is no operator's hand in it."""
    async with raise_stage(build=hurried) as stage:
        await page.goto(stage.url)
        await sign_in(page, "Ada Moreau")
        await talk_with_the_banker(page)
        await expect(page.get_by_text("The time limit is reached. (4410")).to_be_visible()
        await expect(page.get_by_role("timer")).to_be_hidden()


async def test_a_forged_first_frame_gets_nowhere(page: Page, stage: Stage) -> None:
    """What the page sends with it, the gate sends to nobody."""
    await page.goto(stage.url)
    await sign_in(page, "Ada Moreau")
    await page.get_by_role("button", name="Forged frame").click()
    row = page.get_by_role("listitem").filter(has=page.get_by_role("button", name="Forged frame"))
    await expect(row).to_contain_text("4400 variable_not_allowed")
    assert stage.platform.conversations == ()


async def test_what_the_gate_adds_is_seen_nowhere(page: Page, stage: Stage) -> None:
    """Its secret reaches the platform and no frame of the page's; the ticket is not on screen."""
    addresses: list[str] = []
    frames: list[str] = []

    def listen(socket: WebSocket) -> None:
        addresses.append(socket.url)
        socket.on("framereceived", lambda frame: frames.append(str(frame)))
        socket.on("framesent", lambda frame: frames.append(str(frame)))

    page.on("websocket", listen)
    await page.goto(stage.url)
    await sign_in(page, "Ada Moreau")
    await talk_with_the_banker(page)
    (address,) = addresses
    (record,) = stage.platform.conversations
    secret = ledger_key(Identity(subject="ada"))
    assert record.dynamic_variables["secret__ledger_key"] == secret
    assert "Hello Ada Moreau" in "".join(frames)
    assert secret not in "".join(frames) + await page.content()
    assert address.partition("ticket=")[2]
    assert address.partition("ticket=")[2] not in await page.content()


async def test_the_operators_window_is_for_operators(page: Page, stage: Stage) -> None:
    """Whoever else signs in there is refused, and sees no table."""
    await page.goto(f"{stage.url}/operator")
    await sign_in(page, "Ada Moreau")
    assert page.url == f"{stage.url}/operator"
    await expect(page.locator("#overseen")).to_contain_text("403 insufficient_scope")
    await expect(page.get_by_role("table")).to_be_hidden()
    await expect(page.get_by_role("heading", name="Pick an agent")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth") == 375
