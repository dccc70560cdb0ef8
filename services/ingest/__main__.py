"""`rejse ingest`, also `python -m services.ingest`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import uvloop

from services.ingest.app import serve
from services.ingest.settings import Settings
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError
from shared.lifecycle import listen, stop_on_signals
from shared.logs import configure
from shared.store.keys import load_keys

KEYS_TIMEOUT_S = 3.0


def main(environ: Mapping[str, str]) -> int:
    """Take touchpoints until a signal says stop. The exit code: 0 drained, 2 set up wrongly."""
    try:
        settings = load(Settings, environ)
        configure("ingest", settings.log_level)
        with ExitStack() as parts:
            database_url = settings.database_url or parts.enter_context(_embedded(settings))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, database_url))
    except ConfigError as error:
        print(error, file=sys.stderr)
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
    with stop_on_signals() as stop:
        await serve(settings, listener, stop, SystemClock(), partial(load_keys, database_url, KEYS_TIMEOUT_S))


if __name__ == "__main__":
    sys.exit(main(os.environ))
