"""The store that the services are given: one that runs elsewhere, or embedded PostgreSQL, kept running."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from shared.errors import ConfigError
from shared.logs import fields
from shared.store.embedded import embedded_postgres, revive
from shared.store.migrate import upgrade_async

log = logging.getLogger("rejse.supervisor")

_WATCH_EVERY_S = 0.5


@contextlib.asynccontextmanager
async def open_store(data_dir: Path, database_url: str | None) -> AsyncIterator[str]:
    """A migrated store, as its URL; an embedded one ends on leaving.

    Raises:
        ConfigError: it does not start, can't be reached, or is of a newer version.
    """
    if database_url is not None:
        await upgrade_async(database_url)
        yield database_url
        return
    server = embedded_postgres(data_dir)
    # A signal must not tear the server's start or end apart: both run in a thread, to their end.
    url = await asyncio.to_thread(server.__enter__)
    try:
        await upgrade_async(url)
        yield url
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


async def keep_running(data_dir: Path, ending: asyncio.Event) -> None:
    """Start embedded PostgreSQL again when it has died, until `ending` is set."""
    while not ending.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WATCH_EVERY_S):
                await ending.wait()
                return
        try:
            if await asyncio.to_thread(revive, data_dir):
                log.warning("postgres_restarted")
        except ConfigError as error:
            log.warning("postgres_away", extra=fields(reason=str(error)))
