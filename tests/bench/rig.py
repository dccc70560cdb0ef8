"""The real parts that a benchmark stands on: a broker whose ack is durable, and a PostgreSQL that fsyncs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from shared.clock import SystemClock
from shared.keys import Scope
from shared.store.keys import create_key
from shared.store.migrate import upgrade
from tests.bench.events import SOURCE
from tests.bench.processes import LOAD_CORE, PARTITIONS, pinned
from tests.support.broker import Broker
from tests.support.postgres import Postgres

DURABLE = {"flush.messages": "1"}
_POSTGRES = {"shared_buffers": "512MB", "max_wal_size": "4GB"}


@contextlib.contextmanager
def kafka(home: Path, core: int | None = LOAD_CORE) -> Iterator[Broker]:
    """A broker, compiled for speed."""
    folder = home / "broker"
    folder.mkdir()
    broker = Broker(folder, java_options=("-XX:TieredStopAtLevel=4", "-Xmx1g"))
    with pinned(core):
        broker.start()
    try:
        yield broker
    finally:
        broker.close()


async def durable_topic(broker: Broker, name: str) -> None:
    """Make a topic like Rejse's own: a batch is on disk before it is acked."""
    await broker.create_topic(name, partitions=PARTITIONS, config=DURABLE)


@dataclass(frozen=True, slots=True)
class Store:
    """A PostgreSQL, and a migrated database in it that is only cloned."""

    postgres: Postgres
    template: str

    def database(self) -> contextlib.AbstractContextManager[str]:
        """A database of Rejse's with no rows, by its URL."""
        return self._new(self.template)

    def empty_database(self) -> contextlib.AbstractContextManager[str]:
        """A database with nothing in it, by its URL."""
        return self._new(None)

    @contextlib.contextmanager
    def _new(self, template: str | None) -> Iterator[str]:
        url = self.postgres.create_database(template=template)
        try:
            yield url
        finally:
            self.postgres.drop_database(url)


@contextlib.contextmanager
def postgres(core: int | None = LOAD_CORE) -> Iterator[Store]:
    """A PostgreSQL with its defaults but for two, with fsync."""
    server = Postgres(settings=_POSTGRES)
    try:
        with pinned(core):
            server.start()
        template = server.create_database()
        upgrade(template)
        yield Store(server, template)
    finally:
        server.close()


def new_key(database_url: str, scope: Scope) -> str:
    """A key that Rejse's services take."""
    return asyncio.run(_new_key(database_url, scope))


async def _new_key(database_url: str, scope: Scope) -> str:
    connection = await asyncpg.connect(database_url)
    try:
        return await create_key(connection, scope, SOURCE, SystemClock().now())
    finally:
        await connection.close()
