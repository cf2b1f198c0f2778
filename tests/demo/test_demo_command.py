"""`python -m xuna_middleware.demo`: it serves, says where, keeps secrets, and stops."""

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT

import httpx
import pytest
import typer.testing

from xuna_middleware.demo import __main__ as start
from xuna_middleware.demo import command
from xuna_middleware.demo.visitor import Visitor


async def test_it_serves_until_it_is_stopped() -> None:
    """The address is printed, refusals are logged without tokens, and SIGINT ends it at once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "xuna_middleware.demo", "--no-open"), stdout=PIPE, stderr=STDOUT
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            url, before = await address(process.stdout)
            visitor = Visitor(url)
            token = await visitor.sign_in("cleo")
            refused = await visitor.post("/xuna/get-signed-url", {"agent": "concierge"}, token)
            async with (
                httpx.AsyncClient(trust_env=False) as watcher,
                watcher.stream("GET", f"{url}/demo/events") as feed,
            ):
                assert feed.status_code == httpx.codes.OK
                process.send_signal(signal.SIGINT)
                after = (await process.stdout.read()).decode()
            await visitor.aclose()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert refused.headers["xuna-gate-ref"] in after
    assert "sandbox" in before
    assert token not in before + after
    assert not re.search(r"eyJ|code=|Traceback", before + after)


async def address(output: asyncio.StreamReader) -> tuple[str, str]:
    """Return the address that the demo prints, and what it printed up to there."""
    seen = ""
    while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/\n", seen)):
        line = await output.readline()
        assert line, seen
        seen += line.decode()
    return found[1], seen


def test_a_taken_port_is_named() -> None:
    """A mistake of the caller's: exit 2 and the port, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = typer.testing.CliRunner().invoke(command.app, ["--no-open", "--port", str(port)])
    assert result.exit_code == 2
    assert str(port) in result.output


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installed the core alone is told the command that fixes it."""
    monkeypatch.setattr(start, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r'pip install "xuna-middleware\[demo\]"'):
        start.main()


@pytest.mark.parametrize(
    ("platform", "variables", "has"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_a_browser_is_opened_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], has: bool
) -> None:
    """Without a screen, a text browser would take the terminal."""
    monkeypatch.setattr(sys, "platform", platform)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command.has_display() is has
