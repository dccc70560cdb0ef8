"""What only the local log can do: outlive its process, be full, be cut behind a reader, survive its disk."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from shared.errors import ConfigError, LogReplaced
from shared.eventlog.choose import LOCAL_FOLDER, open_reader, open_writer
from shared.eventlog.local.file import FILE_NAME, LocalLog
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import Bounds, EventReader, NewRecord, Outcome
from tests.contract.eventlog_rig import (
    APPEND_S,
    CLOCK,
    CLOSE_S,
    READ_S,
    keep,
    numbered,
    read,
    records_of,
)
from tests.support.child import Child, inherited_env
from tests.support.eventually import eventually, eventually_async

_ROOT = Path(__file__).parents[2]

# Appends for ever, eight calls at a time, and tells of each record on its standard output once it is kept.
_APPENDING = """
import asyncio, itertools, sys
from pathlib import Path
from shared.clock import SystemClock
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import NewRecord, Outcome

async def main():
    writer = await LocalWriter.open(Path(sys.argv[1]), SystemClock())
    numbers = itertools.count()
    async def append():
        while True:
            records = [NewRecord(b"key", b"%d" % next(numbers)) for _ in range(3)]
            if set(await writer.append(records, 10)) == {Outcome.KEPT}:
                for record in records:
                    print(record.value.decode(), flush=True)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(append())

asyncio.run(main())
"""

# Lets no file grow beyond 256 KiB, appends until a record isn't kept, lifts the limit and appends again.
_DISK_FULL = """
import asyncio, resource, sys
from pathlib import Path
from shared.clock import SystemClock
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import NewRecord, Outcome

async def main():
    writer = await LocalWriter.open(Path(sys.argv[1]), SystemClock())
    resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, resource.RLIM_INFINITY))
    kept = 0
    while True:
        (outcome,) = await writer.append([NewRecord(b"key", b"%06d" % kept + b"x" * 10_000)], 10)
        if outcome is not Outcome.KEPT:
            break
        kept += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (again,) = await writer.append([NewRecord(b"key", b"again")], 10)
    await writer.close(10)
    print(kept, outcome.name, again.name, flush=True)

asyncio.run(main())
"""

# Opens the log and tells its id.
_OPENING = """
import asyncio, sys
from pathlib import Path
from shared.eventlog.local.file import LocalLog

async def main():
    log = await LocalLog.open(Path(sys.argv[1]))
    print(log.log_id, flush=True)
    await log.close(10)

asyncio.run(main())
"""


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str, Path], Child]:
    """Runs a script on a log's folder in a process of its own, which ends with the test."""
    count = 0

    def start(script: str, folder: Path) -> Child:
        nonlocal count
        count += 1
        command = [sys.executable, "-c", script, str(folder)]
        env = inherited_env(PYTHONPATH=str(_ROOT))
        child = Child(command, env=env, log_file=tmp_path / f"child-{count}.log")
        request.addfinalizer(child.end)
        return child

    return start


@pytest.fixture
async def parts() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def writer_on(parts: AsyncExitStack, folder: Path, bytes_max: int | None = None) -> LocalWriter:
    writer = await LocalWriter.open(folder, CLOCK, bytes_max=bytes_max)
    parts.push_async_callback(writer.close, CLOSE_S)
    return writer


async def reader_on(parts: AsyncExitStack, folder: Path, offset: int = 0) -> LocalReader:
    reader = await LocalReader.open(folder, CLOCK)
    parts.push_async_callback(reader.close, CLOSE_S)
    reader.start(0, offset)
    return reader


async def read_all(reader: EventReader) -> list[bytes]:
    """Every value, from the begin on."""
    bounds = (await reader.bounds([0]))[0]
    reader.start(0, bounds.begin)
    return [record.value for record in await read(reader, bounds.end - bounds.begin)]


def told(child: Child) -> list[bytes]:
    """The whole lines that a child has written."""
    return child.log_file.read_bytes().split(b"\n")[:-1]


async def test_what_a_killed_writer_had_answered_is_there(
    tmp_path: Path, run: Callable[[str, Path], Child], parts: AsyncExitStack
) -> None:
    """Three kills in the middle of appends lose no answered record and leave dense offsets."""
    for number in range(3):
        folder = tmp_path / f"log-{number}"
        child = run(_APPENDING, folder)
        eventually(partial(told, child), until=lambda lines: len(lines) > 200)
        child.send(signal.SIGKILL)
        child.wait(10)

        reader = await reader_on(parts, folder)
        found = await read_all(reader)

        assert set(told(child)) <= set(found)
        assert len(found) == len(set(found))
        writer = await writer_on(parts, folder)
        await keep(writer, records_of([b"next"]))
        assert (await reader.bounds([0]))[0] == Bounds(0, len(found) + 1)


