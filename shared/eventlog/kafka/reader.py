"""Reading from Kafka as a member of a consumer group that only spreads the partitions.

Where a partition is read from is the caller's business, so new partitions are silent until they are
started, and what the group has committed is never looked at. aiokafka swallows what a rebalance listener
raises and deadlocks on what it awaits, so the listener only notes the new assignment. A consumer that falls
silent while the broker answers is replaced: to the caller that is a rebalance.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from shared.clock import Clock
from shared.errors import LogReplaced, RejseError, Transient
from shared.eventlog.background import Background
from shared.eventlog.kafka.consumer import (
    cluster_id,
    end_consumer,
    last_fetch_ms,
    new_consumer,
    on_heartbeat,
)
from shared.eventlog.kafka.errors import translated
from shared.eventlog.kafka.vigil import SILENT_S, Vigil
from shared.eventlog.port import Assignment, Bounds, Record
from shared.lifecycle import Deadline
from shared.logs import fields

_CALL_TIMEOUT_S = 5.0
_HINT_TIMEOUT_S = 1.0
_SLACK_S = 0.05
_PROBE_TIMEOUT_S = 3.0
_REPLACE_END_S = 2.0
"""How long a silent consumer may take to leave its group."""
_START_TIMEOUT_S = 20.0
_RESTART_PAUSE_S = 1.0
_BUSY_S = 1.0
"""A caller that didn't poll for so long has left fetched records waiting: no fetch was to be expected."""

_log = logging.getLogger(__name__)


