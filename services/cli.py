"""The command `rejse`. Everything that takes time to import is imported by the command that needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from services.supervisor.customers_cli import app as customers_app
from services.supervisor.identity_cli import app as identity_app
from services.supervisor.journeys_cli import app as journeys_app
from shared.errors import ConfigError, Transient
from shared.keys import Scope

app = typer.Typer(
    help="Rejse takes every touchpoint of a customer and tells which stage of which journey they are in.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys_app = typer.Typer(help="The API keys of the store.", no_args_is_help=True)
sources_app = typer.Typer(
    help="Who sends touchpoints, by the names of their write keys.", no_args_is_help=True
)
touchpoints_app = typer.Typer(help="Touchpoints and their types.", no_args_is_help=True)
partitions_app = typer.Typer(help="How far the stagers are, by partition.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(sources_app, name="sources")
app.add_typer(partitions_app, name="partitions")
app.add_typer(journeys_app, name="journeys")
app.add_typer(identity_app, name="identity")
app.add_typer(customers_app, name="customers")
app.add_typer(touchpoints_app, name="touchpoints")


def main() -> None:
    """Run the command line; what is set up wrongly is told in a line each, with exit code 2."""
    try:
        app(prog_name="rejse")
    except ConfigError as error:
        for line in str(error).splitlines():
            print(f"rejse: {line}", file=sys.stderr)
        sys.exit(2)
    except Transient as error:
        print(f"rejse: {error}; try again later", file=sys.stderr)
        sys.exit(3)


@app.command()
def run() -> None:
    """Run everything on this machine: ingest, stager, api and, unless you have one, PostgreSQL."""
    import asyncio

    from services.supervisor.app import supervise
    from services.supervisor.settings import Settings
    from shared.clock import SystemClock
    from shared.config import load

    settings = load(Settings, os.environ)
    raise typer.Exit(asyncio.run(supervise(settings, os.environ, SystemClock(), _tell)))


@app.command()
def ingest() -> None:
    """Run ingest alone: HTTP in, event log out."""
    from services.ingest.__main__ import main as serve

    raise typer.Exit(serve(os.environ))


@app.command()
def stager() -> None:
    """Run the stager alone: event log in, customers and their stages out."""
    from services.stager.__main__ import main as serve

    raise typer.Exit(serve(os.environ))


@app.command()
def api() -> None:
    """Run the query API alone."""
    from services.api.__main__ import main as serve

    raise typer.Exit(serve(os.environ))


@app.command()
def migrate() -> None:
    """Bring the store to the shape that this version needs."""
    from services.supervisor.commands import migrate as command

    command(os.environ)
    _tell("The store is up to date.")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="a table of history: CSV, columns between spaces, or NDJSON")],
    map_: Annotated[Path, typer.Option("--map", help="says how a row becomes a touchpoint")],
    url: Annotated[str, typer.Option(help="where ingest is")] = "http://127.0.0.1:8080",
    key: Annotated[str, typer.Option(envvar="REJSE_WRITE_KEY", help="a write key", show_default=False)] = "",
    state: Annotated[
        Path | None, typer.Option(help="where the progress is kept [default: FILE.progress.json]")
    ] = None,
    refused: Annotated[
        Path | None, typer.Option(help="where refused rows go [default: FILE.refused.ndjson]")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="begin anew")] = False,
    in_flight: Annotated[int, typer.Option(min=1, max=32, help="requests on the way at once")] = 4,
    compress: Annotated[bool, typer.Option("--gzip", help="send less, work more")] = False,
    give_up_after: Annotated[float, typer.Option(min=0, help="seconds in which nothing is taken")] = 300.0,
) -> None:
    """Send a file of history through ingest. Run it again to go on where it ended.

    Exit code: 0 every row was taken; 1 some were refused; 2 something is set up wrongly; 3 ingest was
    away for too long.
    """
    from services.importer.command import run_command

    raise typer.Exit(
        run_command(
            file,
            map_,
            url,
            key,
            state_file=state,
            refused_file=refused,
            restart=restart,
            in_flight=in_flight,
            compress=compress,
            give_up_after_s=give_up_after,
        )
    )


@keys_app.command("create")
def keys_create(
    scope: Annotated[Scope, typer.Argument(help="what it may do")],
    source: Annotated[
        str, typer.Option(help="whose touchpoints a write key sends; for the others, who uses it")
    ] = "local",
) -> None:
    """Make a key and show it, this once."""
    from services.supervisor.commands import create_key

    _tell(create_key(os.environ, scope, source))


@keys_app.command("list")
def keys_list() -> None:
    """The valid keys by their ids; the keys themselves are nowhere kept."""
    from rich.console import Console
    from rich.table import Table

    from services.supervisor.commands import list_keys

    table = Table("id", "scope", "source")
    for record in list_keys(os.environ):
        table.add_row(record.id, record.scope, record.source)
    Console().print(table)


@keys_app.command("revoke")
def keys_revoke(id_: Annotated[str, typer.Argument(metavar="ID", help="as `keys list` shows it")]) -> None:
    """Make a key invalid, for good."""
    from services.supervisor.commands import revoke_key

    revoke_key(os.environ, id_)
    _tell(f"The key {id_} is revoked.")


@sources_app.command("list")
def sources_list() -> None:
    """The sources, and of which region their phone numbers are."""
    from rich.console import Console
    from rich.table import Table

    from services.supervisor.commands import list_sources

    table = Table("source", "region")
    for record in list_sources(os.environ):
        table.add_row(record.name, record.region or "")
    Console().print(table)


@sources_app.command("set")
def sources_set(
    source: Annotated[str, typer.Argument(help="as `sources list` shows it")],
    region: Annotated[
        str,
        typer.Option(
            help="the ISO 3166-1 code of its phone numbers without a country code (DK); none: refuse"
        ),
    ],
) -> None:
    """Say of which region a source's phone numbers are. Ingest follows within seconds."""
    from services.supervisor.commands import set_region

    wanted = None if region.lower() == "none" else region.upper()
    set_region(os.environ, source, wanted)
    _tell(f"Phone numbers of {source} without a country code are {f'of {wanted}' if wanted else 'refused'}.")


