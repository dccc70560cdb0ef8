"""The laws of the event log's port, on the local log and on a real Kafka broker."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import LogReplaced
from shared.eventlog.port import RECORD_BYTES_MAX, Bounds, NewRecord, Outcome, keys_of_all, partition_of
from tests.contract.eventlog_rig import (
    APPEND_S,
    CLOSE_S,
    PARTITIONS,
    READ_S,
    LogUnderTest,
    kafka_log,
    keep,
    key_of,
    local_log,
    numbered,
    read,
    records_of,
    values_by_partition,
)


@pytest.fixture(params=["local", "kafka"])
async def log(request: pytest.FixtureRequest, tmp_path: Path, topic: str) -> AsyncIterator[LogUnderTest]:
    if request.param == "local":
        opened = local_log(tmp_path)
    else:
        opened = kafka_log(request.getfixturevalue("broker").bootstrap, topic)
    async with opened as under_test:
        yield under_test


async def test_a_partition_is_read_in_the_order_it_was_appended(log: LogUnderTest) -> None:
    """Over several appends, a partition's records come in their order, at dense offsets from 0."""
    writer = await log.writer()
    for first in (0, 10, 20):
        await keep(writer, records_of(numbered(10, first), partition=1))

    found = await read(await log.started_reader(), 30)

    assert [record.value for record in found] == numbered(30)
    assert [(record.partition, record.offset) for record in found] == [(1, offset) for offset in range(30)]


async def test_the_key_alone_chooses_the_partition(log: LogUnderTest) -> None:
    """A record lies in the partition that `partition_of` says, for every partition."""
    writer = await log.writer()
    await keep(writer, [NewRecord(key_of(partition), b"%d" % partition) for partition in range(PARTITIONS)])

    found = await read(await log.started_reader(), PARTITIONS)

    assert values_by_partition(found) == {partition: [b"%d" % partition] for partition in range(PARTITIONS)}


async def test_every_partition_can_be_told(log: LogUnderTest) -> None:
    """A writer knows how many partitions there are, and there is a key of each for any name."""
    writer = await log.writer()
    partitions = await writer.partitions(APPEND_S)
    assert partitions == PARTITIONS
    await keep(writer, [NewRecord(key, b"all") for key in keys_of_all(b"journey", partitions)])

    found = await read(await log.started_reader(), PARTITIONS)

    assert values_by_partition(found) == {partition: [b"all"] for partition in range(PARTITIONS)}


async def test_a_record_too_large_is_refused_and_its_neighbours_are_kept(log: LogUnderTest) -> None:
    """Outcomes stand in the order of the records, and only what is too large is refused."""
    writer = await log.writer()
    key = key_of(0)
    largest = b"x" * (RECORD_BYTES_MAX - len(key))

    outcomes = await writer.append(records_of([b"a", largest + b"x", largest, b"b"]), APPEND_S)

    assert list(outcomes) == [Outcome.KEPT, Outcome.REFUSED, Outcome.KEPT, Outcome.KEPT]
    found = await read(await log.started_reader(), 3)
    assert [record.value for record in found] == [b"a", largest, b"b"]


async def test_an_append_larger_than_any_batch_is_kept_in_order(log: LogUnderTest) -> None:
    """What doesn't fit into one batch of the log is split, and its order stays."""
    values = [b"%04d" % number + b"x" * 10_000 for number in range(400)]
    await keep(await log.writer(), records_of(values))

    found = await read(await log.started_reader(), len(values))

    assert [record.value for record in found] == values


async def test_an_append_of_nothing_is_answered_with_nothing(log: LogUnderTest) -> None:
    """No records, no outcomes."""
    assert list(await (await log.writer()).append([], APPEND_S)) == []


async def test_an_append_without_time_is_unknown(log: LogUnderTest) -> None:
    """With a deadline that has passed the answer is that nothing is known, not an error."""
    outcomes = await (await log.writer()).append(records_of([b"a"]), 0)

    assert list(outcomes) == [Outcome.UNKNOWN]


