"""What only Kafka can do to the event log: refuse, freeze, die, come back, and share its partitions out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from shared.errors import ConfigError, LogReplaced, Transient
from shared.eventlog.kafka.reader import KafkaReader
from shared.eventlog.kafka.topic import ensure_topic
from shared.eventlog.kafka.writer import KafkaWriter
from shared.eventlog.port import Bounds, NewRecord, Outcome
from tests.contract.eventlog_rig import (
    APPEND_S,
    CLOCK,
    CLOSE_S,
    PARTITIONS,
    READ_S,
    kafka_reader,
    kafka_writer,
    keep,
    key_of,
    numbered,
    read,
    records_of,
    values_by_partition,
)
from tests.support.broker import Broker
from tests.support.eventually import eventually_async
from tests.support.ports import free_port

# The client tells of a broker that is away at its own log's highest level.
AWAY = pytest.mark.allows_error("^aiokafka")
_BY_THE_DRIVER_S = 4
"""Longer than the deadlines here with what a busy machine adds; the driver by itself waits 5 s."""


@pytest.fixture
async def parts() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def writer_on(
    parts: AsyncExitStack, bootstrap: str, topic: str, *, accept_weak_topic: bool = False
) -> KafkaWriter:
    writer = kafka_writer(bootstrap, topic, accept_weak_topic=accept_weak_topic)
    parts.push_async_callback(writer.close, CLOSE_S)
    return writer


async def settled_writer(
    parts: AsyncExitStack, broker: Broker, topic: str, *, accept_weak_topic: bool = False
) -> KafkaWriter:
    """A writer that has written to every partition: a topic's partitions get their leaders one by one, and a
    producer that came too early is replaced."""
    writer = writer_on(parts, broker.bootstrap, topic, accept_weak_topic=accept_weak_topic)
    await keep(writer, [NewRecord(key_of(partition), b"settled") for partition in range(PARTITIONS)])
    return writer


async def reader_on(parts: AsyncExitStack, bootstrap: str, topic: str) -> KafkaReader:
    reader = await kafka_reader(bootstrap, topic)
    parts.push_async_callback(reader.close, CLOSE_S)
    return reader


async def all_values(parts: AsyncExitStack, bootstrap: str, topic: str) -> list[bytes]:
    """The values of the whole topic, partition by partition."""
    # A node that was frozen may be fenced once more after its first answers, until it is heard of again.
    reader = await eventually_async(lambda: reader_on(parts, bootstrap, topic), 60, tolerate=(Transient,))
    values: list[bytes] = []
    for partition in range(PARTITIONS):
        bounds = (await reader.bounds([partition]))[partition]
        reader.start(partition, bounds.begin)
        values += [record.value for record in await read(reader, bounds.end - bounds.begin)]
        reader.stop(partition)
    await reader.close(CLOSE_S)
    return values


async def config_of(bootstrap: str, topic: str, name: str) -> str:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    ((*_, entries),) = answer.resources
    return next(str(entry[1]) for entry in entries if entry[0] == name)


async def kept_again(writer: KafkaWriter, value: bytes) -> bool:
    return list(await writer.append(records_of([value]), 1)) == [Outcome.KEPT]


async def test_a_topic_of_one_replica_flushes_every_batch(broker: Broker, topic: str) -> None:
    """On one broker an ack is durable only if it flushed, so a topic that we make does."""
    await ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S)

    assert await config_of(broker.bootstrap, topic, "flush.messages") == "1"


async def test_a_topic_that_exists_is_left_alone(broker: Broker, topic: str) -> None:
    """Neither its partitions nor its configuration change."""
    await broker.create_topic(topic, partitions=1, config={"flush.messages": "77"})

    await ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S, accept_weak=True)

    assert await config_of(broker.bootstrap, topic, "flush.messages") == "77"


async def test_many_may_make_the_topic_at_once(broker: Broker, topic: str) -> None:
    """Whoever comes second finds what it wanted."""
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S))


async def test_more_replicas_than_brokers_are_told_as_a_wrong_setting(broker: Broker, topic: str) -> None:
    """A topic that this cluster can't have is an error of the installation, not a passing one."""
    with pytest.raises(ConfigError):
        await ensure_topic(broker.bootstrap, topic, PARTITIONS, 3, APPEND_S)


