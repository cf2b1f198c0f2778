"""Which commands there are."""

import typer

from xuna_middleware.cli.api_key import app as api_key
from xuna_middleware.cli.audit import app as audit

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=__doc__
)
app.add_typer(api_key, name="api-key")
app.add_typer(audit, name="audit")


@app.callback()
def start() -> None:
    """Help to run a gate."""