async def test_what_was_kept_is_there_after_reopening(log: LogUnderTest) -> None:
    """Kept records outlive their writer, and a new writer goes on behind them."""
    first = await log.writer()
    await keep(first, records_of([b"a"]))
    await first.close(CLOSE_S)
    await keep(await log.writer(), records_of([b"b"]))

    found = await read(await log.started_reader(), 2)

    assert [(record.offset, record.value) for record in found] == [(0, b"a"), (1, b"b")]


async def test_concurrent_appends_are_all_kept_each_in_its_order(log: LogUnderTest) -> None:
    """Calls at the same time, on two writers, lose nothing, double nothing, and keep each call's order."""
    writers = [await log.writer(), await log.writer()]
    calls = [[b"%d-%d" % (call, number) for number in range(20)] for call in range(30)]

    async with asyncio.TaskGroup() as tasks:
        for call, values in enumerate(calls):
            records = records_of(values, partition=call % PARTITIONS)
            tasks.create_task(keep(writers[call % 2], records))

    found = [record.value for record in await read(await log.started_reader(), 600)]
    assert sorted(found) == sorted(value for values in calls for value in values)
    for values in calls:
        assert [value for value in found if value in set(values)] == values


async def test_the_age_of_the_last_kept_record(log: LogUnderTest) -> None:
    """It is None before the first record is kept, and counts from the last one that was."""
    writer = await log.writer()
    assert writer.last_kept_age_s() is None

    await writer.append(records_of([b"x" * (RECORD_BYTES_MAX + 1)]), APPEND_S)
    assert writer.last_kept_age_s() is None
    await keep(writer, records_of([b"a"]))

    age_s = writer.last_kept_age_s()
    assert age_s is not None
    assert 0 <= age_s < APPEND_S


async def test_a_reader_has_every_partition_and_says_which_log_it_is(log: LogUnderTest) -> None:
    """Alone, a reader is given all partitions; and the log has one id, whoever asks."""
    reader = await log.reader()
    assert reader.assignment().generation >= 1
    assert reader.assignment().partitions == frozenset(range(PARTITIONS))
    log_id = reader.log_id
    await reader.close(CLOSE_S)

    assert log_id
    assert (await log.reader()).log_id == log_id


async def test_a_partition_is_silent_until_it_is_started(log: LogUnderTest) -> None:
    """Only started partitions are read."""
    writer, reader = await log.writer(), await log.reader()
    for partition in range(PARTITIONS):
        await keep(writer, records_of([b"%d" % partition], partition))
    assert not await reader.poll(10, 0.3)

    reader.start(1, 0)
    found = await read(reader, 1)

    assert [record.value for record in found] == [b"1"]
    assert not await reader.poll(10, 0.3)


async def test_reading_starts_where_it_is_told(log: LogUnderTest) -> None:
    """Started at an offset, again and backwards too, a partition is read from there."""
    await keep(await log.writer(), records_of(numbered(5)))
    reader = await log.reader()

    for offset in (3, 1, 4, 0):
        reader.start(0, offset)
        assert [record.value for record in await read(reader, 5 - offset)] == numbered(5 - offset, offset)


async def test_reading_starts_at_the_end_too(log: LogUnderTest) -> None:
    """Started at the end, a partition gives what comes after."""
    writer, reader = await log.writer(), await log.reader()
    await keep(writer, records_of([b"old"]))
    reader.start(0, 1)
    await keep(writer, records_of([b"new"]))

    assert [record.value for record in await read(reader, 1)] == [b"new"]


async def test_a_stopped_partition_is_read_no_more(log: LogUnderTest) -> None:
    """After `stop`, also twice, nothing of the partition comes; the others go on; `start` resumes."""
    writer, reader = await log.writer(), await log.started_reader()
    await keep(writer, records_of(numbered(5)))
    assert len(await reader.poll(2, READ_S)) == 2
    reader.stop(0)
    reader.stop(0)
    await keep(writer, records_of([b"other"], partition=1))

    assert [record.value for record in await read(reader, 1)] == [b"other"]
    assert not await reader.poll(10, 0.3)
    reader.start(0, 2)
    assert [record.value for record in await read(reader, 3)] == numbered(3, 2)


