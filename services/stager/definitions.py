"""What the settings say of the active journeys: their first value, and from then on the store's."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from shared.errors import ConfigError
from shared.journey.definition import Definition
from shared.logs import fields
from shared.store.definitions import Version, fetch_versions, require_same, want
from shared.store.engine import Connection

log = logging.getLogger("rejse.stager")


async def register(connection: Connection, definitions: Sequence[Definition], now: datetime) -> None:
    """Ask for those of the definitions that are newer than every version that the store has of their key.

    Raises:
        ConfigError: a text has changed under the same version: states of both would mix.
    """
    stored = await fetch_versions(connection)
    problems = []
    for definition in definitions:
        versions = {one.version: one for one in stored if one.key == definition.key}
        try:
            if definition.version in versions:
                _require_unchanged(versions[definition.version], definition)
            elif definition.version > max(versions, default=0):
                await want(connection, definition, now)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))


def _require_unchanged(stored: Version, definition: Definition) -> None:
    if stored.source == definition.source and stored.links != definition.links:
        # Who starts it was settled when it became active; its states are of then.
        log.warning("journey_started_by_others", extra=fields(journey=stored.key, version=stored.version))
        return
    require_same(stored, definition)
