"""Running migrations, with Alembic: loaded only where there are some to run."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.errors import ConfigError

# Any number will do, as long as every migrating process takes the same one.
_LOCK = 0x52454A53


async def run(database_url: str, to: str) -> None:
    """Run the migrations that are missing up to a revision, or none of them.

    Raises:
        ConfigError: one fails, or the database is of a newer version than this program.
    """

    async def connected() -> asyncpg.Connection[asyncpg.Record]:
        # The driver's own reading of the URL, as everywhere else: it knows more of them.
        return await asyncpg.connect(database_url)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connected, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.run_sync(_run, to)
    except SQLAlchemyError as error:
        raise ConfigError(f"the store can't be migrated: {type(error).__name__}") from error
    finally:
        await engine.dispose()


def _run(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    current = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    if current is not None and current not in known:
        raise ConfigError(f"the database is at revision {current}, which is newer than this program")
    if current != scripts.get_current_head():
        command.upgrade(config, to)
