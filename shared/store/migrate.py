"""Bring a database to the shape that this version of Rejse needs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import ConfigError
from shared.store.engine import sqlalchemy_url

# Any number will do, as long as every migrating process takes the same one.
_LOCK = 0x52454A53


def upgrade(database_url: str, to: str = "head") -> None:
    """Run the migrations that are missing up to a revision; several processes may call it at once.

    Raises:
        ConfigError: the database is of a newer version than this program.
    """
    asyncio.run(upgrade_async(database_url, to))


async def upgrade_async(database_url: str, to: str = "head") -> None:
    """As `upgrade`, from within an event loop."""
    engine = create_async_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_upgrade, to)
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError(f"the database is at revision {current}, which is newer than this program")
    if current != scripts.get_current_head():
        command.upgrade(config, to)