async def test_a_partition_that_is_not_assigned_cannot_be_started(log: LogUnderTest) -> None:
    """Starting, stopping and hinting at a partition that was taken away do nothing."""
    writer, reader = await log.writer(), await log.reader()
    await keep(writer, records_of([b"a"]))

    reader.start(PARTITIONS + 7, 0)
    reader.stop(PARTITIONS + 8)
    await reader.hint({PARTITIONS + 7: 3})

    assert not await reader.poll(10, 0.3)
    reader.start(0, 0)
    assert len(await read(reader, 1)) == 1


async def test_a_poll_returns_as_soon_as_there_is_a_record(log: LogUnderTest) -> None:
    """A poll that waits answers well before its timeout when a record comes."""
    writer, reader = await log.writer(), await log.started_reader()
    await keep(writer, records_of([b"first"]))
    await read(reader, 1)

    async with asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(reader.poll(10, READ_S))
        await asyncio.sleep(0.1)
        await keep(writer, records_of([b"second"]))
        appended_s = time.monotonic()
        found = await polling

    assert [record.value for record in found] == [b"second"]
    assert time.monotonic() - appended_s < 2


async def test_a_poll_for_nothing_ends_with_its_timeout(log: LogUnderTest) -> None:
    """With nothing to read a poll is empty, after its timeout and not long after."""
    reader = await log.started_reader()
    begun_s = time.monotonic()

    assert not await reader.poll(10, 0.5)
    assert 0.45 <= time.monotonic() - begun_s < 3


async def test_a_poll_can_be_cancelled_without_loss(log: LogUnderTest) -> None:
    """A cancelled poll takes nothing with it: the next one gives what came."""
    writer, reader = await log.writer(), await log.started_reader()
    for number in range(5):
        polling = asyncio.get_running_loop().create_task(reader.poll(10, READ_S))
        await asyncio.sleep(0.02 * number)
        polling.cancel()
        await asyncio.wait([polling])

    await keep(writer, records_of([b"a"]))

    assert [record.value for record in await read(reader, 1)] == [b"a"]


async def test_a_poll_gives_no_more_than_asked_for(log: LogUnderTest) -> None:
    """`records_max` bounds a poll, and the rest comes with the next ones, each once."""
    await keep(await log.writer(), records_of(numbered(25)))
    reader = await log.started_reader()

    polls = [await reader.poll(10, READ_S) for _ in range(3)]

    assert [len(records) for records in polls] == [10, 10, 5]
    assert [record.value for records in polls for record in records] == numbered(25)


async def test_bounds_follow_what_is_appended(log: LogUnderTest) -> None:
    """`begin` is the oldest record's offset and `end` the next one's, by partition."""
    writer, reader = await log.writer(), await log.reader()
    assert (await reader.bounds([2]))[2] == Bounds(0, 0)

    await keep(writer, records_of(numbered(4), partition=2))

    assert (await reader.bounds([2]))[2] == Bounds(0, 4)
    assert (await reader.bounds([0]))[0] == Bounds(0, 0)


async def test_records_of_several_partitions_can_be_looked_at_at_once(log: LogUnderTest) -> None:
    """`read_each` gives each partition's record, and leaves out those that have none there."""
    writer, reader = await log.writer(), await log.reader()
    for partition in (0, 1):
        await keep(writer, records_of(numbered(5), partition=partition))

    found = await reader.read_each({0: 4, 1: 2, 2: 0})

    assert {partition: record.value for partition, record in found.items()} == {0: b"4", 1: b"2"}
    assert not await reader.poll(10, 0.3)


async def test_the_ends_of_what_is_read_are_heard(log: LogUnderTest) -> None:
    """`ends` tells where the log of each started partition ends, once something was read of it."""
    writer, reader = await log.writer(), await log.reader()
    await keep(writer, records_of(numbered(5)))
    assert await reader.ends() == {}
    reader.start(0, 0)
    await read(reader, 5)

    assert await reader.ends() == {0: 5}


