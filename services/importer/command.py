"""What `rejse import` does at the terminal, and the code that it ends with."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console

from services.importer.app import Import, run_import
from services.importer.display import display_on
from shared.clock import SystemClock
from shared.errors import Transient

REFUSED = 1
GAVE_UP = 3
INTERRUPTED = 130


def run_command(
    file: Path,
    map_file: Path,
    url: str,
    key: str,
    *,
    state_file: Path | None,
    refused_file: Path | None,
    restart: bool,
    in_flight: int,
    compress: bool,
    give_up_after_s: float,
) -> int:
    """Import, show how far it is, and sum up. The exit code is as `rejse import --help` says.

    Raises:
        ConfigError: as `run_import`.
    """
    wanted = Import(
        file,
        map_file,
        url,
        key,
        state_file or file.with_name(f"{file.name}.progress.json"),
        refused_file or file.with_name(f"{file.name}.refused.ndjson"),
        in_flight,
        compress,
        give_up_after_s,
        restart,
    )
    console, clock = Console(), SystemClock()
    display = display_on(console, file.stat().st_size if file.exists() else 0, clock)
    try:
        progress = asyncio.run(run_import(wanted, display, clock))
    except Transient as error:
        display.note(f"{error}. Run the same command again to go on.")
        return GAVE_UP
    except KeyboardInterrupt:
        display.note("Interrupted. Run the same command again to go on.")
        return INTERRUPTED
    rows, refused = progress.place.row, progress.refused
    display.note(f"{rows:,} rows, {rows - refused:,} taken, {refused:,} refused")
    if refused:
        display.note(f"The refused rows, and why, are in {wanted.refused_file}")
    return REFUSED if refused else 0
