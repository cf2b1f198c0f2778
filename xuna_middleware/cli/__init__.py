"""The command line: `xuna-gate`, or `python -m xuna_middleware.cli`."""

import sys


def main() -> None:
    """Run a command, or name what installs the command line."""
    try:
        import typer  # noqa: F401
    except ImportError:
        sys.exit('xuna-gate needs typer: pip install "xuna-middleware[cli]"')
    from xuna_middleware.cli.commands import app

    app(prog_name="xuna-gate")