async def test_one_record_can_be_looked_at(log: LogUnderTest) -> None:
    """`read_each` gives the record at an offset, None where there is none, and starts nothing."""
    writer, reader = await log.writer(), await log.reader()
    await keep(writer, records_of(numbered(5)))
    await keep(writer, records_of(numbered(5), partition=1))
    reader.start(1, 0)

    looks = [(await reader.read_each({0: offset})).get(0) for offset in (3, 0, 5, 99)]

    assert [look and (look.partition, look.offset, look.value) for look in looks] == [
        (0, 3, b"3"),
        (0, 0, b"0"),
        None,
        None,
    ]
    assert values_by_partition(await read(reader, 5)) == {1: numbered(5)}
    assert not await reader.poll(10, 0.3)
    reader.start(0, 1)
    assert [record.value for record in await read(reader, 4)] == numbered(4, 1)


async def test_an_offset_beyond_the_log_means_that_it_was_replaced(log: LogUnderTest) -> None:
    """Started beyond its end, a partition raises once, is named and stopped; the others are read on."""
    writer, reader = await log.writer(), await log.reader()
    await keep(writer, records_of([b"a"]))
    reader.start(0, 7)

    with pytest.raises(LogReplaced) as caught:
        await reader.poll(10, READ_S)
    assert caught.value.partition == 0

    await keep(writer, records_of([b"b"], partition=1))
    reader.start(1, 0)
    assert [record.value for record in await read(reader, 1)] == [b"b"]
    reader.start(0, 0)
    assert [record.value for record in await read(reader, 1)] == [b"a"]


async def test_closing_again_does_nothing(log: LogUnderTest) -> None:
    """Writers and readers can be closed twice, used or not."""
    for used in (False, True):
        writer, reader = await log.writer(), await log.reader()
        if used:
            await keep(writer, records_of([b"a"]))
            await reader.poll(1, 0.1)
        for _ in range(2):
            await writer.close(CLOSE_S)
            await reader.close(CLOSE_S)


async def test_appends_in_flight_are_answered_when_the_writer_closes(log: LogUnderTest) -> None:
    """Closing in the middle of appends answers them all, and what it says is kept is there."""
    writer = await log.writer()
    await keep(writer, records_of([b"warm"]))
    appends = [
        asyncio.get_running_loop().create_task(writer.append(records_of([b"%d" % number]), READ_S))
        for number in range(50)
    ]
    await asyncio.sleep(0)
    await writer.close(CLOSE_S)

    async with asyncio.timeout(READ_S / 2):
        outcomes = [(await append)[0] for append in appends]

    assert set(outcomes) <= {Outcome.KEPT, Outcome.UNKNOWN}
    reader = await log.started_reader()
    found = {record.value for record in await read(reader, (await reader.bounds([0]))[0].end)}
    assert {b"%d" % number for number in range(50) if outcomes[number] is Outcome.KEPT} <= found


async def test_nothing_is_left_behind_after_closing(log: LogUnderTest) -> None:
    """No task outlives its writer and reader."""
    before = asyncio.all_tasks()
    writer, reader = await log.writer(), await log.started_reader()
    await keep(writer, records_of([b"a"]))
    await read(reader, 1)
    await reader.hint({0: 1})

    await writer.close(CLOSE_S)
    await reader.close(CLOSE_S)

    assert asyncio.all_tasks() <= before


appends = st.lists(
    st.lists(st.tuples(st.integers(0, 40), st.binary(max_size=30)), max_size=12), min_size=1, max_size=8
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=appends)
async def test_any_split_into_appends_reads_back_the_same(
    log: LogUnderTest, calls: Sequence[Sequence[tuple[int, bytes]]]
) -> None:
    """Whatever the records and however they are split into calls, each partition gives its own in order."""
    writer, reader = await log.writer(), await log.reader()
    wanted: dict[int, list[bytes]] = defaultdict(list)
    for partition in range(PARTITIONS):
        reader.start(partition, (await reader.bounds([partition]))[partition].end)

    for call in calls:
        records = [NewRecord(b"key-%d" % key, value) for key, value in call]
        await keep(writer, records)
        for record in records:
            wanted[partition_of(record.key, PARTITIONS)].append(record.value)

    found = await read(reader, sum(map(len, calls)))
    assert values_by_partition(found) == wanted
    await reader.close(CLOSE_S)
    await writer.close(CLOSE_S)
