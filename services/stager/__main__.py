"""`rejse stager`, also `python -m services.stager`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack

import uvloop

from services.stager.app import serve
from services.stager.settings import Settings
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError, set_up_wrongly
from shared.lifecycle import COLLECT_AFTER_BATCHES, listen, spare_the_collector, stop_on_signals
from shared.logs import configure
from shared.store.embedded import embedded_postgres
from shared.store.migrate import upgrade


def main(environ: Mapping[str, str]) -> int:
    """Stage until a signal says stop. The exit code: 0 drained, 2 set up wrongly."""
    try:
        settings = load(Settings, environ)
        configure("stager", settings.log_level)
        spare_the_collector(COLLECT_AFTER_BATCHES)
        with ExitStack() as parts:
            database_url = settings.database_url
            if database_url is None:
                database_url = parts.enter_context(embedded_postgres(settings.data_dir))
                upgrade(database_url)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(settings, database_url))
    except (ConfigError, BaseExceptionGroup) as error:
        wrong = set_up_wrongly(error)
        if wrong is None:
            raise
        print(wrong, file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings, database_url: str) -> None:
    listener = listen(settings.host, settings.stager_port)
    with stop_on_signals() as stop:
        await serve(settings, database_url, listener, stop, SystemClock())


if __name__ == "__main__":
    sys.exit(main(os.environ))
