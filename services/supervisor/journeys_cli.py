"""`rejse journeys …`. What takes time to import is imported by the command that needs it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from shared.errors import ConfigError

app = typer.Typer(help="Journey definitions.", no_args_is_help=True)

Named = Annotated[str, typer.Argument(metavar="FILE|KEY[@VERSION]", help="a file, or as `list` shows it")]


@app.command("list")
def list_() -> None:
    """The versions that there are, and which of them customers are staged by."""
    from rich.console import Console
    from rich.table import Column, Table

    from services.supervisor.journeys import known

    key, active, about_what = (Column(name, no_wrap=True) for name in ("key", "active", "about"))
    table = Table(key, "version", active, about_what, "label")
    for one in known(os.environ):
        about, label = "", "of another Rejse"
        if one.definition:
            about = one.definition.subject.property_name or one.definition.subject.kind
            label = one.definition.labels["en"]
        table.add_row(one.key, str(one.version), one.state, about, label)
    Console(markup=False).print(table)


@app.command()
def show(name: Named) -> None:
    """Print a definition as its file has it."""
    from services.supervisor.journeys import find

    _tell(find(os.environ, name).source.rstrip())


@app.command()
def schema() -> None:
    """Print the JSON Schema of definitions, for your editor."""
    import json

    from shared.journey.language import schema as made

    _tell(json.dumps(made(), ensure_ascii=False))


@app.command()
def validate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="definitions; without any, all that there are")
    ] = None,
) -> None:
    """Check definitions and tell all that is wrong with them; and what may not be meant."""
    from services.supervisor.hints import hints
    from services.supervisor.journeys import known, validate

    found = validate(files) if files else [one.definition for one in known(os.environ) if one.definition]
    for definition in found:
        name = f"{definition.key} version {definition.version}"
        _tell("\n".join((f"{name} is valid.", *(f"{name}: {hint}" for hint in hints(definition)))))


@app.command()
def diff(
    name: Named,
    other: Annotated[
        str, typer.Argument(metavar="[FILE|KEY[@VERSION]]", help="the newer one", show_default=False)
    ] = "",
) -> None:
    """Tell what changed from one definition to another, or from the active version to the only one.

    Exit code: 0 they say the same, 1 they don't.
    """
    from rich.console import Console
    from rich.table import Column, Table

    from services.supervisor.journey_diff import changes
    from services.supervisor.journeys import find, find_active

    named = find(os.environ, name)
    before, after = (named, find(os.environ, other)) if other else (find_active(os.environ, named.key), named)
    found = changes(before, after)
    if not found:
        _tell("They say the same.")
        return
    columns = (Column(f"{one.key} version {one.version}", overflow="fold") for one in (before, after))
    table = Table("what", *columns, show_lines=True)
    for change in found:
        table.add_row(change.what, change.before, change.after)
    Console(markup=False).print(table)
    raise typer.Exit(1)


@app.command("what-if")
def what_if(
    name: Named,
    at: Annotated[
        str | None, typer.Option(help="as of when, such as 2026-01-31T12:00:00Z [default: now]")
    ] = None,
    sample: Annotated[int, typer.Option(min=0, max=1000, help="customers to show who would move")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="print it for programs")] = False,
) -> None:
    """Fold everybody's touchpoints by a definition, and tell who would be where. Nothing is written."""
    import sys

    import msgspec
    from rich.console import Console

    from services.supervisor.journeys import try_out
    from services.supervisor.progress import Customers
    from services.supervisor.what_if_report import report

    with Customers(Console(stderr=True)) as progress:
        found = try_out(os.environ, name, _moment(at), sample, progress.show)
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        report(found, Console(markup=False))


@app.command()
def activate(
    name: Named,
    detach: Annotated[bool, typer.Option("--detach", help="ask for it, and don't wait")] = False,
) -> None:
    """Let a version take over, once all customers are staged by it. Until then the active one stays in force.

    The stagers do it, whether this command waits or not; called again, it shows how far they are. To go
    back, activate the former version; with it, one that is on its way is given up.
    """
    from rich.console import Console

    from services.supervisor.journeys import activate
    from services.supervisor.progress import Takeover

    with Takeover(Console(stderr=True)) as progress:
        found = activate(os.environ, name, progress.show_version, detach=detach)
    state = "is active" if found.is_active else f"is on its way: {found.share:.0%}"
    _tell(f"{found.key} version {found.version} {state}.")


@app.command()
def deactivate(key: Annotated[str, typer.Argument(help="as `journeys list` shows it")]) -> None:
    """Let nobody be staged in a journey any more. Its history stays."""
    from services.supervisor.journeys import deactivate

    deactivate(os.environ, key)
    _tell(f"{key} is active no more.")


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at: {text!r} is no time such as 2026-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _tell(text: str) -> None:
    print(text, flush=True)
