"""A consumer that has fallen silent is replaced without a restart; one that waits for its broker is not."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.errors import RejseError, Transient
from shared.eventlog.background import Background
from shared.eventlog.kafka.reader import KafkaReader
from shared.eventlog.kafka.topic import ensure_topic
from shared.eventlog.kafka.vigil import SILENT_S, Vigil
from tests.contract.eventlog_rig import (
    APPEND_S,
    CLOCK,
    CLOSE_S,
    PARTITIONS,
    READ_S,
    kafka_writer,
    keep,
    read,
    records_of,
)
from tests.support.broker import Broker
from tests.support.clock import ManualClock
from tests.support.eventually import eventually_async
from tests.support.journeys import EPOCH

SHORT_S = 5.0
# The client tells of a broker that is away, and of a task that was cut, at its own log's highest level.
pytestmark = pytest.mark.allows_error("^aiokafka")


@asynccontextmanager
async def watched_reader(broker: Broker, topic: str, silent_s: float) -> AsyncIterator[KafkaReader]:
    """A reader of a topic with one record, which it has read."""
    writer = kafka_writer(broker.bootstrap, topic)
    await keep(writer, records_of([b"before"]))
    await writer.close(CLOSE_S)
    group = f"group-{topic}"
    reader = await KafkaReader.open(broker.bootstrap, topic, group, CLOCK, READ_S, silent_s=silent_s)
    try:
        reader.start(0, 0)
        assert [record.value for record in await read(reader, 1)] == [b"before"]
        yield reader
    finally:
        await reader.close(CLOSE_S)


async def poll_until_replaced(reader: KafkaReader, timeout_s: float) -> None:
    """Poll as the stager does, until there is another consumer and it is in the group."""

    async def turn() -> bool:
        assert not await reader.poll(10, 0.1)
        return bool(reader.replacements and reader.assignment().partitions)

    await eventually_async(turn, timeout_s, tolerate=(Transient,))


async def assert_reads_on(reader: KafkaReader, broker: Broker, topic: str) -> None:
    """The reader gets what comes from now on, started as the stager does: anew with each assignment, which is
    silent until then. The one that is there may be from before, and the group hasn't told yet."""
    writer = kafka_writer(broker.bootstrap, topic)
    await keep(writer, records_of([b"after"]))
    await writer.close(CLOSE_S)
    started: set[int] = set()

    async def turn() -> list[bytes]:
        assignment = reader.assignment()
        if 0 in assignment.partitions and assignment.generation not in started:
            started.add(assignment.generation)
            reader.start(0, 1)
        return [record.value for record in await reader.poll(10, 0.5)]

    assert await eventually_async(turn, 40, tolerate=(Transient,)) == [b"after"]


async def test_a_consumer_whose_fetching_has_died_is_replaced(broker: Broker, topic: str) -> None:
    """Its heartbeats go on, and it would be silent for ever."""
    async with watched_reader(broker, topic, SHORT_S) as reader:
        generation = reader.assignment().generation
        reader._consumer._fetcher._fetch_task.cancel()

        await poll_until_replaced(reader, 30)

        assert reader.assignment().generation > generation
        await assert_reads_on(reader, broker, topic)
        assert reader.replacements == 1


async def test_a_consumer_that_never_finds_its_coordinator_is_replaced(broker: Broker, topic: str) -> None:
    """Its search for the coordinator is locked up, so the group gives its partitions away; and it fetches on
    as if nothing were."""
    async with watched_reader(broker, topic, SHORT_S) as reader:
        coordinator = reader._consumer._coordinator
        async with coordinator._coordinator_lookup_lock:
            coordinator.coordinator_dead()

            await poll_until_replaced(reader, 40)

            await assert_reads_on(reader, broker, topic)


async def test_a_consumer_that_answers_no_question_is_replaced(broker: Broker, topic: str) -> None:
    """It asks on and on for the offsets of a partition that isn't there, as it does when it is wrong about
    the cluster; its heartbeats go on, and nothing is fetched before the offsets are known."""
    async with watched_reader(broker, topic, SHORT_S) as reader:

        async def asks() -> int:
            with pytest.raises(Transient):
                await reader.bounds([PARTITIONS])
            return reader.replacements

        await eventually_async(asks, 60)
        await poll_until_replaced(reader, 40)
        await assert_reads_on(reader, broker, topic)


