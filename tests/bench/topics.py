"""What is done with a topic: counted, filled, and filled as fast as a producer alone can."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from shared.codec import encode
from shared.eventlog.kafka.topic import ensure_topic
from shared.eventlog.port import partition_of
from tests.bench.events import touchpoints
from tests.bench.measure import Measure
from tests.bench.processes import PARTITIONS

BATCH_RECORDS = 500
_TIMEOUT_S = 30.0
_JARS = Path(__file__).parents[2] / ".cache/kafka/libs"
_LINE = re.compile(r"(\d+) records sent, ([\d.]+) records/sec .* ms 99th")

Pair = tuple[bytes, bytes]
"""A record's key and value."""


async def count(bootstrap: str, topic: str) -> int:
    """How many records a topic holds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    async with consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        return sum((await consumer.end_offsets(partitions)).values())


async def fill(bootstrap: str, topic: str, records: int, customers: int, begin: datetime) -> None:
    """Make a topic as Rejse does and put so many touchpoints of so many customers there."""
    await ensure_topic(bootstrap, topic, PARTITIONS, 1, _TIMEOUT_S)
    pairs = (
        (touchpoint.identities[0].encode(), encode(touchpoint))
        for touchpoint in touchpoints(records, customers, begin)
    )
    async with _producer(bootstrap) as producer:
        while some := list(islice(pairs, BATCH_RECORDS * PARTITIONS)):
            await _send(producer, topic, _ready(producer, some))


async def send_batch_alone(bootstrap: str, topic: str, records: int, begin: datetime) -> Measure:
    """aiokafka's `send_batch` with batches that were ready before, each sent before the last is acked."""
    pairs = [
        (touchpoint.identities[0].encode(), encode(touchpoint))
        for touchpoint in touchpoints(records, 50_000, begin)
    ]
    async with _producer(bootstrap) as producer:
        batches = [
            batch
            for at in range(0, records, BATCH_RECORDS * PARTITIONS)
            for batch in _ready(producer, pairs[at : at + BATCH_RECORDS * PARTITIONS])
        ]
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        await _send(producer, topic, batches)
        taken_s, taken_cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
    rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measure(rate_s=records / taken_s, per_cpu_s=records / taken_cpu_s, rss_mib=rss_mib)


def kafka_alone(bootstrap: str, topic: str, records: int, record_bytes: int) -> Measure:
    """Kafka's own producer test, as it comes but for acks and idempotence."""
    command = ["java", "-cp", f"{_JARS}/*", "org.apache.kafka.tools.ProducerPerformance"]
    command += ["--topic", topic, "--num-records", str(records), "--record-size", str(record_bytes)]
    command += ["--throughput", "-1", "--producer-props", f"bootstrap.servers={bootstrap}", "acks=all"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = _LINE.findall(done.stdout)
    if not found:
        raise ValueError(f"no result in what the producer test says: {done.stdout[-500:]}")
    _, rate_s = found[-1]
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Measure(
        rate_s=float(rate_s),
        per_cpu_s=records / (used.ru_utime + used.ru_stime),
        rss_mib=used.ru_maxrss / 1024,
    )


def _producer(bootstrap: str) -> Any:
    return AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, max_batch_size=1_000_000
    )


def _ready(producer: Any, pairs: Iterable[Pair]) -> list[tuple[int, Any]]:
    """Batches of the pairs, one a partition."""
    routed: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        routed[partition_of(pair[0], PARTITIONS)].append(pair)
    return [(partition, _batch(producer, some)) for partition, some in routed.items()]


def _batch(producer: Any, pairs: Sequence[Pair]) -> Any:
    batch = producer.create_batch()
    for key, value in pairs:
        if batch.append(timestamp=None, key=key, value=value) is None:
            raise ValueError("a batch is too small for its records")
    batch.close()
    return batch


async def _send(producer: Any, topic: str, batches: Iterable[tuple[int, Any]]) -> None:
    acks = [await producer.send_batch(batch, topic, partition=partition) for partition, batch in batches]
    await asyncio.gather(*acks)
