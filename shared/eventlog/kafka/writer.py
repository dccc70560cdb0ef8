"""Appending to Kafka: a deadline on every wait, and a new producer after any failure.

Whatever fails a request or a batch, the producer is replaced, and what it left unanswered is sent again
with the next one, as long as the deadline allows. So is one that is silent when a deadline passes. A batch
that the broker finds too large fails nothing: it is sent again in smaller ones, down to single records, so
that only the record to blame is refused.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from aiokafka.errors import KafkaError, NoError, UnknownError

from shared.clock import Clock
from shared.errors import ConfigError, RejseError
from shared.eventlog.background import Background
from shared.eventlog.kafka.errors import DRIVER_ERRORS, is_refusal, translated
from shared.eventlog.kafka.lanes import Call, Departure
from shared.eventlog.kafka.producer import KafkaProducer
from shared.eventlog.kafka.sizes import BatchSize
from shared.eventlog.kafka.topic import ensure_topic
from shared.eventlog.port import NewRecord, Outcome
from shared.lifecycle import Deadline
from shared.logs import fields

_TOPIC_TIMEOUT_S = 10.0
_SILENCE_S = 0.5
"""A producer that acked nothing for so long when a deadline passes is replaced."""
_BACKOFF_S = 0.05
_BACKOFF_S_MAX = 0.5
_IN_FLIGHT_GRACE_S = 1.0
"""How long an old producer may take to hear about what it has sent."""

_log = logging.getLogger(__name__)


class KafkaWriter:
    """An `EventWriter` on a topic, which it makes if it is missing. Opening it needs no broker.

    Nothing is appended to a topic that `ensure_topic` refuses, until it is mended or `accept_weak_topic`.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        replicas: int,
        clock: Clock,
        *,
        accept_weak_topic: bool = False,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._partitions = partitions
        self._replicas = replicas
        self._clock = clock
        self._accept_weak_topic = accept_weak_topic
        self._wrong: str | None = None
        self._size = BatchSize()
        self._producer: KafkaProducer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._backoff_s = 0.0
        self._topic_is_there = False
        self._background = Background()
        self._last_kept_s: float | None = None
        self._closed = False
        self.replacements = 0
        """How many producers have been thrown away."""

    async def append(self, records: Sequence[NewRecord], timeout_s: float) -> Sequence[Outcome]:
        call = Call(records)
        try:
            async with asyncio.timeout(timeout_s):
                await self._append(call)
        except TimeoutError:
            if self._producer is not None and self._producer.silent_s() >= _SILENCE_S:
                self._replace(self._producer, "silent")
        finally:
            call.over = True
        # A copy: an answer that comes too late must not change what the caller was told.
        return tuple(call.outcomes)

    async def partitions(self, timeout_s: float) -> int | None:
        try:
            async with asyncio.timeout(timeout_s):
                producer = await self._started()
        except TimeoutError:
            return None
        return None if producer is None else len(producer.lanes)

    def last_kept_age_s(self) -> float | None:
        return None if self._last_kept_s is None else self._clock.monotonic_s() - self._last_kept_s

    def wrong(self) -> str | None:
        return self._wrong

    async def close(self, timeout_s: float) -> None:
        deadline = Deadline(timeout_s, self._clock)
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
        producer, self._producer = self._producer, None
        if producer is not None:
            self._background.spawn(producer.abandon(timeout_s / 2), "kafka-producer-end")
        await self._background.close(deadline.remaining_s())

    async def _append(self, call: Call) -> None:
        while call.left and (producer := await self._started()) is not None:
            producer.lanes.enter(call)
            self._depart(producer)
            # What is on its way with an old producer may yet be kept; then it isn't sent twice.
            await asyncio.wait([call.settled, producer.over], return_when=asyncio.FIRST_COMPLETED)

    def _depart(self, producer: KafkaProducer) -> None:
        """Send what waits: a request a node, with a batch of each partition that has none on its way."""
        if producer is not self._producer:
            return
        timestamp_ms = int(self._clock.now().timestamp() * 1000)
        by_node: defaultdict[int, list[Departure]] = defaultdict(list)
        try:
            for departure in producer.lanes.depart(self._size.bytes_max, timestamp_ms):
                by_node[producer.leader_of(departure.partition)].append(departure)
        except KafkaError as error:
            self._failed(producer, type(error))
            return
        for node, departures in by_node.items():
            producer.deliver(self._deliver(producer, node, departures))

    async def _deliver(self, producer: KafkaProducer, node: int, departures: Sequence[Departure]) -> None:
        try:
            answers = await producer.send(node, departures)
        except KafkaError as error:
            self._failed(producer, type(error))
            return
        for departure in departures:
            answer = answers.get(departure.partition, UnknownError)
            if answer is NoError:
                self._kept(producer, departure)
            elif is_refusal(answer):
                self._refused(producer, departure)
            else:
                self._failed(producer, answer)
        self._depart(producer)

    def _kept(self, producer: KafkaProducer, departure: Departure) -> None:
        self._last_kept_s = self._clock.monotonic_s()
        self._backoff_s = 0.0
        self._size.kept()
        producer.lanes.kept(departure)
        departure.settle(Outcome.KEPT)

    def _refused(self, producer: KafkaProducer, departure: Departure) -> None:
        alone = departure.records == 1
        producer.lanes.refused(departure, again=not alone)
        if alone:
            departure.settle(Outcome.REFUSED)
        else:
            self._size.refused(len(departure.data))
            _log.warning("kafka_batch_refused", extra=fields(batch_bytes_max=self._size.bytes_max))

    def _failed(self, producer: KafkaProducer, error: type[Exception]) -> None:
        if producer is self._producer:
            self._backoff_s = min(self._backoff_s * 2 or _BACKOFF_S, _BACKOFF_S_MAX)
        self._replace(producer, error.__name__)

    async def _started(self) -> KafkaProducer | None:
        """The producer, when there is one again; None once this is closed."""
        while self._producer is None and not self._closed:
            # A start is not cut with the deadline of the call that began it: the next call goes on with it.
            if self._starting is None:
                self._starting = self._background.spawn(self._start(), "kafka-producer-start")
            starting = self._starting
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.result()
        return self._producer

    async def _start(self) -> None:
        try:
            await self._clock.sleep(self._backoff_s)
            if not self._topic_is_there:
                await self._ensure_topic()
            self._producer = await KafkaProducer.start(self._bootstrap, self._topic, self._clock)
        except (*DRIVER_ERRORS, RejseError) as error:
            if translated(error) is error and not isinstance(error, RejseError):
                raise
            _log.warning("kafka_producer_not_started", extra=fields(error=type(error).__name__))
            self._backoff_s = min(self._backoff_s * 2 or _BACKOFF_S, _BACKOFF_S_MAX)
        finally:
            self._starting = None

    async def _ensure_topic(self) -> None:
        try:
            await ensure_topic(
                self._bootstrap,
                self._topic,
                self._partitions,
                self._replicas,
                _TOPIC_TIMEOUT_S,
                accept_weak=self._accept_weak_topic,
            )
        except ConfigError as error:
            self._wrong = str(error)
            raise
        self._topic_is_there = True
        self._wrong = None

    def _replace(self, producer: KafkaProducer, reason: str) -> None:
        if self._producer is not producer:
            return
        self._producer = None
        self.replacements += 1
        _log.warning("kafka_producer_replaced", extra=fields(reason=reason))
        self._background.spawn(producer.abandon(_IN_FLIGHT_GRACE_S), "kafka-producer-end")
