"""The topic: made when it is missing, so that an ack means durable; never altered, and refused if its acks
aren't."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from shared.errors import ConfigError
from shared.eventlog.kafka.errors import DRIVER_ERRORS, translated
from shared.eventlog.port import RECORD_BYTES_MAX

MESSAGE_BYTES_MIN = RECORD_BYTES_MAX + 1024
"""The least `max.message.bytes` that lets in our largest record, in a batch of its own."""
_MADE_PAUSE_S = 0.05


async def ensure_topic(
    bootstrap: str,
    topic: str,
    partitions: int,
    replicas: int,
    timeout_s: float,
    *,
    accept_weak: bool = False,
) -> None:
    """Make the topic unless it exists, and check that what it acks is kept. Several processes may do so at
    once.

    An ack of one broker that flushes when it likes does not survive a power cut, so a topic of one replica
    flushes every batch; with more replicas two must have a record before it is acked. With `accept_weak` a
    topic that exists is not looked at.

    Raises:
        Transient: Kafka is away, or didn't answer within `timeout_s` seconds.
        ConfigError: Kafka refuses the topic, for example more replicas than it has brokers; or the topic
            is weak, and what is to be set.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await _ensure(bootstrap, topic, partitions, replicas, timeout_s, accept_weak)
    except DRIVER_ERRORS as error:
        raise translated(error) from error


def weaknesses(replicas: int, config: Mapping[str, str | None]) -> Sequence[str]:
    """Why a topic can't be trusted with records, and what to set; empty if it can.

    `config` has the values in force: the topic's own, else the broker's (`log.flush.interval.messages` is
    a broker's `flush.messages`). A value that the broker doesn't tell counts as its default.
    """
    found = []
    if config.get("flush.messages") != "1":
        if replicas == 1:
            found.append("one replica acks what is only in memory: set flush.messages=1")
        elif _number(config, "min.insync.replicas", 1) < 2:
            found.append(f"one of {replicas} replicas alone may ack: set min.insync.replicas=2")
    if config.get("unclean.leader.election.enable") == "true":
        found.append("a replica without the acked records may lead: set unclean.leader.election.enable=false")
    if "compact" in (config.get("cleanup.policy") or ""):
        found.append("records of one key replace one another: set cleanup.policy=delete")
    if _number(config, "max.message.bytes", MESSAGE_BYTES_MIN) < MESSAGE_BYTES_MIN:
        found.append(f"a record may be larger than it takes: set max.message.bytes to {MESSAGE_BYTES_MIN}")
    return found


def _number(config: Mapping[str, str | None], name: str, default: int) -> int:
    return int(config.get(name) or default)


async def _ensure(
    bootstrap: str, topic: str, partitions: int, replicas: int, timeout_s: float, accept_weak: bool
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=round(timeout_s * 300) + 1)
    try:
        await admin.start()
        if topic not in await admin.list_topics():
            wanted = NewTopic(topic, partitions, replicas, topic_configs=_config(replicas))
            _check(await admin.create_topics([wanted]))
            await _known(admin, topic)
        elif not accept_weak:
            _refuse_weak(topic, weaknesses(await _replicas(admin, topic), await _in_force(admin, topic)))
    finally:
        await admin.close()


async def _known(admin: Any, topic: str) -> None:
    """Wait until a node tells of a topic that was just made: it learns of it a moment later."""
    while topic not in await admin.list_topics():  # noqa: ASYNC110 - a node has no event to wait for
        await asyncio.sleep(_MADE_PAUSE_S)


def _config(replicas: int) -> dict[str, str]:
    return {"flush.messages": "1"} if replicas == 1 else {"min.insync.replicas": "2"}


def _check(response: object) -> None:
    for _, code, *detail in getattr(response, "topic_errors", ()):
        kind = for_code(code)
        if kind not in (NoError, TopicAlreadyExistsError):
            raise kind(*detail)


def _refuse_weak(topic: str, found: Sequence[str]) -> None:
    if found:
        lines = [f"Kafka's topic {topic} is not fit: {one}" for one in found]
        raise ConfigError("\n".join([*lines, "REJSE_KAFKA_ACCEPT_WEAK_TOPIC=true takes it as it is"]))


async def _replicas(admin: Any, topic: str) -> int:
    """How many replicas the partition has that has the fewest."""
    (found,) = await admin.describe_topics([topic])
    _raise_for(found["error_code"])
    return min(len(partition["replicas"]) for partition in found["partitions"])


async def _in_force(admin: Any, topic: str) -> dict[str, str | None]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    ((code, _, _, _, entries),) = answer.resources
    _raise_for(code)
    return {name: value for name, value, *_ in entries}


def _raise_for(code: int) -> None:
    kind = for_code(code)
    if kind is not NoError:
        raise kind()
