"""Which log: Kafka where its address is given, else the file in the data folder."""

from __future__ import annotations

import contextlib
from pathlib import Path

from shared.clock import Clock
from shared.errors import Transient
from shared.eventlog.kafka.reader import KafkaReader
from shared.eventlog.kafka.topic import ensure_topic
from shared.eventlog.kafka.writer import KafkaWriter
from shared.eventlog.local.reader import LocalReader
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import TOPIC, EventReader, EventWriter

STAGER_GROUP = "rejse-stager"
LOCAL_FOLDER = "eventlog"
"""Of the touchpoints, in the data folder; any other topic's has its name."""
_OPEN_TIMEOUT_S = 30.0
_LOOK_TIMEOUT_S = 3.0
"""A writer needs no broker, so it waits no longer for one that doesn't answer before it begins."""


async def open_writer(
    *,
    kafka_bootstrap: str | None,
    data_dir: Path,
    partitions: int,
    replicas: int,
    clock: Clock,
    topic: str = TOPIC,
    accept_weak_topic: bool = False,
    local_keep_bytes: int | None = None,
    free_bytes_min: int = 0,
) -> EventWriter:
    """The writer that the settings ask for.

    Partitions and replicas are those of a Kafka topic that is made now; the local log has one partition,
    keeps `local_keep_bytes` of what its reader has done with (None: everything), or of what no reader of ours
    waits for, and takes nothing while its disk has less than `free_bytes_min` free.
    With Kafka away this succeeds, and appends are `UNKNOWN` until it is back; a topic that turns out then to
    be set up wrongly is told by `wrong`.

    Raises:
        Transient: the local log's disk is full or fails.
        ConfigError: the local log's file is damaged or none of ours, or Kafka refuses us, or its topic
            would not keep what it acks.
    """
    if kafka_bootstrap is None:
        return await LocalWriter.open(
            _local_folder(data_dir, topic),
            clock,
            free_bytes_min=free_bytes_min,
            keep_bytes=local_keep_bytes,
            awaits_reader=topic == TOPIC,
        )
    with contextlib.suppress(Transient):
        await ensure_topic(
            kafka_bootstrap, topic, partitions, replicas, _LOOK_TIMEOUT_S, accept_weak=accept_weak_topic
        )
    return KafkaWriter(
        kafka_bootstrap, topic, partitions, replicas, clock, accept_weak_topic=accept_weak_topic
    )


async def open_reader(
    *,
    kafka_bootstrap: str | None,
    data_dir: Path,
    partitions: int,
    replicas: int,
    clock: Clock,
    topic: str = TOPIC,
    group_id: str = STAGER_GROUP,
    timeout_s: float = _OPEN_TIMEOUT_S,
    accept_weak_topic: bool = False,
) -> EventReader:
    """The reader that the settings ask for, on the same log as the writer.

    Raises:
        Transient: the log is away, or Kafka didn't let us into the group within `timeout_s` seconds.
        ConfigError: Kafka refuses us, or its topic would not keep what it acks, or the local log's file is
            damaged or none of ours.
    """
    if kafka_bootstrap is None:
        return await LocalReader.open(_local_folder(data_dir, topic), clock)
    await ensure_topic(kafka_bootstrap, topic, partitions, replicas, timeout_s, accept_weak=accept_weak_topic)
    return await KafkaReader.open(kafka_bootstrap, topic, group_id, clock, timeout_s)


def _local_folder(data_dir: Path, topic: str) -> Path:
    return data_dir / (LOCAL_FOLDER if topic == TOPIC else topic)
