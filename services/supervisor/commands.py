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

from shared import keys
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError
from shared.keys import KeyRecord, Scope
from shared.phones import regions
from shared.store.embedded import embedded_postgres
from shared.store.engine import connect
from shared.store.errors import classified
from shared.store.halts import FROM_BEGINNING, Position, fetch_positions, resume
from shared.store.keys import SourceRecord, fetch_keys, fetch_sources
from shared.store.keys import create_key as create_in_store
from shared.store.keys import revoke_key as revoke_in_store
from shared.store.keys import set_region as set_region_in_store
from shared.store.migrate import upgrade, upgrade_async

Answer = TypeVar("Answer")

_TIMEOUT_S = 10.0
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """See `shared.config.VARIABLES` for what each means."""

    data_dir: Path
    database_url: str | None


def migrate(environ: Mapping[str, str]) -> None:
    """Bring the store to this version's shape."""
    with _store(environ) as database_url:
        upgrade(database_url)


def create_key(environ: Mapping[str, str], scope: Scope, source: str) -> str:
    """Make a key of a source.

    Raises:
        ConfigError: the source's name is not one that a touchpoint and a metric's label can carry.
    """
    if not _SOURCE.fullmatch(source):
        raise ConfigError("a source's name has up to 64 letters, digits, dots, dashes and underscores")
    now = SystemClock().now()
    return with_store(environ, lambda store: create_in_store(store, scope, source, now))


def list_keys(environ: Mapping[str, str]) -> Sequence[KeyRecord]:
    """The valid keys, by source and scope."""
    found = with_store(environ, fetch_keys)
    return sorted(found, key=lambda record: (record.source, record.scope, record.id))


def revoke_key(environ: Mapping[str, str], id_: str) -> None:
    """Make a key invalid.

    Raises:
        ConfigError: there is no valid key of that id. A whole key that was given is not repeated.
    """
    now = SystemClock().now()
    if not with_store(environ, lambda store: revoke_in_store(store, id_, now)):
        if id_.startswith("rejse_"):
            raise ConfigError(f"that is a key; give its id, {keys.key_id(id_)}")
        raise ConfigError(f"there is no valid key with the id {id_}")


def list_sources(environ: Mapping[str, str]) -> Sequence[SourceRecord]:
    """The sources, by name."""
    return with_store(environ, fetch_sources)


def set_region(environ: Mapping[str, str], source: str, region: str | None) -> None:
    """Say whose phone numbers a source writes without a country code; None: nobody's.

    Raises:
        ConfigError: there is no such source, or no such region.
    """
    if region is not None and region not in regions():
        raise ConfigError(f"{region} is no region with phone numbers; give its ISO 3166-1 code, such as DK")
    if not with_store(environ, lambda store: set_region_in_store(store, source, region)):
        raise ConfigError(f"there is no source {source}; `rejse keys create write` makes one")


def list_partitions(environ: Mapping[str, str]) -> Sequence[Position]:
    """Where each partition of each event log stands."""
    return with_store(environ, fetch_positions)


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
    return with_store(
        environ,
        lambda store: resume(store, partition, next_offset, log_id=log_id, resumed_by=by, now=now),
    )


def has_store(settings: StoreSettings) -> bool:
    """Whether there is a store: PostgreSQL elsewhere, or the embedded one, once `rejse run` has made it."""
    return settings.database_url is not None or (settings.data_dir / "postgres").exists()


def with_store(environ: Mapping[str, str], ask: Callable[[asyncpg.Connection], Awaitable[Answer]]) -> Answer:
    """What is answered on a connection to the migrated store of the settings.

    Raises:
        Transient: it was away or busy.
    """
    with _store(environ) as database_url:
        return asyncio.run(_asked(database_url, ask))


async def _asked(database_url: str, ask: Callable[[asyncpg.Connection], Awaitable[Answer]]) -> Answer:
    await upgrade_async(database_url)
    try:
        connection = await connect(database_url, _TIMEOUT_S)
        try:
            return await ask(connection)
        finally:
            await connection.close(timeout=_TIMEOUT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise classified(error) or error from error


@contextlib.contextmanager
def _store(environ: Mapping[str, str]) -> Iterator[str]:
    """The store of the settings; embedded PostgreSQL is shared with a `rejse run` that is up. A new one would
    answer with an emptiness that nobody asked for.

    Raises:
        ConfigError: `rejse run` has made none there.
    """
    settings = load(StoreSettings, environ)
    if not has_store(settings):
        raise ConfigError(
            f"there is no store in {settings.data_dir.resolve()}: go to the folder that `rejse run` was "
            "started in, or set REJSE_DATA_DIR or REJSE_DATABASE_URL as it has them"
        )
    if settings.database_url is not None:
        yield settings.database_url
        return
    with embedded_postgres(settings.data_dir) as database_url:
        yield database_url
