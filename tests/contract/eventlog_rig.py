"""The two event logs as the contract suite opens them: several writers and readers on one log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from shared.clock import SystemClock
from shared.eventlog.kafka.reader import KafkaReader
from shared.eventlog.kafka.topic import ensure_topic
from shared.eventlog.kafka.writer import KafkaWriter
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import EventReader, EventWriter, NewRecord, Outcome, Record, partition_of

PARTITIONS = 3
APPEND_S = 20.0
READ_S = 20.0
CLOSE_S = 10.0
CLOCK = SystemClock()


class LogUnderTest:
    """One empty log of `PARTITIONS` partitions; whatever is opened on it is closed with it."""

    def __init__(
        self,
        parts: AsyncExitStack,
        open_writer: Callable[[], Awaitable[EventWriter]],
        open_reader: Callable[[], Awaitable[EventReader]],
    ) -> None:
        self._parts = parts
        self._open_writer = open_writer
        self._open_reader = open_reader

    async def writer(self) -> EventWriter:
        """A new writer."""
        writer = await self._open_writer()
        self._parts.push_async_callback(writer.close, CLOSE_S)
        return writer

    async def reader(self) -> EventReader:
        """A new reader that has every partition, silent. On Kafka there must be no other of its group."""
        reader = await self._open_reader()
        self._parts.push_async_callback(reader.close, CLOSE_S)
        return reader

    async def started_reader(self) -> EventReader:
        """A new reader with every partition started at the log's begin."""
        reader = await self.reader()
        for partition in range(PARTITIONS):
            reader.start(partition, (await reader.bounds([partition]))[partition].begin)
        return reader


@asynccontextmanager
async def local_log(folder: Path) -> AsyncIterator[LogUnderTest]:
    """A log in a file."""

    async def open_writer() -> EventWriter:
        return await LocalWriter.open(folder, CLOCK, PARTITIONS)

    async def open_reader() -> EventReader:
        return await LocalReader.open(folder, CLOCK, PARTITIONS)

    async with AsyncExitStack() as parts:
        yield LogUnderTest(parts, open_writer, open_reader)


@asynccontextmanager
async def kafka_log(bootstrap: str, topic: str) -> AsyncIterator[LogUnderTest]:
    """A topic on a broker, read by a group of its own."""

    async def open_writer() -> EventWriter:
        return kafka_writer(bootstrap, topic)

    async def open_reader() -> EventReader:
        return await kafka_reader(bootstrap, topic)

    await ensure_topic(bootstrap, topic, PARTITIONS, 1, APPEND_S)
    async with AsyncExitStack() as parts:
        yield LogUnderTest(parts, open_writer, open_reader)


def kafka_writer(bootstrap: str, topic: str, *, accept_weak_topic: bool = False) -> KafkaWriter:
    """A writer on a topic of `PARTITIONS` partitions."""
    return KafkaWriter(bootstrap, topic, PARTITIONS, 1, CLOCK, accept_weak_topic=accept_weak_topic)


async def kafka_reader(bootstrap: str, topic: str) -> KafkaReader:
    """A reader in the topic's own group."""
    return await KafkaReader.open(bootstrap, topic, f"group-{topic}", CLOCK, READ_S)


def key_of(partition: int) -> bytes:
    """A key that belongs to a partition."""
    keys = (b"key-%d" % number for number in range(1000))
    return next(key for key in keys if partition_of(key, PARTITIONS) == partition)


def records_of(values: Iterable[bytes], partition: int = 0) -> list[NewRecord]:
    """New records of one partition."""
    return [NewRecord(key_of(partition), value) for value in values]


def numbered(count: int, first: int = 0) -> list[bytes]:
    """Values that tell their place."""
    return [b"%d" % number for number in range(first, first + count)]


async def keep(writer: EventWriter, records: Sequence[NewRecord]) -> None:
    """Append records, all of which must be kept."""
    outcomes = await writer.append(records, APPEND_S)
    assert list(outcomes) == [Outcome.KEPT] * len(records)


async def read(reader: EventReader, count: int) -> list[Record]:
    """Poll until so many records have come; fewer only when nothing came for long."""
    found: list[Record] = []
    while len(found) < count:
        more = await reader.poll(1000, READ_S)
        if not more:
            break
        found += more
    return found


def values_by_partition(records: Iterable[Record]) -> dict[int, list[bytes]]:
    """The values read, in the order they came in, by partition."""
    found: dict[int, list[bytes]] = {}
    for record in records:
        found.setdefault(record.partition, []).append(record.value)
    return found
