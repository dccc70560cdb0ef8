"""The consumer that is in the group now: started, watched, and replaced when it falls silent.

aiokafka swallows what a rebalance listener raises and deadlocks on what it awaits, so the listener only
notes the new assignment. A consumer that was replaced may still say something, which nobody listens to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener

from shared.clock import Clock
from shared.errors import RejseError
from shared.eventlog.background import Background
from shared.eventlog.kafka.consumer import (
    cluster_id,
    end_consumer,
    last_fetch_ms,
    new_consumer,
    on_heartbeat,
)
from shared.eventlog.kafka.errors import DRIVER_ERRORS, translated
from shared.eventlog.kafka.vigil import Question, Vigil
from shared.logs import fields

_PROBE_TIMEOUT_S = 3.0
_REPLACE_END_S = 2.0
"""How long a silent consumer may take to leave its group."""
_START_TIMEOUT_S = 20.0
_RESTART_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


class Member:
    """A member of a consumer group. Both calls tell what is assigned to it: `revoked`, nothing any more."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        group_id: str,
        *,
        revoked: Callable[[], None],
        assigned: Callable[[frozenset[int]], None],
        background: Background,
        clock: Clock,
        silent_s: float,
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._group_id = group_id
        self._tell_revoked = revoked
        self._tell_assigned = assigned
        self._background = background
        self._clock = clock
        self._settled = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._vigil = Vigil(self._probe, background, clock, silent_s)
        self._fetched_ms: int | None = None
        self.consumer = new_consumer(bootstrap, group_id)
        self.replacements = 0
        """How many consumers have been thrown away."""

    async def start(self, timeout_s: float) -> None:
        """Start the consumer and wait for its first assignment.

        Raises:
            Transient: Kafka is away, has no such topic, or didn't let us in within `timeout_s` seconds.
            ConfigError: Kafka refuses us.
        """
        consumer = self.consumer
        consumer.subscribe([self._topic], listener=_Listener(self, consumer))
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.start()
                await self._settled.wait()
        except DRIVER_ERRORS as error:
            raise translated(error) from error
        on_heartbeat(consumer, self._vigil.group_heard)

    async def settle(self, timeout_s: float) -> bool:
        """Wait for a rebalance or a replacement that is under way; whether there is a consumer to read by."""
        if self._renewal is not None:
            await asyncio.wait([self._renewal], timeout=timeout_s)
        elif not self._settled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._settled.wait()
        return self._renewal is None

    def watch(self, started: Collection[int], fetched: bool) -> None:
        """Note the signs of life that a poll has seen, and replace a consumer that shows none."""
        if self._renewal is not None:
            return
        places = [TopicPartition(self._topic, partition) for partition in started]
        fetched_ms = last_fetch_ms(self.consumer, places)
        if fetched or not started or fetched_ms != self._fetched_ms:
            self._vigil.fetch_heard()
        self._fetched_ms = fetched_ms
        self._replace_if_silent()

    def asked(self, question: Question, answered: bool) -> None:
        """Note whether a question was answered, and replace a consumer that answers it no more."""
        if self._renewal is None:
            self._vigil.asked(question, answered)
            self._replace_if_silent()

    def revoked(self) -> None:
        """The group is being rebalanced, or has lost us."""
        self._settled.clear()
        self._tell_revoked()

    def assigned(self, partitions: frozenset[int]) -> None:
        """The group has given us these."""
        self._tell_assigned(partitions)
        self._settled.set()
        self._vigil.group_heard()

    async def close(self, timeout_s: float) -> None:
        """Leave the group; what runs in the background has been ended before."""
        await end_consumer(self.consumer, timeout_s)

    def _replace_if_silent(self) -> None:
        if self._vigil.is_silent():
            self.replacements += 1
            _log.warning("kafka_consumer_replaced", extra=fields(replacements=self.replacements))
            self.revoked()
            self._renewal = self._background.spawn(self._renew(), "kafka-consumer-renewal")

    async def _probe(self) -> None:
        await cluster_id(self._bootstrap, _PROBE_TIMEOUT_S)

    async def _renew(self) -> None:
        """End the consumer, and start others until one is in the group."""
        try:
            await end_consumer(self.consumer, _REPLACE_END_S)
            while not await self._started_anew():
                await self._clock.sleep(_RESTART_PAUSE_S)
        finally:
            self._vigil.begin()
            self._renewal = None

    async def _started_anew(self) -> bool:
        self.consumer = new_consumer(self._bootstrap, self._group_id)
        try:
            await self.start(_START_TIMEOUT_S)
        except RejseError as error:
            _log.warning("kafka_consumer_not_started", extra=fields(error=str(error)))
            await end_consumer(self.consumer, _REPLACE_END_S)
            return False
        return True


@ConsumerRebalanceListener.register
class _Listener:
    def __init__(self, member: Member, consumer: Any) -> None:
        self._member = member
        self._consumer = consumer

    def on_partitions_revoked(self, _: Iterable[Any]) -> None:
        if self._member.consumer is self._consumer:
            self._member.revoked()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        if self._member.consumer is self._consumer:
            self._member.assigned(frozenset(place.partition for place in assigned))
