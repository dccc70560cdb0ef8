"""`rejse customers …`. What takes time to import is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from shared.errors import ConfigError
from shared.refs import parse_ref

app = typer.Typer(help="Customers, by any of their identities.", no_args_is_help=True)

Ref = Annotated[
    str,
    typer.Argument(metavar="REF", help="kind:value of any identity, such as email:ann@example.com, or an id"),
]
Detach = Annotated[bool, typer.Option("--detach", help="ask for it, and don't wait")]
Yes = Annotated[bool, typer.Option("--yes", help="don't ask whether it is meant")]


@app.callback()
def customers() -> None:
    """Customers, by any of their identities."""


@app.command()
def erase(ref: Ref, yes: Yes = False, detach: Detach = False) -> None:
    """Erase a customer: all touchpoints, stages, histories and identities. It can't be undone.

    At once nobody finds them any more; the stagers remove what is kept. No touchpoint that happened until
    now brings them back. What they do later is about somebody new. Asked again by the id, it tells how that
    stands.
    """
    from services.supervisor.erasing import erase

    try:
        asked = parse_ref(ref)
    except ValueError as error:
        raise ConfigError(f"REF {error}") from None
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError("nobody is there to be asked whether this is meant; --yes says that it is")
        typer.confirm("This removes all that is kept of the customer, for ever. Go on?", abort=True)
    erased = erase(os.environ, asked, detach=detach)
    waits = "" if erased.carried_out else ", not carried out yet: a stager has to run"
    print(f"customer {erased.customer}: erased {erased.erased_at:%Y-%m-%d %H:%M:%S}Z{waits}", flush=True)
