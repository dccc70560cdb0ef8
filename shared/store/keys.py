"""API keys and their sources in the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from shared.keys import KeyRecord, Scope, digest, key_id, new_key
from shared.store.engine import Connection

_LOAD = """
SELECT k.id, k.digest, k.scope, k.source, s.region
FROM api_keys AS k LEFT JOIN sources AS s ON s.name = k.source
WHERE k.revoked_at IS NULL
"""
_ADD_SOURCE = "INSERT INTO sources (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_ADD = "INSERT INTO api_keys (digest, id, scope, source, created_at) VALUES ($1, $2, $3, $4, $5)"
_ADOPT = f"{_ADD} ON CONFLICT (digest) DO NOTHING"
_REVOKE = "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL"
_SOURCES = "SELECT name, region FROM sources ORDER BY name"
_SET_REGION = "UPDATE sources SET region = $2 WHERE name = $1"


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """What is stored of a source."""

    name: str
    region: str | None


async def fetch_keys(connection: Connection) -> list[KeyRecord]:
    """All keys that are valid now."""
    return [KeyRecord(**row) for row in await connection.fetch(_LOAD)]


async def create_key(connection: Connection, scope: Scope, source: str, now: datetime) -> str:
    """Make a key and its source, and return the key: the only time that it can be seen."""
    key = new_key(scope)
    async with connection.transaction():
        await connection.execute(_ADD_SOURCE, source, now)
        await connection.execute(_ADD, digest(key), key_id(key), scope, source, now)
    return key


async def adopt_key(connection: Connection, key: str, scope: Scope, source: str, now: datetime) -> None:
    """Make an existing key valid; one that is known already, revoked or not, stays as it is."""
    async with connection.transaction():
        await connection.execute(_ADD_SOURCE, source, now)
        await connection.execute(_ADOPT, digest(key), key_id(key), scope, source, now)


async def revoke_key(connection: Connection, id_: str, now: datetime) -> bool:
    """Make a key invalid; whether there was a valid one of that id."""
    return (await connection.execute(_REVOKE, id_, now)).endswith(" 1")


async def fetch_sources(connection: Connection) -> list[SourceRecord]:
    """All sources, by name."""
    return [SourceRecord(**row) for row in await connection.fetch(_SOURCES)]


async def set_region(connection: Connection, source: str, region: str | None) -> bool:
    """Say whose phone numbers a source writes without a country code; whether there is such a source."""
    return (await connection.execute(_SET_REGION, source, region)).endswith(" 1")
