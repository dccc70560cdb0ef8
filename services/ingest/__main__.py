"""`rejse ingest`, also `python -m services.ingest`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import uvloop

from services.ingest.app import serve
from services.ingest.settings import Settings
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError, set_up_wrongly
from shared.keys import KeyRecord
from shared.lifecycle import listen, listen_if, spare_the_collector, stop_on_signals
from shared.logs import configure
from shared.store.engine import Pool, connection_of, open_pool
from shared.store.keys import fetch_keys

KEYS_TIMEOUT_S = 3.0


def main(environ: Mapping[str, str]) -> int:
    """Take touchpoints until a signal says stop. The exit code: 0 drained, 2 set up wrongly."""
    try:
        settings = load(Settings, environ)
        configure("ingest", settings.log_level)
        spare_the_collector()
        with ExitStack() as parts:
            database_url = settings.database_url or parts.enter_context(_embedded(settings))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, database_url))
    except (ConfigError, BaseExceptionGroup) as error:
        wrong = set_up_wrongly(error)
        if wrong is None:
            raise
        print(wrong, file=sys.stderr)
        return 2
    return 0


@contextmanager
def _embedded(settings: Settings) -> Iterator[str]:
    """The embedded store, when this service is run by itself without one."""
    # Imported late: a production ingest needs neither the wheel nor the migrations in its memory.
    from shared.store.embedded import embedded_postgres
    from shared.store.migrate import upgrade

    with embedded_postgres(settings.data_dir) as database_url:
        upgrade(database_url)
        yield database_url


async def _serve(settings: Settings, database_url: str) -> None:
    listener = listen(settings.host, settings.ingest_port)
    health = listen_if(settings.host, settings.ingest_health_port)
    pool = await open_pool(database_url, connections_max=1, service="ingest")
    try:
        with stop_on_signals() as stop:
            await serve(settings, listener, stop, SystemClock(), partial(_keys, pool), health=health)
    finally:
        pool.terminate()


async def _keys(pool: Pool) -> Sequence[KeyRecord]:
    async with asyncio.timeout(KEYS_TIMEOUT_S), connection_of(pool) as connection:
        return await fetch_keys(connection)


if __name__ == "__main__":
    sys.exit(main(os.environ))
