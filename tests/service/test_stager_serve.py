"""The stager as a whole, in process: on the local log and on Kafka, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from services.stager.app import serve
from services.stager.settings import Settings
from shared.clock import SystemClock
from shared.codec import encode
from shared.config import load
from shared.eventlog.choose import open_writer
from shared.eventlog.port import EventWriter, NewRecord, Outcome
from shared.journey.catalog import load_definitions
from shared.journey.fold import Journey
from shared.lifecycle import listen
from shared.touchpoint import Touchpoint
from tests.support.audit import differences
from tests.support.broker import Broker
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH

CLOCK = SystemClock()
Serving = Callable[[], AbstractAsyncContextManager[asyncio.Task[None]]]


def record(number: int, day: float = 0) -> NewRecord:
    touchpoint = Touchpoint(
        id=str(number),
        type="order_completed",
        channel="phone",
        occurred_at=EPOCH + timedelta(days=day),
        received_at=CLOCK.now(),
        source="desk",
        identities=(f"user_id:{number % 10}",),
    )
    return NewRecord(str(number % 10).encode(), encode(touchpoint))


@pytest.fixture(params=["local", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Settings:
    environ = {"REJSE_DATA_DIR": str(tmp_path), "REJSE_DATABASE_URL": database_url, "REJSE_STAGER_PORT": "0"}
    if request.param == "kafka":
        broker = Broker(tmp_path_of(request, tmp_path))
        broker.start()
        request.addfinalizer(broker.close)
        environ["REJSE_KAFKA_BOOTSTRAP"] = broker.bootstrap
    return load(Settings, environ)


def tmp_path_of(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    home = tmp_path / "broker"
    home.mkdir()
    return home


@pytest.fixture
async def writer(settings: Settings) -> AsyncIterator[EventWriter]:
    writer = await open_writer(
        kafka_bootstrap=settings.kafka_bootstrap,
        data_dir=settings.data_dir,
        partitions=4,
        replicas=1,
        clock=CLOCK,
    )
    yield writer
    await writer.close(5)


@pytest.fixture
def serving(settings: Settings) -> Serving:
    @asynccontextmanager
    async def run() -> AsyncIterator[asyncio.Task[None]]:
        stop = asyncio.Event()
        listener = listen("127.0.0.1", 0)
        assert settings.database_url is not None
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(serve(settings, settings.database_url, listener, stop, CLOCK))
            yield task
            stop.set()

    return run


async def staged(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM touchpoints"))
    finally:
        await connection.close()


async def audit(database_url: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        return await differences(connection, [Journey(one) for one in load_definitions(None)])
    finally:
        await connection.close()


async def test_what_is_appended_is_staged_once_across_restarts(
    settings: Settings, writer: EventWriter, serving: Serving, database_url: str
) -> None:
    """A stager goes on where the last one committed: every record is staged, none of them twice."""
    for turn in range(3):
        records = [record(turn * 40 + number, day=turn) for number in range(40)]
        assert set(await writer.append(records, 10)) == {Outcome.KEPT}
        async with serving():
            await eventually_async(lambda: staged(database_url), 30, until=lambda n, t=turn: n == (t + 1) * 40)

    assert await audit(database_url) == []


async def test_several_stagers_of_a_group_stage_everything_once(
    settings: Settings, writer: EventWriter, serving: Serving, database_url: str
) -> None:
    """Two stagers at work at once: partitions are shared or fenced, and no record is lost or doubled."""
    async with serving(), serving():
        for turn in range(10):
            await writer.append([record(turn * 30 + number, day=turn) for number in range(30)], 10)
        await eventually_async(lambda: staged(database_url), 40, until=lambda n: n == 300)

    assert await audit(database_url) == []
