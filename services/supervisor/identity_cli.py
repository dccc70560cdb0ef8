"""`rejse identity …`. What takes time to import is imported by the command that needs it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from shared.errors import ConfigError
from shared.refs import CustomerRef, parse_ref

app = typer.Typer(help="Who is who, and why.", no_args_is_help=True)

Ref = Annotated[
    str,
    typer.Argument(metavar="REF", help="kind:value of any identity, such as email:ann@example.com, or an id"),
]


# With a callback, a command that is the only one is still asked for by its name.
@app.callback()
def identity() -> None:
    """Who is who, and why."""


@app.command()
def explain(
    ref: Ref, as_json: Annotated[bool, typer.Option("--json", help="print it for programs")] = False
) -> None:
    """Tell why a customer's identities are theirs: which touchpoint linked what, and when."""
    import sys

    import msgspec
    from rich.console import Console

    from services.supervisor.commands import with_store
    from services.supervisor.identity_report import report
    from shared.store.identities import prove_identity

    asked = _customer(ref)
    found = with_store(os.environ, lambda store: prove_identity(store, asked))
    if found is None:
        raise ConfigError("no customer is known by this reference")
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        report(found, Console(markup=False))


def _customer(text: str) -> CustomerRef:
    try:
        return parse_ref(text)
    except ValueError as error:
        raise ConfigError(f"REF {error}") from None
