"""The local log keeps a window behind its reader: what goes, what never does, and who notices."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import LogReplaced
from shared.eventlog.local import progress
from shared.eventlog.local.progress import read_progress, write_progress
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.trim import EVERY_S, beyond_window
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import Bounds
from tests.contract.eventlog_rig import CLOSE_S, READ_S, keep, numbered, read, records_of
from tests.support.clock import ManualClock
from tests.support.journeys import EPOCH

WINDOW_BYTES = 100_000
VALUE = b"x" * 1_000


@pytest.fixture
async def parts() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


class Log:
    """A writer that keeps a window, and a reader, on a clock of their own."""

    def __init__(self, clock: ManualClock, writer: LocalWriter, reader: LocalReader) -> None:
        self._clock = clock
        self.writer = writer
        self.reader = reader

    @classmethod
    async def open(cls, parts: AsyncExitStack, folder: Path, keep_bytes: int = WINDOW_BYTES) -> Log:
        clock = ManualClock(EPOCH)
        writer = await LocalWriter.open(folder, clock, keep_bytes=keep_bytes)
        reader = await LocalReader.open(folder, clock)
        parts.push_async_callback(writer.close, CLOSE_S)
        parts.push_async_callback(reader.close, CLOSE_S)
        return cls(clock, writer, reader)

    async def grow(self, records: int) -> None:
        """Append so many, and let the writer look whether there is something to trim, twice: a step comes
        after the commit that it is due at."""
        await keep(self.writer, records_of([VALUE] * records))
        for _ in range(2):
            self._clock.advance(EVERY_S)
            await keep(self.writer, records_of([b"one more"]))
        await keep(self.writer, records_of([b"behind the step"]))

    async def bounds(self) -> Bounds:
        return (await self.reader.bounds([0]))[0]


async def test_what_is_done_with_is_trimmed_to_the_window(tmp_path: Path, parts: AsyncExitStack) -> None:
    """However much is written, the log holds little more than its window; offsets go on."""
    log = await Log.open(parts, tmp_path)
    for _ in range(10):
        await log.grow(500)
        await log.reader.hint({0: (await log.bounds()).end})
    await log.grow(1)

    bounds = await log.bounds()
    assert bounds.end == 10 * 503 + 4
    assert WINDOW_BYTES * 0.5 < (bounds.end - bounds.begin) * len(VALUE) < WINDOW_BYTES * 2
    assert await log.writer.log.bytes_used() < WINDOW_BYTES * 3


async def test_what_no_reader_is_done_with_stays(tmp_path: Path, parts: AsyncExitStack) -> None:
    """Far beyond the window, a record is there until it was staged."""
    log = await Log.open(parts, tmp_path)
    await log.grow(1_000)
    assert (await log.bounds()).begin == 0

    await log.reader.hint({0: 700})
    await log.grow(1_000)

    assert 0 < (await log.bounds()).begin < 700


async def test_the_last_record_that_was_read_stays_whatever_the_window(
    tmp_path: Path, parts: AsyncExitStack
) -> None:
    """It is what a stager that comes back tells the log by."""
    log = await Log.open(parts, tmp_path, keep_bytes=0)
    await keep(log.writer, records_of(numbered(100)))
    await log.reader.hint({0: 50})
    await log.grow(1)

    assert (await log.bounds()).begin == 49
    assert (await log.reader.read_each({0: 49}))[0].value == b"49"


async def test_a_reader_that_comes_back_from_before_the_window_is_told(
    tmp_path: Path, parts: AsyncExitStack
) -> None:
    """A store restored from too old a backup reads nothing: its offset is outside the log."""
    log = await Log.open(parts, tmp_path, keep_bytes=0)
    await keep(log.writer, records_of(numbered(100)))
    await log.reader.hint({0: 100})
    await log.grow(1)
    log.reader.start(0, 42)

    with pytest.raises(LogReplaced):
        await log.reader.poll(10, READ_S)


async def test_a_reader_within_the_window_reads_everything_again(
    tmp_path: Path, parts: AsyncExitStack
) -> None:
    """That is what the window is for; and as its progress is the older one then, nothing more is trimmed."""
    log = await Log.open(parts, tmp_path)
    values = [b"%d" % number + VALUE for number in range(1_000)]
    await keep(log.writer, records_of(values))
    await log.reader.hint({0: 1_000})
    await log.grow(1)
    begin = (await log.bounds()).begin
    assert begin > 0
    log.reader.start(0, begin)
    await log.reader.hint({0: begin})
    await log.grow(500)

    assert (await log.bounds()).begin == begin
    found = await read(log.reader, 1_000 - begin)
    assert [record.value for record in found][: 1_000 - begin] == values[begin:]


@pytest.mark.parametrize("damage", ["torn", "of another log", "beyond the end", "of no partition"])
async def test_progress_that_can_not_be_trusted_trims_nothing(
    tmp_path: Path, parts: AsyncExitStack, damage: str
) -> None:
    """A file that is torn, belongs to another log or is ahead of this one counts as not there."""
    log = await Log.open(parts, tmp_path / "log", keep_bytes=0)
    await keep(log.writer, records_of(numbered(100)))
    if damage == "torn":
        (tmp_path / "log" / progress.FILE_NAME).write_bytes(b'{"log_id": "')
    elif damage == "of another log":
        other = await Log.open(parts, tmp_path / "other")
        await other.reader.hint({0: 50})
        shutil.copy(tmp_path / "other" / progress.FILE_NAME, tmp_path / "log" / progress.FILE_NAME)
    else:
        await log.reader.hint({0: 9_999} if damage == "beyond the end" else {7: 50})
    await log.grow(1)

    assert (await log.bounds()).begin == 0


def test_progress_is_lost_without_a_word_where_it_can_not_be_written(tmp_path: Path) -> None:
    """A folder that isn't there loses the note and harms nobody."""
    write_progress(tmp_path / "nowhere", "log", {0: 1})

    assert read_progress(tmp_path / "nowhere", "log") == {}


@given(
    begin=st.integers(0, 1_000),
    records=st.integers(0, 1_000),
    next_offset=st.integers(0, 3_000),
    keep_bytes=st.integers(0, 100_000),
    record_bytes=st.floats(1, 10_000),
)
def test_nothing_goes_that_was_not_done_with_or_is_in_the_window(
    begin: int, records: int, next_offset: int, keep_bytes: int, record_bytes: float
) -> None:
    """For every log, reader and window."""
    bounds = Bounds(begin, begin + records)
    goal = beyond_window(bounds, next_offset, keep_bytes, record_bytes)

    assert goal >= begin
    if goal > begin:
        assert goal < next_offset <= bounds.end
        assert (next_offset - goal) * record_bytes >= keep_bytes
