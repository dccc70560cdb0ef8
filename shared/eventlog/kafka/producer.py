"""One life of an idempotent producer, from its start to its certain end: it sends each batch once.

aiokafka's own producer sends a failed batch again for as long as it takes, can't raise its epoch after one,
and can't be ended while the broker is away. This one uses aiokafka's connections and its encoding alone. It
reports a failure as soon as there is one, and its user goes on with a new one; what may be in the log twice
then has one id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.protocol.transaction import InitProducerIdRequest
from aiokafka.structs import TopicPartition

from shared.clock import Clock
from shared.eventlog.background import Background
from shared.eventlog.kafka.connections import close_connections
from shared.eventlog.kafka.errors import came_too_late
from shared.eventlog.kafka.lanes import Departure, Lanes, ProducerId

_REQUEST_TIMEOUT_MS = 5_000
_START_TIMEOUT_S = 15.0
_ALL_REPLICAS = -1


class KafkaProducer:
    """A started producer for one topic: sends batches, and knows how long it has been silent."""

    def __init__(self, client: Any, topic: str, lanes: Lanes, clock: Clock) -> None:
        self.lanes = lanes
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when this has ended: nothing of it is on its way any more."""
        self._client = client
        self._topic = topic
        self._clock = clock
        self._deliveries = Background()
        self._unanswered = 0
        self._waiting_since_s = 0.0

    @classmethod
    async def start(cls, bootstrap: str, topic: str, clock: Clock) -> KafkaProducer:
        """Connect and get a producer id.

        Raises:
            KafkaError, OSError: Kafka is away, or has no such topic.
        """
        client = AIOKafkaClient(
            bootstrap_servers=bootstrap, client_id="rejse", request_timeout_ms=_REQUEST_TIMEOUT_MS
        )
        lanes = None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await client.bootstrap()
                producer_id = await _producer_id(client)
                await client.set_topics([topic])
                partitions = client.cluster.partitions_for_topic(topic)
                if not partitions:
                    raise UnknownTopicOrPartitionError
                lanes = Lanes(len(partitions), producer_id)
        finally:
            if lanes is None:
                await close_connections(client)
        return cls(client, topic, lanes, clock)

    def leader_of(self, partition: int) -> int:
        """The node that takes a partition's batches.

        Raises:
            LeaderNotAvailableError: as far as is known, none does.
        """
        node = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if node is None or node < 0:
            raise LeaderNotAvailableError
        return int(node)

    def deliver(self, delivery: Coroutine[Any, Any, None]) -> None:
        """Begin what sends some batches and hears of them. It is cancelled if it outlives this."""
        self._deliveries.spawn(delivery, "kafka-delivery")

    async def send(self, node: int, batches: Sequence[Departure]) -> Mapping[int, type[Exception]]:
        """Send batches in one request; what the node says of each, by partition.

        Raises:
            KafkaError: nothing is known of any of them.
        """
        topics = [(self._topic, [(batch.partition, batch.data) for batch in batches])]
        request = ProduceRequest(None, _ALL_REPLICAS, _REQUEST_TIMEOUT_MS, topics)
        if not self._unanswered:
            self._waiting_since_s = self._clock.monotonic_s()
        self._unanswered += 1
        try:
            response = await self._client.send(node, request)
        except RuntimeError as error:
            if not came_too_late(error):
                raise
            raise KafkaConnectionError("the connection has just been closed") from error
        finally:
            self._waiting_since_s = self._clock.monotonic_s()
            self._unanswered -= 1
        return {
            partition: for_code(code)
            for _, partitions in response.topics
            for partition, code, *_ in partitions
        }

    def silent_s(self) -> float:
        """For how many seconds requests have waited without one answer; 0 while nothing waits."""
        return self._clock.monotonic_s() - self._waiting_since_s if self._unanswered else 0.0

    async def abandon(self, grace_s: float) -> None:
        """End it. What is in flight has `grace_s` seconds to be answered. Cancelled, it ends at once."""
        try:
            await self._deliveries.close(grace_s)
        finally:
            self.over.set_result(None)
            await close_connections(self._client)


async def _producer_id(client: Any) -> ProducerId:
    node = client.get_random_node()
    if node is None:
        raise KafkaError("the cluster names no node")
    answer = await client.send(node, InitProducerIdRequest(None, _REQUEST_TIMEOUT_MS))
    error = for_code(answer.error_code)
    if answer.error_code:
        raise error()
    return ProducerId(answer.producer_id, answer.producer_epoch)
