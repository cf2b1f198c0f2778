"""The command line of the demo: serve the page until stopped, or walk it once."""

import asyncio
import io
import logging
import os
import signal
import sys
import webbrowser
from contextlib import suppress
from typing import Annotated

import typer

from xuna_middleware.demo.check import run
from xuna_middleware.demo.stage import raise_stage

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    check: Annotated[
        bool, typer.Option("--check", help="Walk the demo without a browser; exit 0 or 1.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the page; 0 takes a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Don't open a browser.")] = False,
) -> None:
    """See the gate at work on one page. All of it is a sandbox on this machine."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without ✓ shows a question mark
    try:
        fine = asyncio.run(_check(port) if check else _serve(port, opening=not no_open))
    except OSError as error:
        raise typer.BadParameter(f"port {port}: {error.strerror}") from None
    raise typer.Exit(0 if fine else 1)


async def _check(port: int) -> bool:
    logging.getLogger().addHandler(logging.NullHandler())
    async with raise_stage(port=port) as stage:
        return await run(stage, typer.echo)


async def _serve(port: int, *, opening: bool) -> bool:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s  %(message)s", datefmt="%X")
    stopped = _stop_signal()
    async with raise_stage(port=port) as stage:
        typer.echo(
            f"\nThe demo, all of it a sandbox on this machine:\n\n  {stage.url}/\n\n"
            "What the gate refuses is logged below. Ctrl-C stops it.\n"
        )
        if opening and has_display():
            await asyncio.to_thread(webbrowser.open, f"{stage.url}/")
        await stopped.wait()
    typer.echo("\nThe demo is closed.")
    return True


def _stop_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C cancels the run instead
            loop.add_signal_handler(number, stopped.set)
    return stopped


def has_display() -> bool:
    """Say whether a browser would have a screen; without one, some would take the terminal."""
    graphic = sys.platform in ("win32", "darwin")
    return graphic or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
