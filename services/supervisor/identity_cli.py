"""`rejse identity …`. What takes time to import is imported by the command that needs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import ConfigError
from shared.refs import CustomerRef, parse_ref

if TYPE_CHECKING:
    from shared.store.withdrawals import Links

app = typer.Typer(help="Who is who, and why.", no_args_is_help=True)

Ref = Annotated[
    str,
    typer.Argument(metavar="REF", help="kind:value of any identity, such as email:ann@example.com, or an id"),
]


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


Identity = Annotated[
    str, typer.Argument(metavar="IDENTITY", help="kind:value, such as email:ann@example.com")
]
Other = Annotated[
    str | None, typer.Argument(metavar="[OTHER]", help="the other one; left out: every link of the first")
]
Detach = Annotated[bool, typer.Option("--detach", help="ask for it, and don't wait")]


@app.command()
def unlink(identity: Identity, other: Other = None, detach: Detach = False) -> None:
    """Withdraw the link between two identities: a typo that is somebody's address, a phone that two share.

    Who is held together by nothing else, is two again, each with the timeline, stages and history that
    would have been theirs. The stagers do it; no touchpoint links the two again. `relink` takes it back.
    """
    from services.supervisor.links import unlink

    _tell_links(unlink(os.environ, identity, other, detach=detach))


@app.command()
def relink(identity: Identity, other: Other = None, detach: Detach = False) -> None:
    """Let withdrawn links count again: all is as if they had never been withdrawn.

    A limit may forbid it by now; then the next touchpoint that tells of both links them, if there is room.
    """
    from services.supervisor.links import relink

    _tell_links(relink(os.environ, identity, other, detach=detach))


def _tell_links(found: Links) -> None:
    for one in found.links:
        if one.withdrawn_at is not None:
            state = f"withdrawn {one.withdrawn_at:%Y-%m-%d %H:%M:%S}Z"
        elif one.carried_out and not one.together:
            state = "not one customer: a limit forbids it (see `explain`), or whoever had both is erased"
        else:
            state = "linked"
        waits = "" if one.carried_out else ", not carried out yet: a stager has to run"
        print(f"{one.identity} and {one.other}: {state}{waits}", flush=True)
    if found.held_together_by:
        print(f"They are one customer nevertheless, by {' and '.join(found.held_together_by)}.", flush=True)


def _customer(text: str) -> CustomerRef:
    try:
        return parse_ref(text)
    except ValueError as error:
        raise ConfigError(f"REF {error}") from None