@AWAY
async def test_without_a_broker_opening_a_reader_or_a_topic_is_transient(topic: str) -> None:
    """Kafka away is an error that asks for another try."""
    nobody = f"127.0.0.1:{free_port()}"
    with pytest.raises(Transient):
        await ensure_topic(nobody, topic, PARTITIONS, 1, 2)
    with pytest.raises(Transient):
        await KafkaReader.open(nobody, topic, "group", CLOCK, 2)


@pytest.mark.allows_error("not found in cluster metadata")
async def test_a_reader_of_a_missing_topic_is_transient_in_time(broker: Broker, topic: str) -> None:
    """A topic that isn't there yet is waited for no longer than asked."""
    begun_s = time.monotonic()
    with pytest.raises(Transient):
        await KafkaReader.open(broker.bootstrap, topic, "group", CLOCK, 1)

    assert time.monotonic() - begun_s < 5


async def test_a_refused_record_leaves_its_neighbours_and_its_partition_alone(
    broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """Only the record that the broker finds too large is refused, and the partition lives on."""
    await broker.create_topic(topic, partitions=PARTITIONS, config={"max.message.bytes": "2000"})
    writer = await settled_writer(parts, broker, topic, accept_weak_topic=True)
    replacements = writer.replacements
    values = [b"a" * 100, b"b" * 1500, b"c" * 5000, b"d" * 1500, b"e" * 100]

    outcomes = await writer.append(records_of(values), APPEND_S)

    assert list(outcomes) == [
        Outcome.KEPT,
        Outcome.KEPT,
        Outcome.REFUSED,
        Outcome.KEPT,
        Outcome.KEPT,
    ]
    await keep(writer, records_of([b"after"]))
    kept = [value for value in await all_values(parts, broker.bootstrap, topic) if value != b"settled"]
    assert kept == [*values[:2], *values[3:], b"after"]
    assert writer.replacements == replacements


async def test_refusals_cost_a_round_trip_and_no_producer(
    broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """A topic altered under load so that it refuses nearly every batch keeps what is small enough, in order,
    and refuses the rest, with the producer that was there."""
    writer = await settled_writer(parts, broker, topic)
    replacements = writer.replacements
    await broker.alter_topic(topic, {"flush.messages": "1", "max.message.bytes": "2000"})
    values = [b"%d" % number + b"." * (3_000 if number % 100 == 7 else 400) for number in range(3_000)]

    outcomes = await writer.append(records_of(values), APPEND_S)

    small = [value for value in values if len(value) < 1_000]
    assert [outcome is Outcome.KEPT for outcome in outcomes] == [len(value) < 1_000 for value in values]
    assert outcomes.count(Outcome.REFUSED) == len(values) - len(small)
    kept = [value for value in await all_values(parts, broker.bootstrap, topic) if value != b"settled"]
    assert kept == small
    assert writer.replacements == replacements


async def test_a_refused_record_harms_no_other_call(
    broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """Calls that shared a batch with a refused record are kept, each once and in its order."""
    await broker.create_topic(topic, partitions=PARTITIONS, config={"max.message.bytes": "2000"})
    writer = writer_on(parts, broker.bootstrap, topic, accept_weak_topic=True)
    calls = [[b"%d-%d" % (call, number) + b"." * 90 for number in range(20)] for call in range(10)]

    async with asyncio.TaskGroup() as tasks:
        for values in calls:
            tasks.create_task(keep(writer, records_of(values)))
        refused = tasks.create_task(writer.append(records_of([b"x" * 5000]), APPEND_S))

    assert list(refused.result()) == [Outcome.REFUSED]
    found = await all_values(parts, broker.bootstrap, topic)
    assert sorted(set(found)) == sorted(value for values in calls for value in values)
    for values in calls:
        first_seen = dict.fromkeys(value for value in found if value in set(values))
        assert list(first_seen) == values


@AWAY
async def test_a_frozen_broker_is_unknown_in_time_and_used_again(
    own_broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """While the broker is frozen every append is answered by its deadline; afterwards they are kept."""
    writer = writer_on(parts, own_broker.bootstrap, topic)
    await keep(writer, records_of([b"before"]))

    own_broker.pause()
    for _ in range(3):
        begun_s = time.monotonic()
        outcomes = await writer.append(records_of([b"lost?"], 0) + records_of([b"lost?"], 1), 1)
        assert list(outcomes) == [Outcome.UNKNOWN, Outcome.UNKNOWN]
        assert time.monotonic() - begun_s < _BY_THE_DRIVER_S
    assert writer.replacements >= 1
    own_broker.resume()

    await eventually_async(lambda: kept_again(writer, b"after"), 20)
    found = await all_values(parts, own_broker.bootstrap, topic)
    assert {b"before", b"after"} <= set(found)


@AWAY
async def test_a_killed_broker_that_returns_is_used_again(
    own_broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """After a kill and a restart the same writer keeps records; what was kept before is there."""
    writer = writer_on(parts, own_broker.bootstrap, topic)
    await keep(writer, records_of([b"before"]))

    own_broker.kill()
    begun_s = time.monotonic()
    assert list(await writer.append(records_of([b"lost?"]), 1)) == [Outcome.UNKNOWN]
    assert time.monotonic() - begun_s < _BY_THE_DRIVER_S
    await asyncio.to_thread(own_broker.start)

    await eventually_async(lambda: kept_again(writer, b"after"), 30)
    found = await all_values(parts, own_broker.bootstrap, topic)
    assert {b"before", b"after"} <= set(found)


@AWAY
async def test_an_append_outlives_a_restart_within_its_deadline(
    own_broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """With time enough an append waits for the broker to come back, and is kept."""
    writer = writer_on(parts, own_broker.bootstrap, topic)
    await keep(writer, records_of([b"before"]))
    own_broker.kill()

    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(writer.append(records_of([b"patient"]), 60))
        await asyncio.to_thread(own_broker.start)

    assert list(waiting.result()) == [Outcome.KEPT]
    assert b"patient" in await all_values(parts, own_broker.bootstrap, topic)


@AWAY
async def test_a_writer_opens_before_its_broker(
    own_broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """Without a broker a writer is made, answers in time, and makes the topic when the broker is there."""
    own_broker.kill()
    writer = writer_on(parts, own_broker.bootstrap, topic)
    begun_s = time.monotonic()
    assert list(await writer.append(records_of([b"early"]), 0.5)) == [Outcome.UNKNOWN]
    assert time.monotonic() - begun_s < _BY_THE_DRIVER_S

    await asyncio.to_thread(own_broker.start)
    await eventually_async(lambda: kept_again(writer, b"now"), 20)
    assert await config_of(own_broker.bootstrap, topic, "flush.messages") == "1"


@AWAY
async def test_an_append_that_waits_for_a_broker_ends_with_its_writer(topic: str) -> None:
    """Closing answers an append that has long to wait yet."""
    writer = kafka_writer(f"127.0.0.1:{free_port()}", topic)

    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(writer.append(records_of([b"a"]), 60))
        await asyncio.sleep(0.2)
        await writer.close(2)

    assert list(waiting.result()) == [Outcome.UNKNOWN]


@AWAY
async def test_closing_needs_no_broker(own_broker: Broker, topic: str) -> None:
    """With the broker frozen, writer and reader close within their deadlines and leave no task behind."""
    before = asyncio.all_tasks()
    writer = kafka_writer(own_broker.bootstrap, topic)
    await keep(writer, records_of([b"a"]))
    reader = await kafka_reader(own_broker.bootstrap, topic)
    own_broker.pause()
    await writer.append(records_of([b"lost?"]), 0.2)

    begun_s = time.monotonic()
    await writer.close(3)
    await reader.close(3)

    assert time.monotonic() - begun_s < 10
    await eventually_async(lambda: asyncio.all_tasks() <= before)
    own_broker.resume()


@AWAY
async def test_a_frozen_broker_makes_reading_transient(
    own_broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """Polls end with their timeout, looks and bounds raise in time, hints return; then all works again."""
    writer = writer_on(parts, own_broker.bootstrap, topic)
    await keep(writer, records_of([b"a"]))
    reader = await reader_on(parts, own_broker.bootstrap, topic)
    own_broker.pause()

    begun_s = time.monotonic()
    assert not await reader.poll(1, 0.5)
    with pytest.raises(Transient):
        await reader.bounds([0])
    with pytest.raises(Transient):
        await reader.read_each({0: 0})
    await reader.hint({0: 1})
    assert time.monotonic() - begun_s < 15
    own_broker.resume()

    await eventually_async(lambda: reader.bounds([0]), 30, tolerate=(Transient,))
    await eventually_async(lambda: reader.assignment().partitions, 30)
    reader.start(0, 0)
    assert [record.value for record in await read(reader, 1)] == [b"a"]


async def test_two_readers_of_a_group_share_the_partitions_and_hand_them_over(
    broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """A second reader takes part of the partitions, silent at first; when one leaves the other has all.

    On the local log there is no group: every reader has every partition.
    """
    writer = writer_on(parts, broker.bootstrap, topic)
    for partition in range(PARTITIONS):
        await keep(writer, records_of(numbered(3), partition))
    first = await reader_on(parts, broker.bootstrap, topic)
    alone = first.assignment()
    for partition in alone.partitions:
        first.start(partition, 0)
    assert len(await read(first, 3 * PARTITIONS)) == 3 * PARTITIONS

    second = await reader_on(parts, broker.bootstrap, topic)
    await eventually_async(lambda: first.assignment().partitions and first.assignment() != alone)

    shared = first.assignment()
    assert shared.generation > alone.generation
    assert shared.partitions
    assert second.assignment().partitions
    assert shared.partitions.isdisjoint(second.assignment().partitions)
    assert shared.partitions | second.assignment().partitions == alone.partitions
    assert not await first.poll(10, 0.3)
    assert not await second.poll(10, 0.3)
    for partition in second.assignment().partitions:
        second.start(partition, 1)
    handed_over = await read(second, 2 * len(second.assignment().partitions))
    assert values_by_partition(handed_over) == {
        partition: numbered(2, 1) for partition in second.assignment().partitions
    }

    await second.close(CLOSE_S)
    await eventually_async(lambda: first.assignment().partitions == alone.partitions)
    assert first.assignment().generation > shared.generation
    for partition in alone.partitions:
        first.start(partition, 2)
    assert len(await read(first, PARTITIONS)) == PARTITIONS


async def test_what_was_hinted_is_never_read_back(broker: Broker, topic: str, parts: AsyncExitStack) -> None:
    """A hint is the group's committed offset, for lag tools; where reading starts is not its business."""
    writer = writer_on(parts, broker.bootstrap, topic)
    await keep(writer, records_of(numbered(5)))
    first = await reader_on(parts, broker.bootstrap, topic)
    await first.hint({0: 4, PARTITIONS + 5: 1})
    await first.close(CLOSE_S)

    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(f"group-{topic}")
    finally:
        await admin.close()
    assert committed[TopicPartition(topic, 0)].offset == 4

    second = await reader_on(parts, broker.bootstrap, topic)
    assert not await second.poll(10, 0.5)
    second.start(0, 1)
    assert [record.value for record in await read(second, 4)] == numbered(4, 1)


async def test_an_offset_that_retention_has_passed_means_that_the_log_was_replaced(
    broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """Records deleted under a reader are no gap to step over."""
    writer = writer_on(parts, broker.bootstrap, topic)
    await keep(writer, records_of(numbered(5)))
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3)})
    finally:
        await admin.close()
    reader = await reader_on(parts, broker.bootstrap, topic)

    assert (await reader.bounds([0]))[0] == Bounds(3, 5)
    assert (await reader.read_each({0: 2})).get(0) is None
    reader.start(0, 2)
    with pytest.raises(LogReplaced):
        await reader.poll(10, READ_S)


async def test_many_calls_at_once_share_their_batches(
    broker: Broker, topic: str, parts: AsyncExitStack
) -> None:
    """Far more calls than a partition has round trips are all kept in a short time."""
    writer = await settled_writer(parts, broker, topic)
    replacements = writer.replacements
    begun_s = time.monotonic()

    async with asyncio.TaskGroup() as tasks:
        for number in range(2_000):
            record = NewRecord(key_of(number % PARTITIONS), b"%d" % number)
            tasks.create_task(keep(writer, [record]))

    assert time.monotonic() - begun_s < 10
    assert writer.replacements == replacements
    found = await all_values(parts, broker.bootstrap, topic)
    assert sorted(found) == sorted([*numbered(2_000), *[b"settled"] * PARTITIONS])
