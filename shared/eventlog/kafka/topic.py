"""The topic: made when it is missing, so that an ack means durable; never altered."""

from __future__ import annotations

import asyncio

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from shared.eventlog.kafka.errors import translated


async def ensure_topic(bootstrap: str, topic: str, partitions: int, replicas: int, timeout_s: float) -> None:
    """Make the topic unless it exists. Several processes may do so at once.

    An ack of one broker that flushes when it likes does not survive a power cut, so a topic of one replica
    flushes every batch; with more replicas two must have a record before it is acked.

    Raises:
        Transient: Kafka is away, or didn't answer within `timeout_s` seconds.
        ConfigError: Kafka refuses the topic, for example more replicas than it has brokers.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await _ensure(bootstrap, topic, partitions, replicas, timeout_s)
    except (KafkaError, OSError) as error:
        raise translated(error) from error


async def _ensure(bootstrap: str, topic: str, partitions: int, replicas: int, timeout_s: float) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=round(timeout_s * 300) + 1)
    try:
        await admin.start()
        if topic not in await admin.list_topics():
            wanted = NewTopic(topic, partitions, replicas, topic_configs=_config(replicas))
            _check(await admin.create_topics([wanted]))
    finally:
        await admin.close()


def _config(replicas: int) -> dict[str, str]:
    return {"flush.messages": "1"} if replicas == 1 else {"min.insync.replicas": "2"}


def _check(response: object) -> None:
    for _, code, *detail in getattr(response, "topic_errors", ()):
        kind = for_code(code)
        if kind not in (NoError, TopicAlreadyExistsError):
            raise kind(*detail)
