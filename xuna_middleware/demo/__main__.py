"""`python -m xuna_middleware.demo`: run it, or say what is missing."""

import sys
from importlib.util import find_spec
from typing import Final

_NEEDED: Final = ("typer", "uvicorn", "websockets")


def main() -> None:
    """Start the command line, or name the command that installs what it needs."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f'The demo needs {", ".join(missing)}: pip install "xuna-middleware[demo]"')
    from xuna_middleware.demo.command import app

    app(prog_name="python -m xuna_middleware.demo")


if __name__ == "__main__":
    main()
