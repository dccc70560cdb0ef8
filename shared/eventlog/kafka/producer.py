"""One life of aiokafka's idempotent producer, from its start to its certain end.

aiokafka can neither raise its producer's epoch nor end it while the broker is away: a batch that failed has
used up its sequence numbers and wedges its partition, and `stop` waits for ever for what was never acked.
So a producer is thrown away at the first failure, and `abandon` ends it by its parts. A batch that was
refused for its size alone is no such failure: its numbers are taken back, as Kafka's own producer does, and
the next batch gets them. This is the one module that touches these parts.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from shared.clock import Clock
from shared.eventlog.kafka.connections import close_connections
from shared.eventlog.kafka.errors import is_refusal
from shared.eventlog.kafka.lanes import Lanes

_REQUEST_TIMEOUT_MS = 5_000
_START_TIMEOUT_S = 15.0
_CUT_STEPS = 300
_CUT_STEP_S = 0.05
"""Connections that are being made when all others are cut end by their own timeout."""


class KafkaProducer:
    """A started producer for one topic: takes batches, and knows how long it has been silent."""

    def __init__(self, client: Any, topic: str, partitions: int, clock: Clock) -> None:
        self._client = client
        self._topic = topic
        self._clock = clock
        self._unacked = 0
        self._waiting_since_s = 0.0
        self.lanes = Lanes(partitions)
        self.wedged = False
        """Whether a refused batch has taken its partition's sequence numbers with it: then this is spent."""

    @classmethod
    async def start(cls, bootstrap: str, topic: str, clock: Clock) -> KafkaProducer:
        """Connect and get a producer id.

        Raises:
            KafkaError, OSError: Kafka is away, or has no such topic.
        """
        client = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            client_id="rejse",
            acks="all",
            enable_idempotence=True,
            linger_ms=0,
            request_timeout_ms=_REQUEST_TIMEOUT_MS,
            retry_backoff_ms=50,
        )
        started = None
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await client.start()
                started = cls(client, topic, len(await client.partitions_for(topic)), clock)
        finally:
            if started is None:
                await _end(client)
        return started

    def new_batch(self, bytes_max: int) -> Any:
        """An empty batch, of aiokafka's kind."""
        self._client._message_accumulator._batch_size = bytes_max
        return self._client.create_batch()

    async def send(self, batch: Any, partition: int) -> asyncio.Future[Any]:
        """Queue a batch; the future of its ack. Its partition must have no other one on its way.

        Raises:
            KafkaError: the producer has been abandoned, or the topic is gone.
        """
        batch.close()
        ack: asyncio.Future[Any] = await self._client.send_batch(batch, self._topic, partition=partition)
        if not self._unacked:
            self._waiting_since_s = self._clock.monotonic_s()
        self._unacked += 1
        queued = self._client._message_accumulator._batches[TopicPartition(self._topic, partition)][-1]
        ack.add_done_callback(partial(self._acked, queued))
        return ack

    def silent_s(self) -> float:
        """For how many seconds batches have waited without one ack; 0 while nothing waits."""
        return self._clock.monotonic_s() - self._waiting_since_s if self._unacked else 0.0

    async def abandon(self, grace_s: float) -> None:
        """End it. What is in flight has `grace_s` seconds to be acked; then its connections are cut, and
        what was not acked fails. Cancelled, it ends at once."""
        await _end(self._client, grace_s)

    def _acked(self, batch: Any, ack: asyncio.Future[Any]) -> None:
        self._waiting_since_s = self._clock.monotonic_s()
        self._unacked -= 1
        failure = ack.exception()
        if failure is not None and is_refusal(failure):
            self._take_back(batch)

    def _take_back(self, batch: Any) -> None:
        """Give the sequence numbers of a refused batch to the next one of its partition.

        Never those of a batch that was sent more than once: the first time it may have been kept, and its
        numbers under other records would make the broker drop these as known.
        """
        if batch.retry_count == 1:
            self._client._txn_manager.increment_sequence_number(batch.tp, -batch.record_count)
        else:
            self.wedged = True


async def _end(client: Any, grace_s: float = 0.0) -> None:
    sender = client._sender.sender_task
    try:
        if sender is not None:
            await _end_sender(client.client, sender, grace_s)
    finally:
        _fail_queued(client._message_accumulator)
        client._closed = True
        await close_connections(client.client)


async def _end_sender(connections: Any, sender: asyncio.Task[None], grace_s: float) -> None:
    """Cancelled, the sender still awaits its requests in flight; these end when their connections do."""
    try:
        sender.cancel()
        await asyncio.wait([sender], timeout=grace_s)
        if not sender.done():
            await close_connections(connections)
        for _ in range(_CUT_STEPS):
            if sender.done():
                return
            # A request that fails now waits for new metadata, which nobody fetches any more.
            _release(connections)
            await asyncio.wait([sender], timeout=_CUT_STEP_S)
    finally:
        # The second time it doesn't await them any more.
        if not sender.done():
            sender.cancel()
            await asyncio.wait([sender], timeout=_CUT_STEP_S)


def _release(connections: Any) -> None:
    update = connections._md_update_fut
    if update is not None and not update.done():
        update.set_result(False)


def _fail_queued(accumulator: Any) -> None:
    queued = [batch for batches in accumulator._batches.values() for batch in batches]
    # A batch that was sent before and queued again is taken out of the pending ones when it ends.
    accumulator._pending_batches.update(batch for batch in queued if batch.retry_count)
    accumulator.fail_all(KafkaError("the producer was abandoned"))
    for batch in queued:
        if batch._drain_waiter.done() and not batch._drain_waiter.cancelled():
            batch._drain_waiter.exception()