async def test_a_group_that_is_lost_with_its_topic_is_joined_anew(own_broker: Broker, topic: str) -> None:
    """The coordinator has forgotten all groups, and for a while there is none."""
    async with watched_reader(own_broker, topic, SHORT_S) as reader:
        generation = reader.assignment().generation
        await own_broker.delete_topic("__consumer_offsets")

        async def has_new_partitions() -> bool:
            await reader.poll(10, 0.1)
            return bool(reader.assignment().generation > generation and reader.assignment().partitions)

        await eventually_async(has_new_partitions, 60, tolerate=(Transient,))
        await assert_reads_on(reader, own_broker, topic)


async def test_a_broker_that_comes_back_without_its_data_is_read_again(
    own_broker: Broker, topic: str
) -> None:
    """The group, its coordinator's memory and the topic are gone; with the topic made anew the reader has its
    partitions again, by itself."""
    async with watched_reader(own_broker, topic, SHORT_S) as reader:
        own_broker.kill()
        shutil.rmtree(own_broker.home / "data")
        await asyncio.to_thread(own_broker.start)
        await ensure_topic(own_broker.bootstrap, topic, PARTITIONS, 1, APPEND_S)
        writer = kafka_writer(own_broker.bootstrap, topic)
        await keep(writer, records_of([b"anew", b"and on"]))
        await writer.close(CLOSE_S)

        async def reads() -> list[bytes]:
            for partition in reader.assignment().partitions:
                reader.start(partition, 0)
            return [record.value for record in await reader.poll(10, 0.5)]

        await eventually_async(reads, 60, until=lambda values: b"anew" in values, tolerate=(RejseError,))


async def test_a_consumer_that_waits_for_its_broker_is_left_alone(own_broker: Broker, topic: str) -> None:
    """While the broker is frozen for longer than any silence, nothing is replaced; then the same consumer
    goes on."""
    silent_s = 9.0
    async with watched_reader(own_broker, topic, silent_s) as reader:
        own_broker.pause()
        until_s = CLOCK.monotonic_s() + silent_s + 4
        while CLOCK.monotonic_s() < until_s:
            await reader.poll(10, 0.25)
        assert reader.replacements == 0
        own_broker.resume()
        await eventually_async(lambda: reader.assignment().partitions, 30)
        await assert_reads_on(reader, own_broker, topic)


async def test_a_busy_caller_is_no_silent_consumer(broker: Broker, topic: str) -> None:
    """Records that wait to be polled hold up the fetches; that is the caller's silence."""
    async with watched_reader(broker, topic, SHORT_S) as reader:
        for _ in range(5):
            await asyncio.sleep(1.5)  # the silence itself, not a wait for something
            await reader.poll(10, 0.1)

        assert reader.replacements == 0


async def test_a_consumer_that_finds_no_record_is_replaced(broker: Broker, topic: str) -> None:
    """Its fetching has died while nothing was started, as behind a rebalance: offsets it is told, and looks
    for the record before them in vain."""
    async with watched_reader(broker, topic, SHORT_S) as reader:
        reader.stop(0)
        reader._consumer._fetcher._fetch_task.cancel()

        async def looks() -> int:
            with contextlib.suppress(Transient):
                await reader.read_each({0: 0})
            assert not await reader.poll(10, 0.1)
            return reader.replacements

        await eventually_async(looks, 60)
        await poll_until_replaced(reader, 40)
        await assert_reads_on(reader, broker, topic)


class Broken:
    """A broker's answer to a probe."""

    def __init__(self) -> None:
        self.away = False

    async def probe(self) -> None:
        if self.away:
            raise Transient("away")


async def test_only_silence_while_the_broker_answers_counts() -> None:
    """Half of the time away and half of it silent is not yet silent; a sign of either kind alone is none."""
    clock, broker, background = ManualClock(EPOCH), Broken(), Background()
    vigil = Vigil(broker.probe, background, clock, SILENT_S)

    async def pass_s(seconds: float) -> bool:
        for _ in range(round(seconds * 4)):
            clock.advance(0.25)
            vigil.fetch_heard()
            silent = vigil.is_silent()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if silent:
                return True
        return False

    broker.away = True
    assert not await pass_s(3 * SILENT_S)
    broker.away = False
    assert not await pass_s(SILENT_S * 0.8)
    broker.away = True
    assert not await pass_s(SILENT_S)
    broker.away = False
    assert not await pass_s(SILENT_S * 0.8)
    vigil.group_heard()
    assert not await pass_s(SILENT_S * 0.9)
    assert await pass_s(SILENT_S * 0.3)
    await background.close(1)
