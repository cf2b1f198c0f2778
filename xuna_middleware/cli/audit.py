"""Check that an audit log is whole."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from xuna_middleware import ConfigurationError
from xuna_middleware.telemetry import Verdict, verify_audit_log

KEY_VARIABLE = "XUNA_AUDIT_KEY"

app = typer.Typer(no_args_is_help=True, help="Audit logs, as AuditLog writes them.")


@app.callback()
def about() -> None:
    """Audit logs, as AuditLog writes them."""


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="The log.")],
    expect: Annotated[
        str | None, typer.Option(help="The last hash, kept elsewhere: shows that no end is cut.")
    ] = None,
) -> None:
    """Follow the chain of hashes; exit with 1 where it breaks, or where there is none.

    Lines that a crash cut off, and that the log tells of itself, are listed; so is how many events
    the log counted instead of writing them, and how many could not be written. The key is in
    XUNA_AUDIT_KEY.
    """
    try:
        verdict = verify_audit_log(file, key=os.environ.get(KEY_VARIABLE))
    except (OSError, ConfigurationError) as error:
        typer.echo(f"{file} can't be checked: {error}", err=True)
        raise typer.Exit(2) from None
    problem = verdict.problem
    if problem is None and expect is not None and expect != verdict.last:
        problem = "the end is not the one that was expected: lines are missing or were added"
    typer.echo(f"{verdict.lines} lines follow each other; the last hash is {verdict.last}")
    for each in (*verdict.breaks, *_not_in_it(verdict)):
        typer.echo(f"· {each}")
    if problem is not None:
        typer.echo(f"✗ {problem}", err=True)
        raise typer.Exit(1)


def _not_in_it(verdict: Verdict) -> Iterator[str]:
    """Yield what the log says of events that are not in it."""
    if verdict.left_out:
        total = sum(verdict.left_out.values())
        yield f"{total} events were counted and not written, too many in a minute:"
        for kind, count in sorted(verdict.left_out.items()):
            yield f"  {count} {kind}"
    yield from verdict.uncounted
    if verdict.dropped:
        yield f"{verdict.dropped} events could not be written"
