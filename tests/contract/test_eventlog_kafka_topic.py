"""A topic is trusted only if what it acks is kept: every way of being weak, on a real broker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.eventlog.kafka.topic import MESSAGE_BYTES_MIN, ensure_topic, weaknesses
from shared.eventlog.port import Outcome
from tests.contract.eventlog_rig import APPEND_S, CLOSE_S, PARTITIONS, kafka_writer, keep, records_of
from tests.support.broker import Broker

DURABLE = {"flush.messages": "1"}
LAZY = {"flush.messages": "9223372036854775807"}


@pytest.mark.parametrize(
    ("replicas", "config", "to_set"),
    [
        (1, DURABLE, []),
        (1, LAZY, ["flush.messages=1"]),
        (1, {}, ["flush.messages=1"]),
        (1, {**LAZY, "min.insync.replicas": "2"}, ["flush.messages=1"]),
        (2, {**LAZY, "min.insync.replicas": "2"}, []),
        (3, {**LAZY, "min.insync.replicas": "1"}, ["min.insync.replicas=2"]),
        (3, LAZY, ["min.insync.replicas=2"]),
        (3, DURABLE, []),
        (1, {**DURABLE, "cleanup.policy": "delete,compact"}, ["cleanup.policy=delete"]),
        (
            3,
            {"min.insync.replicas": "2", "unclean.leader.election.enable": "true"},
            ["unclean.leader.election.enable=false"],
        ),
        (1, {**DURABLE, "max.message.bytes": str(MESSAGE_BYTES_MIN)}, []),
        (
            1,
            {**LAZY, "max.message.bytes": str(MESSAGE_BYTES_MIN - 1)},
            ["flush.messages=1", f"max.message.bytes to {MESSAGE_BYTES_MIN}"],
        ),
    ],
)
def test_a_weakness_is_told_with_what_to_set(
    replicas: int, config: Mapping[str, str], to_set: list[str]
) -> None:
    """All weaknesses at once; a topic whose acks are on a disk, or on two machines, has none."""
    assert [one.split(": set ")[1] for one in weaknesses(replicas, config)] == to_set


@pytest.mark.parametrize(
    "config",
    [
        {},
        {**DURABLE, "max.message.bytes": "2000"},
        {**DURABLE, "cleanup.policy": "compact"},
        {**DURABLE, "unclean.leader.election.enable": "true"},
    ],
)
async def test_a_weak_topic_is_refused_unless_told_otherwise(
    broker: Broker, topic: str, config: Mapping[str, str]
) -> None:
    """What somebody made without Rejse's promises in mind is a wrong installation, with the way out named."""
    await broker.create_topic(topic, config=config)

    with pytest.raises(ConfigError, match="REJSE_KAFKA_ACCEPT_WEAK_TOPIC"):
        await ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S)
    await ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S, accept_weak=True)


async def test_a_topic_that_we_make_is_never_refused(broker: Broker, topic: str) -> None:
    """Whoever comes second looks at what the first one made, and finds nothing wrong."""
    for _ in range(2):
        await ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S)


async def test_a_broker_that_flushes_everything_makes_any_topic_durable(tmp_path: Path, topic: str) -> None:
    """What counts is the value in force: the broker's, where the topic has none."""
    with Broker(tmp_path, properties={"log.flush.interval.messages": "1"}) as broker:
        await broker.create_topic(topic)
        await ensure_topic(broker.bootstrap, topic, PARTITIONS, 1, APPEND_S)


async def test_a_writer_appends_nothing_to_a_weak_topic(broker: Broker, topic: str) -> None:
    """No ack of it would mean anything. The writer says why, and goes on once it is mended."""
    await broker.create_topic(topic, partitions=PARTITIONS)
    writer = kafka_writer(broker.bootstrap, topic)

    assert list(await writer.append(records_of([b"a"]), 2)) == [Outcome.UNKNOWN]
    assert "flush.messages=1" in (writer.wrong() or "")
    await broker.alter_topic(topic, DURABLE)
    await keep(writer, records_of([b"a"]))
    assert writer.wrong() is None
    await writer.close(CLOSE_S)
