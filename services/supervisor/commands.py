"""The commands beside `rejse run` that look at the same store and the same settings."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import asyncpg

from services.supervisor.store import migrated
from shared import keys
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError
from shared.journey.catalog import all_definitions, load_definitions
from shared.journey.definition import Definition
from shared.journey.language import parse
from shared.keys import KeyRecord, Scope
from shared.store.embedded import embedded_postgres
from shared.store.errors import classified
from shared.store.halts import FROM_BEGINNING, Position, fetch_positions, resume
from shared.store.keys import create_key as create_in_store
from shared.store.keys import fetch_keys
from shared.store.keys import revoke_key as revoke_in_store

Answer = TypeVar("Answer")

_TIMEOUT_S = 10.0
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """See `shared.config.VARIABLES` for what each means."""

    data_dir: Path
    database_url: str | None


@dataclass(frozen=True, slots=True)
class JourneySettings:
    """See `shared.config.VARIABLES` for what each means."""

    journeys_dir: Path | None
    journeys: tuple[str, ...] | None


def migrate(environ: Mapping[str, str]) -> None:
    """Bring the store to this version's shape."""
    with _store(environ) as database_url:
        asyncio.run(migrated(database_url))


def create_key(environ: Mapping[str, str], scope: Scope, source: str) -> str:
    """Make a key of a source.

    Raises:
        ConfigError: the source's name is not one that a touchpoint and a metric's label can carry.
    """
    if not _SOURCE.fullmatch(source):
        raise ConfigError("a source's name has up to 64 letters, digits, dots, dashes and underscores")
    now = SystemClock().now()
    return _with_store(environ, lambda store: create_in_store(store, scope, source, now))


def list_keys(environ: Mapping[str, str]) -> Sequence[KeyRecord]:
    """The valid keys, by source and scope."""
    found = _with_store(environ, fetch_keys)
    return sorted(found, key=lambda record: (record.source, record.scope, record.id))


def revoke_key(environ: Mapping[str, str], id_: str) -> None:
    """Make a key invalid.

    Raises:
        ConfigError: there is no valid key of that id. A whole key that was given is not repeated.
    """
    now = SystemClock().now()
    if not _with_store(environ, lambda store: revoke_in_store(store, id_, now)):
        if id_.startswith("rejse_"):
            raise ConfigError(f"that is a key; give its id, {keys.key_id(id_)}")
        raise ConfigError(f"there is no valid key with the id {id_}")


def list_partitions(environ: Mapping[str, str]) -> Sequence[Position]:
    """Where each partition of each event log stands."""
    return _with_store(environ, fetch_positions)


def resume_partition(
    environ: Mapping[str, str], partition: int, at: int | None, log_id: str | None = None
) -> Position:
    """Let a halted partition go on at an offset, or at the log's beginning; where it stood until now. A
    stager that runs goes on by itself.

    Raises:
        ConfigError: the partition is not halted, or is in several logs and `log_id` doesn't say in which.
    """
    now, by = SystemClock().now(), f"{getpass.getuser()}@{socket.gethostname()}"
    next_offset = FROM_BEGINNING if at is None else at
    return _with_store(
        environ,
        lambda store: resume(store, partition, next_offset, log_id=log_id, resumed_by=by, now=now),
    )


def known_definitions(environ: Mapping[str, str]) -> Sequence[tuple[Definition, bool]]:
    """All definitions that there are, and whether the services would run each.

    Raises:
        ConfigError: lists all that is wrong with them, and with the choice of active ones.
    """
    settings = load(JourneySettings, environ)
    active = {one.key for one in load_definitions(settings.journeys_dir, settings.journeys)}
    found = all_definitions(settings.journeys_dir)
    return [(definition, definition.key in active) for definition, _ in found]


def validate(files: Sequence[Path]) -> Sequence[Definition]:
    """The definitions of some files.

    Raises:
        ConfigError: lists all that is wrong in any of them.
    """
    problems: list[str] = []
    found: list[Definition] = []
    for file in files:
        try:
            found.append(parse(file.read_text("utf-8"), str(file)))
        except (OSError, UnicodeDecodeError):
            problems.append(f"{file}: can't be read as UTF-8 text")
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _with_store(environ: Mapping[str, str], ask: Callable[[asyncpg.Connection], Awaitable[Answer]]) -> Answer:
    with _store(environ) as database_url:
        return asyncio.run(_asked(database_url, ask))


async def _asked(database_url: str, ask: Callable[[asyncpg.Connection], Awaitable[Answer]]) -> Answer:
    await migrated(database_url)
    try:
        connection = await asyncpg.connect(database_url, timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S)
        try:
            return await ask(connection)
        finally:
            await connection.close(timeout=_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise classified(error) or error from error


@contextlib.contextmanager
def _store(environ: Mapping[str, str]) -> Iterator[str]:
    """The store of the settings; embedded PostgreSQL is shared with a `rejse run` that is up."""
    settings = load(StoreSettings, environ)
    if settings.database_url is not None:
        yield settings.database_url
        return
    with embedded_postgres(settings.data_dir) as database_url:
        yield database_url
