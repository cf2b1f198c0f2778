"""Make API keys, and tell the hash of one."""

import sys
from typing import Annotated

import typer

from xuna_middleware import APIKey, ConfigurationError, hash_api_key, new_api_key

app = typer.Typer(no_args_is_help=True, help="Make API keys for callers without a provider.")


@app.command()
def new(
    subject: Annotated[str, typer.Option(help="Whom the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
) -> None:
    """Print a new key, once, and the line that lets it in."""
    made = new_api_key()
    typer.echo(made.key)
    typer.echo("Give this key to its owner; it is shown once. The gate keeps its hash:", err=True)
    typer.echo(_line(APIKey(hash=made.hash, subject=subject, scopes=tuple(scope or ()))), err=True)


@app.command("hash")
def hash_of() -> None:
    """Read a key from standard input, and print its hash."""
    try:
        typer.echo(hash_api_key(sys.stdin.readline().strip()))
    except ConfigurationError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _line(key: APIKey) -> str:
    scopes = f", scopes={sorted(key.scopes)!r}" if key.scopes else ""
    return f"APIKey(hash={key.hash!r}, subject={key.subject!r}{scopes})"
