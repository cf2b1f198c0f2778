"""`python -m xuna_middleware.sandbox`: run it, or say what is missing."""

import sys

from xuna_middleware.sandbox.serving import require_extra


def main() -> None:
    """Start the command line, or name the command that installs what it needs."""
    try:
        require_extra("typer")
    except RuntimeError as missing:
        sys.exit(str(missing))
    from xuna_middleware.sandbox.command import app

    app(prog_name="python -m xuna_middleware.sandbox")


if __name__ == "__main__":
    main()