@partitions_app.command("list")
def partitions_list() -> None:
    """Where each partition stands, who claimed it last, and whether it is halted."""
    from rich.console import Console
    from rich.table import Table

    from services.supervisor.commands import list_partitions

    table = Table("log", "topic", "partition", "next offset", "epoch", "owner", "state")
    for found in list_partitions(os.environ):
        state = "staged" if found.halted is None else f"halted: {found.halted}"
        place = (found.log_id, found.topic, str(found.partition))
        table.add_row(*place, _offset(found.next_offset), str(found.epoch), found.owner, state)
    Console().print(table)


@partitions_app.command("resume")
def partitions_resume(
    partition: Annotated[int, typer.Argument(min=0, help="as `partitions list` shows it")],
    from_beginning: Annotated[
        bool,
        typer.Option("--from-beginning", help="at the oldest record that the log has: nothing is skipped"),
    ] = False,
    at: Annotated[
        int | None, typer.Option(min=0, help="at this offset; what is before it is skipped")
    ] = None,
    log: Annotated[str | None, typer.Option(help="the log's id, if several have the partition")] = None,
) -> None:
    """Let a halted partition go on, once you know why it was halted. It is kept who did it."""
    from services.supervisor.commands import resume_partition

    if from_beginning is (at is not None):
        raise ConfigError("say either --from-beginning or --at OFFSET")
    stood = resume_partition(os.environ, partition, at, log)
    goes_on = _offset(-1 if at is None else at)
    _tell(f"Partition {partition} stood at {stood.next_offset} ({stood.halted}) and goes on at {goes_on}.")


@touchpoints_app.command("types")
def touchpoints_types(
    words: Annotated[
        str, typer.Argument(help="only those with these words in the name, the meaning or a counterpart")
    ] = "",
) -> None:
    """The catalogue of touchpoint types, with the names that Segment, GA4 and Shopify have for them."""
    from rich.console import Console
    from rich.table import Column, Table

    from shared.touchpoint_types import catalogue

    elsewhere_column = Column("elsewhere", overflow="fold")
    table = Table(Column("type", no_wrap=True), "what happened", "channels", "sentiment", elsewhere_column)
    for types in catalogue().values():
        for name, one in types.items():
            elsewhere = (*one.segment, *one.ga4, *one.shopify)
            if words.casefold() in " ".join((name, one.meaning, *elsewhere)).casefold():
                sentiment = "" if one.sentiment is None else f"{one.sentiment:+g}"
                table.add_row(name, one.meaning, ", ".join(one.channels), sentiment, ", ".join(elsewhere))
    if not table.rows:
        _tell("No type has these words.")
        raise typer.Exit(1)
    Console().print(table)


def _offset(number: int) -> str:
    return str(number) if number >= 0 else "the log's beginning"


def _tell(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
