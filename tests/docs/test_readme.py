"""The README's first screen says what is so: its lines run as they stand, its commands exist."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from xuna_middleware.sandbox import (
    Place,
    SandboxAgent,
    SandboxPlatform,
    SandboxProvider,
    serve,
    sign_in,
)

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
LISTINGS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def test_the_first_screen_is_a_sentence_an_install_ten_lines_and_two_commands() -> None:
    """What a stranger needs comes first, each command on a line of its own."""
    (_, install), (language, code), (_, demo), (_, test) = LISTINGS[:4]
    assert install == "pip install xuna-middleware\n"
    assert language == "python"
    assert len(code.strip().splitlines()) <= 10
    assert (demo, test) == ("make demo\n", "make test\n")


@pytest.mark.parametrize("command", ["demo", "test"])
def test_the_two_commands_are_targets(command: str) -> None:
    """`make demo` and `make test` are there to be made."""
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("code", [code for language, code in LISTINGS if language == "python"])
def test_every_python_listing_compiles(code: str) -> None:
    """No listing has a slip of the pen."""
    compile(code, "README.md", "exec")


async def test_the_ten_lines_run_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sandbox's variables exported, they hand a signed URL to whoever has the scope."""
    place = Place.reserve()
    provider, platform = (
        SandboxProvider(issuer=place.url),
        SandboxPlatform(unknown_agents=SandboxAgent),
    )
    async with serve(provider, place=place) as issuer, serve(platform) as base_url:
        monkeypatch.setenv("OIDC_ISSUER", issuer)
        monkeypatch.setenv("XUNA_AI_BASE_URL", base_url)
        monkeypatch.setenv("XUNA_AI_API_KEY", platform.api_key)
        names: dict[str, Any] = {}
        exec(LISTINGS[1][1], names)
        async with names["gate"], _client(names["app"]) as client:
            answers = [await _ask(client, person, issuer) for person in ("ada", "cleo")]
    assert [answer.status_code for answer in answers] == [200, 403]
    assert answers[0].json()["signed_url"].startswith("ws://127.0.0.1")


def _client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test")


async def _ask(client: httpx.AsyncClient, person: str, issuer: str) -> httpx.Response:
    token = await sign_in(person, issuer=issuer)
    return await client.get("/xuna/get-signed-url", headers={"Authorization": f"Bearer {token}"})
