"""`serve` and the command line: on loopback only, stopped cleanly, clear when something lacks."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

import xuna_middleware
from xuna_middleware.sandbox import Place, SandboxAgent, SandboxProvider, serve
from xuna_middleware.sandbox.command import app

from .stage import platform_with

ROOT = Path(xuna_middleware.__file__).parent.parent
MODULE = [sys.executable, "-m", "xuna_middleware.sandbox"]


async def test_serve_gives_the_port_back() -> None:
    """Inside it answers, afterwards nothing listens, and the handlers of signals are as before."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with httpx.AsyncClient(trust_env=False) as client:
        async with serve(platform_with()) as url:
            assert (await client.get(url)).headers["xuna-sandbox"] == "true"
            assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_a_place_is_known_before() -> None:
    """A provider is its address: the port is bound first, the app made for it, then served."""
    place = Place.reserve()
    provider = SandboxProvider(issuer=place.url)
    async with serve(provider, place=place) as url, httpx.AsyncClient(trust_env=False) as client:
        document = (await client.get(f"{url}/.well-known/openid-configuration")).json()
    assert document["issuer"] == url == place.url


async def test_a_failing_body_still_stops_the_server() -> None:
    """What the tests raise comes through, and the server is gone."""
    with pytest.raises(ZeroDivisionError):
        async with serve(platform_with()) as url:
            raise ZeroDivisionError
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(url)


async def test_an_app_that_does_not_start() -> None:
    """A lifespan that fails is an error, not a server that hangs."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"):
        async with serve(broken):
            pytest.fail("it served")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.1", "example.com", "127.0.0.1.example", "8.8.8.8", ""]
)
def test_no_place_beyond_loopback(host: str) -> None:
    """A sandbox is not for others."""
    with pytest.raises(ValueError, match="not loopback"):
        Place.reserve(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"])
def test_places_on_loopback(host: str) -> None:
    """Any address of this machine itself."""
    try:
        place = Place.reserve(host=host)
    except OSError:
        pytest.skip(f"this machine has no {host}")
    place.close()
    assert place.url.startswith("http://")


@pytest.mark.parametrize("lacking", ["typer", "uvicorn", "websockets"])
def test_without_the_extra(lacking: str) -> None:
    """What lacks is named, with the command that fixes it; the two apps need none of it."""
    code = (
        f"import sys; sys.modules[{lacking!r}] = None\n"
        "from xuna_middleware.sandbox import SandboxPlatform, SandboxProvider\n"
        "SandboxPlatform(); SandboxProvider(issuer='https://p.test')\n"
        "from xuna_middleware.sandbox.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1
    assert f'{lacking}: pip install "xuna-middleware[sandbox]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_it_costs_no_server() -> None:
    """The two apps don't import what belongs to the extra."""
    code = (
        "import sys, xuna_middleware.sandbox; "
        "print(sorted({'uvicorn', 'typer', 'websockets', 'multipart'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "not loopback"),
        (["--api-key", "xi-something-real"], "keep real keys away"),
        (["--redirect-uri", "http://app.example/"], "redirect address"),
        (["--webhook-url", "https://app.example/"], "this machine"),
    ],
)
def test_the_command_line_refuses(options: list[str], words: str) -> None:
    """Hosts for others, keys that might be real, addresses that aren't safe."""
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
    assert "something-real" not in done.output


@asynccontextmanager
async def command(*options: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *MODULE,
        *options,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def greeting(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(20):
        while not (lines and "Ctrl-C" in lines[-1]):
            line = await process.stdout.readline()
            assert line, "it ended"
            lines.append(line.decode())
    return "".join(lines)


def exported(words: str) -> dict[str, str]:
    lines = [line.removeprefix("export ") for line in words.splitlines() if "export " in line[:7]]
    return dict(line.split("=", 1) for line in lines)


async def test_the_command_line_serves_both() -> None:
    """Lines to export, which work; a token for one of the people; and a clean end."""
    webhook = ("--webhook-url", "http://127.0.0.1:9/xuna/webhooks/post-call")
    async with command("--allow-override", "agent.language", *webhook) as process:
        words = await greeting(process)
        values = exported(words)
        headers = {"xi-api-key": values["XUNA_AI_API_KEY"]}
        async with httpx.AsyncClient(trust_env=False) as client:
            signed = await client.get(
                f"{values['XUNA_AI_BASE_URL']}/v1/convai/conversation/get-signed-url",
                params={"agent_id": "agent_unseen"},
                headers=headers,
            )
            document = await client.get(f"{values['OIDC_ISSUER']}/.well-known/openid-configuration")
        async with command("token", "ada", "--issuer", values["OIDC_ISSUER"]) as second:
            token, _ = await second.communicate()
        async with command("token", "nobody", "--issuer", values["OIDC_ISSUER"]) as third:
            _, complaint = await third.communicate()
        process.send_signal(signal.SIGINT)
        rest, errors = await process.communicate()
    assert "Nothing here is real" in words
    assert values.keys() == {
        *("XUNA_AI_BASE_URL", "XUNA_AI_API_KEY", "OIDC_ISSUER", "XUNA_AI_WEBHOOK_SECRET")
    }
    assert signed.json()["signed_url"].startswith(values["XUNA_AI_BASE_URL"].replace("http", "ws"))
    livekit = values["XUNA_AI_BASE_URL"].replace("http", "ws", 1)
    assert f'XunaPlatform(livekit_url="{livekit}")' in words
    assert document.json()["issuer"] == values["OIDC_ISSUER"]
    assert (second.returncode, token.count(b".")) == (0, 2)
    assert (third.returncode, b"nobody" in complaint) == (1, True)
    assert (process.returncode, errors) == (0, b"")
    assert b"closed" in rest


def test_an_agent_needs_an_id() -> None:
    """An empty id is a mistake that is told."""
    with pytest.raises(ValueError, match="needs an id"):
        SandboxAgent("")
