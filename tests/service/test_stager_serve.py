"""The stager as a whole, in process: on the local log and on Kafka, with a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.stager.app import serve
from services.stager.loop import TooManyDeadLetters
from services.stager.settings import Settings
from services.supervisor.commands import list_partitions, resume_partition
from shared.clock import SystemClock
from shared.codec import encode
from shared.config import load
from shared.errors import ConfigError
from shared.eventlog.choose import LOCAL_FOLDER, open_writer
from shared.eventlog.local.progress import read_progress
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import EventWriter, NewRecord, Outcome
from shared.journey.catalog import load_definitions
from shared.journey.fold import Journey
from shared.lifecycle import listen
from shared.touchpoint import Touchpoint
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH
from tests.support.ports import free_port
from tests.support.proxy import Mood, Proxy

CLOCK = SystemClock()
_NOT_HALTED = "SELECT count(*) FROM stager_offsets WHERE halted IS NULL"
_WAITS_FOR_A_ROW = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
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
        environ["REJSE_KAFKA_BOOTSTRAP"] = request.getfixturevalue("services_broker").bootstrap
    return load(Settings, environ)


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
    return await count(database_url, "SELECT count(*) FROM touchpoints")


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
            await eventually_async(lambda: staged(database_url), 30, until=((turn + 1) * 40).__eq__)

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


async def test_a_record_that_can_not_be_processed_never_blocks_its_partition(
    settings: Settings, writer: EventWriter, serving: Serving, database_url: str
) -> None:
    """Bad bytes, and what PostgreSQL refuses, are set aside one by one; everything else is staged."""
    nul = encode(
        Touchpoint(
            id="nul",
            type="order_completed",
            channel="phone",
            occurred_at=EPOCH,
            received_at=EPOCH,
            source="desk",
            identities=("user_id:\0",),
        )
    )
    poison = [NewRecord(b"0", b"not json"), NewRecord(b"1", nul), NewRecord(b"2", b"")]
    records = [record(number) for number in range(30)]
    for index, bad in zip((4, 11, 25), poison, strict=True):
        records.insert(index, bad)
    await writer.append(records, 10)
    async with serving():
        await eventually_async(lambda: staged(database_url), 30, until=(30).__eq__)
        await eventually_async(lambda: dead_letters(database_url), 30, until=(3).__eq__)
        await writer.append([record(99, day=1)], 10)
        await eventually_async(lambda: staged(database_url), 30, until=(31).__eq__)

    assert await audit(database_url) == []


async def test_too_many_dead_letters_stop_the_stager(
    settings: Settings, writer: EventWriter, serving: Serving
) -> None:
    """When more than one record in a hundred can't be processed, the fault is ours: no more is buried."""
    await writer.append([NewRecord(b"0", b"not json")] * 20, 10)
    with pytest.raises(ExceptionGroup) as ended:
        async with serving() as task:
            await asyncio.wait([task], timeout=30)

    assert ended.group_contains(TooManyDeadLetters)


@pytest.mark.parametrize("silent", [False, True], ids=["answers", "silent"])
async def test_what_can_not_end_does_not_hold_up_the_end(
    settings: Settings, writer: EventWriter, database_url: str, silent: bool
) -> None:
    """Somebody sits on rows that a batch and the sweeper need: both are cut off in time, and left to whoever
    comes next; also where the store answers nothing any more, not even a rollback."""
    settings = replace(settings, drain_timeout_s=12.0)
    stop, holder, port = asyncio.Event(), await asyncpg.connect(database_url), free_port()
    server = urlsplit(database_url).port
    assert server is not None
    with Proxy(port, server) as proxy:
        async with asyncio.TaskGroup() as tasks, holder.transaction():
            url = database_url.replace(f":{server}/", f":{port}/")
            serving = tasks.create_task(serve(settings, url, listen("127.0.0.1", 0), stop, CLOCK))
            await writer.append([record(number) for number in range(40)], 10)
            await eventually_async(lambda: staged(database_url), 30, until=(40).__eq__)
            await holder.execute("LOCK TABLE journey_states IN EXCLUSIVE MODE")
            await holder.execute("SELECT FROM stager_offsets FOR UPDATE")
            await writer.append([record(number) for number in range(40, 80)], 10)
            await eventually_async(lambda: count(database_url, _WAITS_FOR_A_ROW), 30, until=(2).__le__)
            proxy.set(Mood(hole=silent))
            stop.set()
            async with asyncio.timeout(settings.drain_timeout_s):
                await serving
    await holder.close()

    assert await staged(database_url) == 40


@pytest.mark.expects_error("partition_halted")
@pytest.mark.parametrize(
    "damage", ["next_offset = next_offset + 1000", "tail_crc = tail_crc + 1"], ids=["shorter", "another"]
)
async def test_a_log_that_is_not_the_one_we_know_halts_its_partition(
    settings: Settings, writer: EventWriter, serving: Serving, database_url: str, damage: str
) -> None:
    """A log that ends before the stored offset, or holds another record before it, is never staged from."""
    await writer.append([record(number) for number in range(40)], 10)
    async with serving():
        await eventually_async(lambda: staged(database_url), 30, until=(40).__eq__)
    await execute(database_url, f"UPDATE stager_offsets SET {damage}")
    await writer.append([record(number + 100) for number in range(40)], 10)
    async with serving():
        await eventually_async(lambda: count(database_url, _NOT_HALTED), 30, until=(0).__eq__)
        await writer.append([record(number + 200) for number in range(40)], 10)

    assert await staged(database_url) == 40


