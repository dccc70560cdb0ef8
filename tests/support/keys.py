"""The API keys of a store, as a service sees them."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from shared.keys import KeyRecord
from shared.store.keys import fetch_keys


async def stored_keys(database_url: str) -> Sequence[KeyRecord]:
    """All keys that are valid now."""
    connection = await asyncpg.connect(database_url)
    try:
        return await fetch_keys(connection)
    finally:
        await connection.close()