async def test_another_process_reads_while_the_first_writes(
    tmp_path: Path, run: Callable[[str, Path], Child], parts: AsyncExitStack
) -> None:
    """A reader here sees what a writer there keeps, in order and without a gap, while it is written."""
    child = run(_APPENDING, tmp_path / "log")
    reader = await reader_on(parts, tmp_path / "log")

    records = await read(reader, 1_000)

    assert [record.offset for record in records] == list(range(len(records)))
    child.end()
    assert set(told(child)) <= set(await read_all(reader))


async def test_processes_that_make_the_log_at_once_have_the_same(
    tmp_path: Path, run: Callable[[str, Path], Child]
) -> None:
    """Whoever comes first makes the log, and all others open that one."""
    children = [run(_OPENING, tmp_path / "log") for _ in range(6)]

    assert [child.wait(30) for child in children] == [0] * 6
    assert len({child.log_file.read_text() for child in children}) == 1


async def test_a_full_disk_is_unknown_and_passes(
    tmp_path: Path, run: Callable[[str, Path], Child], parts: AsyncExitStack
) -> None:
    """An append that the disk fails is unknown, what was kept before stays, and later appends are kept."""
    child = run(_DISK_FULL, tmp_path / "log")
    assert child.wait(30) == 0, child.tail()
    kept, failed, again = child.tail(1).split()

    assert (failed, again) == ("UNKNOWN", "KEPT")
    assert int(kept) > 0
    found = await read_all(await reader_on(parts, tmp_path / "log"))
    assert [value[:6] for value in found[: int(kept)]] == [b"%06d" % number for number in range(int(kept))]
    assert found[-1] == b"again"


async def test_beyond_its_bound_the_log_is_full_until_there_is_room(
    tmp_path: Path, parts: AsyncExitStack
) -> None:
    """Appends beyond the bound keep nothing and say so; room that is made is used without a larger file."""
    bound = 400_000
    writer = await writer_on(parts, tmp_path, bytes_max=bound)
    records = records_of([b"x" * 1_000] * 10)
    kept = 0
    while (outcomes := await writer.append(records, APPEND_S))[0] is Outcome.KEPT:
        kept += len(records)
        assert await writer.log.bytes_used() <= bound

    assert set(outcomes) == {Outcome.FULL}
    assert bound * 0.6 < kept * 1_000 < bound
    reader = await reader_on(parts, tmp_path)
    assert (await reader.bounds([0]))[0] == Bounds(0, kept)
    full_bytes = await writer.log.bytes_used()

    for _ in range(5):
        await writer.log.truncate_before(0, kept - 20)
        assert await writer.log.bytes_used() < full_bytes / 2
        while (await writer.append(records, APPEND_S))[0] is Outcome.KEPT:
            kept += len(records)
        assert await writer.log.bytes_used() <= bound
    await writer.close(CLOSE_S)
    await reader.close(CLOSE_S)
    assert (tmp_path / FILE_NAME).stat().st_size < bound * 1.1


async def test_a_disk_that_is_nearly_full_takes_nothing_until_it_has_room(
    tmp_path: Path, parts: AsyncExitStack
) -> None:
    """What else is on the disk, above all the store, needs room to work off what was taken. The bound is
    looked at anew for every append."""
    room = tmp_path / "room"
    room.write_bytes(b"x" * (8 << 20))
    bound = shutil.disk_usage(tmp_path).free + (4 << 20)
    writer = await LocalWriter.open(tmp_path / "log", CLOCK, free_bytes_min=bound)
    parts.push_async_callback(writer.close, CLOSE_S)
    assert list(await writer.append(records_of([b"a"]), APPEND_S)) == [Outcome.FULL]

    room.unlink()
    await eventually_async(
        lambda: writer.append(records_of([b"b"]), APPEND_S), until=lambda found: found[0] is Outcome.KEPT
    )


async def test_a_full_log_still_refuses_what_is_too_large(tmp_path: Path, parts: AsyncExitStack) -> None:
    """Full is said of what could be kept later; what never could is refused all the same."""
    writer = await writer_on(parts, tmp_path, bytes_max=1)

    outcomes = await writer.append(records_of([b"a", b"x" * 300_000]), APPEND_S)

    assert list(outcomes) == [Outcome.FULL, Outcome.REFUSED]