@pytest.mark.expects_error("partition_halted")
async def test_a_halted_partition_goes_on_where_a_person_says(
    settings: Settings, writer: EventWriter, serving: Serving, database_url: str
) -> None:
    """The command is all it takes: the stager that runs notices, and what it had staged before is known by
    its id. Who did it is kept; and a partition that isn't halted is left alone."""
    environ = {"REJSE_DATABASE_URL": database_url}
    await writer.append([record(number) for number in range(40)], 10)
    async with serving():
        await eventually_async(lambda: staged(database_url), 30, until=(40).__eq__)
        with pytest.raises(ConfigError, match="not halted"):
            await asyncio.to_thread(resume_partition, environ, 0, None)
    await execute(database_url, "UPDATE stager_offsets SET next_offset = next_offset + 1000")
    await writer.append([record(number + 100) for number in range(40)], 10)
    async with serving():
        positions = await eventually_async(
            lambda: asyncio.to_thread(list_partitions, environ),
            30,
            until=lambda found: all(position.halted for position in found),
        )
        for position in positions:
            await asyncio.to_thread(resume_partition, environ, position.partition, None)
        await eventually_async(lambda: staged(database_url), 30, until=(80).__eq__)

    assert await count(database_url, "SELECT count(*) FROM partition_resumptions") == len(positions)
    assert await audit(database_url) == []


@pytest.mark.expects_error("partition_halted")
async def test_a_partition_resumed_outside_its_log_is_halted_again(
    settings: Settings, writer: EventWriter, serving: Serving, database_url: str
) -> None:
    """A resumption is no exception to the check: the log must hold the offset."""
    environ = {"REJSE_DATABASE_URL": database_url}
    await writer.append([record(number) for number in range(40)], 10)
    async with serving():
        await eventually_async(lambda: staged(database_url), 30, until=(40).__eq__)
    await execute(database_url, "UPDATE stager_offsets SET next_offset = next_offset + 1000")
    async with serving():
        await eventually_async(lambda: halted_at(database_url, 0), 30)
        await asyncio.to_thread(resume_partition, environ, 0, 7_777)
        await eventually_async(lambda: halted_at(database_url, 7_777), 30)
        await asyncio.to_thread(resume_partition, environ, 0, 0)
        await eventually_async(lambda: halted_at(database_url, 0), 30, until=lambda found: not found)

    assert await staged(database_url) == 40


async def halted_at(database_url: str, offset: int) -> int:
    """Whether partition 0 is halted at this offset or beyond."""
    query = "SELECT count(*) FROM stager_offsets WHERE partition = 0 AND halted IS NOT NULL AND next_offset"
    return await count(database_url, f"{query} >= {offset}")


@pytest.mark.parametrize("settings", ["local"], indirect=True)
@pytest.mark.expects_error("partition_halted")
async def test_a_trimmed_log_is_known_again_and_too_old_a_backup_is_halted(
    settings: Settings, serving: Serving, database_url: str
) -> None:
    """With all that was staged trimmed but the last record, a stager that comes back goes on. One whose store
    was set back to before the window halts instead of skipping what is gone."""
    clock = ManualClock(EPOCH)
    writer = await LocalWriter.open(settings.data_dir / LOCAL_FOLDER, clock, keep_bytes=0)
    for turn in range(3):
        records = [record(turn * 40 + number, day=turn) for number in range(40)]
        async with serving():
            await writer.append(records, 10)
            await eventually_async(lambda: staged(database_url), 30, until=((turn + 1) * 40).__eq__)
            await eventually_async(
                lambda: read_progress(settings.data_dir / LOCAL_FOLDER, writer.log.log_id).get(0),
                until=((turn + 1) * 40).__eq__,
            )
        clock.advance(60)
    await writer.append([record(999, day=9)], 10)
    await eventually_async(lambda: writer.log.bounds(0), until=lambda bounds: bounds.begin == 119)
    await writer.close(5)

    await execute(database_url, "UPDATE stager_offsets SET next_offset = 60")
    async with serving():
        await eventually_async(lambda: halted_at(database_url, 60), 30)
    assert await staged(database_url) == 120


async def dead_letters(database_url: str) -> int:
    return await count(database_url, "SELECT count(*) FROM dead_letters")


async def count(database_url: str, query: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()


async def execute(database_url: str, statement: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_a_stager_that_is_still_joining_ends_when_it_is_told_to(
    tmp_path: Path, database_url: str
) -> None:
    """A broker that takes connections and says nothing holds up the join, and not the end."""
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    asked = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    environ = {"REJSE_DATA_DIR": str(tmp_path), "REJSE_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}"}
    async with asyncio.timeout(8), asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(load(Settings, environ), database_url, listener, stop, CLOCK))
        await asked.wait()
        stop.set()
    silent.close()