class KafkaReader:
    """An `EventReader` on a topic. Made by `open`."""

    def __init__(
        self, bootstrap: str, topic: str, group_id: str, log_id: str, clock: Clock, silent_s: float
    ) -> None:
        self._bootstrap = bootstrap
        self._group_id = group_id
        self._consumer = new_consumer(bootstrap, group_id)
        self._topic = topic
        self._log_id = log_id
        self._clock = clock
        self._assignment = Assignment(0, frozenset())
        self._next: dict[int, int] = {}
        self._settled = asyncio.Event()
        self._background = Background()
        self._hint: asyncio.Task[None] | None = None
        self._renewal: asyncio.Task[None] | None = None
        self._vigil = Vigil(self._probe, self._background, clock, silent_s)
        self._fetched_ms: int | None = None
        self._polled_s = clock.monotonic_s()
        self._closed = False
        self.replacements = 0
        """How many consumers have been thrown away."""

    @classmethod
    async def open(
        cls,
        bootstrap: str,
        topic: str,
        group_id: str,
        clock: Clock,
        timeout_s: float,
        *,
        silent_s: float = SILENT_S,
    ) -> KafkaReader:
        """Join the group; returns with its first assignment made. A consumer that is silent for `silent_s`
        seconds while the broker answers is replaced.

        Raises:
            Transient: Kafka is away, has no such topic, or didn't let us in within `timeout_s` seconds.
            ConfigError: Kafka refuses us.
        """
        deadline = Deadline(timeout_s, clock)
        log_id = await cluster_id(bootstrap, deadline.remaining_s())
        reader = cls(bootstrap, topic, group_id, log_id, clock, silent_s)
        started = False
        try:
            await reader._start(deadline.remaining_s())
            started = True
        finally:
            if not started:
                await reader.close(1.0)
        return reader

    @property
    def log_id(self) -> str:
        return self._log_id

    def assignment(self) -> Assignment:
        return self._assignment

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, Bounds]:
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                begin = await self._consumer.beginning_offsets(places)
                end = await self._consumer.end_offsets(places)
        except (KafkaError, OSError) as error:
            raise translated(error) from error
        return {place.partition: Bounds(begin[place], end[place]) for place in places}

    async def ends(self) -> Mapping[int, int]:
        heard = {
            partition: self._consumer.highwater(TopicPartition(self._topic, partition))
            for partition in self._next
            if partition in self._assignment.partitions
        }
        return {partition: end for partition, end in heard.items() if end is not None}

    async def read_each(self, offsets: Mapping[int, int]) -> Mapping[int, Record]:
        if not offsets.keys() <= self._assignment.partitions:
            raise Transient("a partition has been taken away")
        bounds = await self.bounds(offsets.keys())
        within = {
            TopicPartition(self._topic, partition): offset
            for partition, offset in offsets.items()
            if bounds[partition].begin <= offset < bounds[partition].end
        }
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                found = await self._look(within)
        except OffsetOutOfRangeError:
            # What was within the bounds a moment ago has gone since.
            raise Transient("the log was cut meanwhile") from None
        except (KafkaError, OSError) as error:
            raise translated(error) from error
        finally:
            for place in within:
                self.stop(place.partition)
        return {record.partition: record for record in found if record.offset == offsets[record.partition]}

    def start(self, partition: int, offset: int) -> None:
        if partition not in self._assignment.partitions:
            return
        with contextlib.suppress(IllegalStateError):
            self._resume(TopicPartition(self._topic, partition), offset)
            self._next[partition] = offset

    def stop(self, partition: int) -> None:
        self._next.pop(partition, None)
        if partition in self._assignment.partitions:
            self._silence(TopicPartition(self._topic, partition))

    async def poll(
        self, records_max: int, timeout_s: float, besides: Collection[int] = ()
    ) -> Sequence[Record]:
        deadline = Deadline(timeout_s, self._clock)
        was_busy = self._clock.monotonic_s() - self._polled_s > _BUSY_S
        records: list[Record] = []
        try:
            while not records:
                if self._renewal is not None:
                    await asyncio.wait([self._renewal], timeout=deadline.remaining_s())
                else:
                    records = self._taken(await self._fetched(records_max, deadline, besides))
                if deadline.remaining_s() == 0:
                    break
        finally:
            self._polled_s = self._clock.monotonic_s()
            # Records of partitions that nobody wants now wait here, and are not fetched again meanwhile.
            self._watch(bool(records or besides) or was_busy)
        return records

    async def hint(self, next_offsets: Mapping[int, int]) -> None:
        if self._hint is not None and not self._hint.done():
            return
        offsets = {
            TopicPartition(self._topic, partition): offset
            for partition, offset in next_offsets.items()
            if partition in self._assignment.partitions
        }
        if offsets:
            # A commit that is cut off leaves aiokafka's own task behind, so it may run on beyond the wait.
            self._hint = self._background.spawn(self._commit(offsets), "kafka-hint")
            await asyncio.wait([self._hint], timeout=_HINT_TIMEOUT_S)

    async def close(self, timeout_s: float) -> None:
        if self._closed:
            return
        self._closed = True
        deadline = Deadline(timeout_s, self._clock)
        await self._background.close(min(_HINT_TIMEOUT_S, deadline.remaining_s() / 2))
        await end_consumer(self._consumer, deadline.remaining_s())

    def revoked(self) -> None:
        """Note that the group is being rebalanced: nothing is ours until `assigned`."""
        self._settled.clear()
        if self._assignment.partitions:
            self._note(frozenset())

    def assigned(self, partitions: frozenset[int]) -> None:
        """Note what is ours now, and keep it silent."""
        for partition in partitions:
            self._silence(TopicPartition(self._topic, partition))
        self._note(partitions)
        self._settled.set()
        self._vigil.group_heard()

    def listens_to(self, consumer: Any) -> bool:
        """Whether a consumer is the one that reads now: one that was replaced may still say something."""
        return consumer is self._consumer

    def _note(self, partitions: frozenset[int]) -> None:
        self._next.clear()
        self._assignment = Assignment(self._assignment.generation + 1, partitions)
        _log.info("kafka_assignment", extra=fields(partitions=sorted(partitions)))

    def _silence(self, place: Any) -> None:
        with contextlib.suppress(IllegalStateError):
            # A position of any kind keeps aiokafka from asking the group for a committed one.
            self._consumer.seek(place, 0)
            self._consumer.pause(place)

    def _resume(self, place: Any, offset: int) -> None:
        self._consumer.seek(place, offset)
        self._consumer.resume(place)

    async def _rebalanced(self, deadline: Deadline) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline.remaining_s()):
                await self._settled.wait()

    async def _fetched(
        self, records_max: int, deadline: Deadline, besides: Collection[int]
    ) -> Mapping[Any, Sequence[Any]]:
        """Records of the started partitions but these."""
        if not self._settled.is_set():
            await self._rebalanced(deadline)
        wanted = self._next.keys() - set(besides)
        remaining_s = deadline.remaining_s()
        places = [TopicPartition(self._topic, partition) for partition in wanted] if besides else []
        if besides and not places:
            # Without a place aiokafka would answer with those of all.
            await self._clock.sleep(remaining_s)
            return {}
        try:
            async with asyncio.timeout(remaining_s + _SLACK_S):
                fetched: Mapping[Any, Sequence[Any]] = await self._consumer.getmany(
                    *places, timeout_ms=round(remaining_s * 1000), max_records=records_max
                )
        except (TimeoutError, NoOffsetForPartitionError):
            # A rebalance that began meanwhile; a partition that was looked at before it was silenced.
            self._rewind()
            return {}
        except OffsetOutOfRangeError as error:
            self._rewind()
            self._check_outside(error)
            return {}
        except (KafkaError, OSError) as error:
            self._rewind()
            raise translated(error) from error
        return fetched

    def _taken(self, fetched: Mapping[Any, Sequence[Any]]) -> list[Record]:
        records: list[Record] = []
        for place, found in fetched.items():
            if found and place.partition in self._next:
                records += [_record(record) for record in found]
                self._next[place.partition] = found[-1].offset + 1
        return records

    def _rewind(self) -> None:
        """Go back to where the caller is: an error makes aiokafka forget records that it had taken, and also
        that nobody is fetching any more, which would keep a stuck reader in the group for ever."""
        self._consumer._subscription._fetch_count = 0
        for partition, offset in self._next.items():
            with contextlib.suppress(IllegalStateError):
                self._consumer.seek(TopicPartition(self._topic, partition), offset)

    def _check_outside(self, error: Any) -> None:
        for place, offset in error.args[0].items():
            if self._next.get(place.partition) == offset:
                self.stop(place.partition)
                raise LogReplaced(
                    f"offset {offset} of partition {place.partition} lies outside the log", place.partition
                )

    async def _look(self, within: Mapping[Any, int]) -> Sequence[Record]:
        """The first record at or after each place's offset."""
        for place, offset in within.items():
            self._resume(place, offset)
        found: list[Record] = []
        waiting = set(within)
        while waiting:
            fetched = await self._consumer.getmany(
                *waiting, timeout_ms=round(_CALL_TIMEOUT_S * 1000), max_records=1
            )
            for place, records in fetched.items():
                if records:
                    found.append(_record(records[0]))
                    waiting.discard(place)
                    self.stop(place.partition)
        return found

    async def _commit(self, offsets: Mapping[Any, int]) -> None:
        try:
            await self._consumer.commit(offsets)
        except KafkaError as error:
            _log.info("kafka_hint_lost", extra=fields(error=type(error).__name__))

    async def _start(self, timeout_s: float) -> None:
        """Start the consumer and wait for its first assignment."""
        consumer = self._consumer
        consumer.subscribe([self._topic], listener=_Listener(self, consumer))
        try:
            async with asyncio.timeout(timeout_s):
                await consumer.start()
                await self._settled.wait()
        except (KafkaError, OSError) as error:
            raise translated(error) from error
        on_heartbeat(consumer, self._vigil.group_heard)

    async def _probe(self) -> None:
        await cluster_id(self._bootstrap, _PROBE_TIMEOUT_S)

    def _watch(self, fetched: bool) -> None:
        """Note the signs of life that a poll has seen, and replace a consumer that shows none."""
        if self._renewal is not None or self._closed:
            return
        started = [TopicPartition(self._topic, partition) for partition in self._next]
        fetched_ms = last_fetch_ms(self._consumer, started)
        if fetched or not started or fetched_ms != self._fetched_ms:
            self._vigil.fetch_heard()
        self._fetched_ms = fetched_ms
        if self._vigil.is_silent():
            self.replacements += 1
            _log.warning("kafka_consumer_replaced", extra=fields(replacements=self.replacements))
            self.revoked()
            self._renewal = self._background.spawn(self._renew(), "kafka-consumer-renewal")

    async def _renew(self) -> None:
        """End the consumer, and start others until one is in the group."""
        try:
            await end_consumer(self._consumer, _REPLACE_END_S)
            while not await self._started_anew():
                await self._clock.sleep(_RESTART_PAUSE_S)
        finally:
            self._vigil.begin()
            self._renewal = None

    async def _started_anew(self) -> bool:
        self._consumer = new_consumer(self._bootstrap, self._group_id)
        try:
            await self._start(_START_TIMEOUT_S)
        except RejseError as error:
            _log.warning("kafka_consumer_not_started", extra=fields(error=str(error)))
            await end_consumer(self._consumer, _REPLACE_END_S)
            return False
        return True


@ConsumerRebalanceListener.register
class _Listener:
    def __init__(self, reader: KafkaReader, consumer: Any) -> None:
        self._reader = reader
        self._consumer = consumer

    def on_partitions_revoked(self, _: Iterable[Any]) -> None:
        if self._reader.listens_to(self._consumer):
            self._reader.revoked()

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        if self._reader.listens_to(self._consumer):
            self._reader.assigned(frozenset(place.partition for place in assigned))


def _record(found: Any) -> Record:
    return Record(found.partition, found.offset, found.value or b"")
