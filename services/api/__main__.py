"""`rejse api`, also `python -m services.api`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack

import uvloop

from services.api.app import serve
from services.api.settings import Settings
from shared.clock import SystemClock
from shared.config import load
from shared.errors import ConfigError, set_up_wrongly
from shared.lifecycle import listen, listen_if, spare_the_collector, stop_on_signals
from shared.logs import configure
from shared.store.embedded import embedded_postgres
from shared.store.migrate import upgrade


def main(environ: Mapping[str, str]) -> int:
    """Answer until a signal says stop. The exit code: 0 drained, 2 set up wrongly."""
    try:
        settings = load(Settings, environ)
        configure("api", settings.log_level)
        spare_the_collector()
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
    listener = listen(settings.host, settings.api_port)
    health = listen_if(settings.host, settings.api_health_port)
    with stop_on_signals() as stop:
        await serve(settings, database_url, listener, stop, SystemClock(), health=health)


if __name__ == "__main__":
    sys.exit(main(os.environ))