async def test_what_is_truncated_is_gone_and_offsets_go_on(tmp_path: Path, parts: AsyncExitStack) -> None:
    """Records before the offset are gone, the rest is there, and new ones follow; also beyond the end."""
    writer, reader = await writer_on(parts, tmp_path), await reader_on(parts, tmp_path)
    await keep(writer, records_of(numbered(12_000)))

    await writer.log.truncate_before(0, 11_990)
    assert (await reader.bounds([0]))[0] == Bounds(11_990, 12_000)
    assert (await reader.read_each({0: 11_989})).get(0) is None
    with pytest.raises(LogReplaced):
        await reader.poll(10, READ_S)
    reader.start(0, 11_990)
    assert [record.value for record in await read(reader, 10)] == numbered(10, 11_990)

    await writer.log.truncate_before(0, 99_999)
    await writer.log.truncate_before(0, 5)
    assert (await reader.bounds([0]))[0] == Bounds(12_000, 12_000)
    await keep(writer, records_of([b"next"]))
    assert [(record.offset, record.value) for record in await read(reader, 1)] == [(12_000, b"next")]


async def test_calls_at_once_are_committed_together(tmp_path: Path, parts: AsyncExitStack) -> None:
    """A thousand calls at once take far fewer commits than calls."""
    writer, watcher = await writer_on(parts, tmp_path), await LocalLog.open(tmp_path)
    parts.push_async_callback(watcher.close, CLOSE_S)
    await keep(writer, records_of([b"warm"]))
    before = (tmp_path / f"{FILE_NAME}-wal").stat().st_size

    async with asyncio.TaskGroup() as tasks:
        for number in range(1_000):
            tasks.create_task(keep(writer, [NewRecord(b"key", b"%d" % number)]))

    # Each commit writes at least two pages of 4 KiB to the write-ahead log.
    assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size - before < 1_000 * 2 * 4096 / 4


async def test_a_file_that_is_no_log_is_told_as_such(tmp_path: Path) -> None:
    """A file of somebody else's is an error of the installation, and stays as it is."""
    (tmp_path / FILE_NAME).write_bytes(b"somebody's letters" * 100)

    with pytest.raises(ConfigError):
        await LocalLog.open(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes().startswith(b"somebody's letters")


async def test_a_folder_that_cannot_be_made_is_told_as_such(tmp_path: Path) -> None:
    """A data folder below a file is an error of the installation."""
    (tmp_path / "file").touch()

    with pytest.raises(ConfigError):
        await LocalLog.open(tmp_path / "file" / "log")


async def test_a_log_keeps_the_partitions_that_it_was_made_with(tmp_path: Path) -> None:
    """Opening a log with another count changes nothing, or keys would move."""
    first = await LocalLog.open(tmp_path, 3)
    second = await LocalLog.open(tmp_path, 5)

    assert (first.partitions, second.partitions) == (3, 3)
    await first.close(CLOSE_S)
    await second.close(CLOSE_S)


async def test_every_reader_has_every_record(tmp_path: Path, parts: AsyncExitStack) -> None:
    """There is no group on the local log: two readers both read all of it."""
    writer = await writer_on(parts, tmp_path)
    readers = [await reader_on(parts, tmp_path), await reader_on(parts, tmp_path)]
    await keep(writer, records_of(numbered(5)))

    for reader in readers:
        assert reader.assignment().partitions == {0}
        assert [record.value for record in await read(reader, 5)] == numbered(5)


async def test_without_kafka_the_log_is_in_the_data_folder(tmp_path: Path) -> None:
    """With no Kafka in the settings, writer and reader meet in one file below the data folder."""
    writer = await open_writer(
        kafka_bootstrap=None, data_dir=tmp_path, partitions=12, replicas=1, clock=CLOCK
    )
    reader = await open_reader(
        kafka_bootstrap=None, data_dir=tmp_path, partitions=12, replicas=1, clock=CLOCK
    )
    await keep(writer, [NewRecord(b"any", b"a")])
    reader.start(0, 0)

    assert [record.value for record in await read(reader, 1)] == [b"a"]
    assert (tmp_path / LOCAL_FOLDER / FILE_NAME).exists()
    await writer.close(CLOSE_S)
    await reader.close(CLOSE_S)
