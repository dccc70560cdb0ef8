"""Bring a database to the shape that this version of Rejse needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg

from shared.errors import ConfigError
from shared.store.engine import connect

_VERSIONS = Path(__file__).parent / "migrations/versions"
_NEWEST = "head"
_TIMEOUT_S = 60.0
"""A store that sleeps while nobody needs it takes its time to wake up."""


def upgrade(database_url: str, to: str = _NEWEST) -> None:
    """Run the migrations that are missing up to a revision; several processes may call it at once.

    Raises:
        ConfigError: the database can't be reached or migrated, or is of a newer version than this program.
    """
    asyncio.run(upgrade_async(database_url, to))


async def upgrade_async(database_url: str, to: str = _NEWEST) -> None:
    """As `upgrade`, from within an event loop."""
    try:
        if to == _NEWEST and await _revision(database_url) == newest():
            return
        # Imported late: it takes half a second and 30 MiB, and mostly there is nothing to run.
        from shared.store.migrations.run import run

        await run(database_url, to)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        name = type(error).__name__
        raise ConfigError(f"REJSE_DATABASE_URL: the store can't be reached or migrated: {name}") from error


def newest() -> str:
    """The revision that this program needs."""
    return max(path.name for path in _VERSIONS.glob("[0-9]*.py")).partition("_")[0]


async def _revision(database_url: str) -> str | None:
    """What Alembic has noted in the database; None: nothing."""
    connection = await connect(database_url, _TIMEOUT_S)
    try:
        if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
            return None
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
        return revision
    finally:
        await connection.close()
