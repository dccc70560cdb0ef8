"""Definitions in the store: what the stager folds by, for everybody to read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.stager import sql
from shared.errors import ConfigError
from shared.journey.definition import Definition
from shared.store.engine import Connection


async def register(connection: Connection, definitions: Sequence[Definition], now: datetime) -> None:
    """Keep each definition under its key and version.

    Raises:
        ConfigError: a text has changed under the same version: states of both would mix.
    """
    changed = []
    for definition in definitions:
        await connection.execute(
            sql.NEW_DEFINITION,
            definition.key,
            definition.version,
            definition.hash,
            definition.source,
            now,
        )
        stored = await connection.fetchval(sql.DEFINITION, definition.key, definition.version)
        if stored != definition.hash:
            changed.append(
                f"journey {definition.key} has changed but is still version {definition.version}: raise it"
            )
    if changed:
        raise ConfigError("\n".join(changed))
