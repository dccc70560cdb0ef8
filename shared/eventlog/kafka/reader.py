"""Reading from Kafka as a member of a consumer group that only spreads the partitions.

Where a partition is read from is the caller's business, so new partitions are silent until they are
started, and what the group has committed is never looked at. A consumer that falls silent while the broker
answers is replaced: to the caller that is a rebalance.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from shared.clock import Clock
from shared.errors import LogReplaced, Transient
from shared.eventlog.background import Background
from shared.eventlog.kafka.consumer import cluster_id
from shared.eventlog.kafka.errors import DRIVER_ERRORS, translated
from shared.eventlog.kafka.member import Member
from shared.eventlog.kafka.vigil import SILENT_S
from shared.eventlog.port import Assignment, Bounds, Record
from shared.lifecycle import Deadline
from shared.logs import fields

_CALL_TIMEOUT_S = 5.0
_HINT_TIMEOUT_S = 1.0
_SLACK_S = 0.05
_BUSY_S = 1.0
"""A caller that didn't poll for so long has left fetched records waiting: no fetch was to be expected."""

_log = logging.getLogger(__name__)


class KafkaReader:
    """An `EventReader` on a topic. Made by `open`."""

    def __init__(
        self, bootstrap: str, topic: str, group_id: str, log_id: str, clock: Clock, silent_s: float
    ) -> None:
        self._topic = topic
        self._log_id = log_id
        self._clock = clock
        self._assignment = Assignment(0, frozenset())
        self._next: dict[int, int] = {}
        self._background = Background()
        self._member = Member(
            bootstrap,
            topic,
            group_id,
            revoked=self._revoked,
            assigned=self._assigned,
            background=self._background,
            clock=clock,
            silent_s=silent_s,
        )
        self._hint: asyncio.Task[None] | None = None
        self._polled_s = clock.monotonic_s()
        self._closed = False

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
            await reader._member.start(deadline.remaining_s())
            started = True
        finally:
            if not started:
                await reader.close(1.0)
        return reader

    @property
    def log_id(self) -> str:
        return self._log_id

    @property
    def replacements(self) -> int:
        """How many consumers have been thrown away."""
        return self._member.replacements

    @property
    def _consumer(self) -> Any:
        return self._member.consumer

    def assignment(self) -> Assignment:
        return self._assignment

    async def bounds(self, partitions: Collection[int]) -> Mapping[int, Bounds]:
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        answered = False
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                begin = await self._consumer.beginning_offsets(places)
                end = await self._consumer.end_offsets(places)
            answered = True
        except DRIVER_ERRORS as error:
            raise translated(error) from error
        finally:
            self._member.asked("bounds", answered)
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
        answered = not within
        try:
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                found = await self._look(within)
            answered = True
        except OffsetOutOfRangeError:
            # What was within the bounds a moment ago has gone since.
            raise Transient("the log was cut meanwhile") from None
        except DRIVER_ERRORS as error:
            raise translated(error) from error
        finally:
            for place in within:
                self.stop(place.partition)
            self._member.asked("records", answered)
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
                if await self._member.settle(deadline.remaining_s()):
                    records = self._taken(await self._fetched(records_max, deadline, besides))
                if deadline.remaining_s() == 0:
                    break
        finally:
            self._polled_s = self._clock.monotonic_s()
            # Records of partitions that nobody wants now wait here, and are not fetched again meanwhile.
            if not self._closed:
                self._member.watch(self._next, bool(records or besides) or was_busy)
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
        await self._member.close(deadline.remaining_s())

    def _revoked(self) -> None:
        """The group is being rebalanced: nothing is ours until it has assigned something."""
        if self._assignment.partitions:
            self._note(frozenset())

    def _assigned(self, partitions: frozenset[int]) -> None:
        """Note what is ours now, and keep it silent."""
        for partition in partitions:
            self._silence(TopicPartition(self._topic, partition))
        self._note(partitions)

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

    async def _fetched(
        self, records_max: int, deadline: Deadline, besides: Collection[int]
    ) -> Mapping[Any, Sequence[Any]]:
        """Records of the started partitions but these."""
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
        except DRIVER_ERRORS as error:
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
        except DRIVER_ERRORS as error:
            if translated(error) is error:
                raise
            _log.info("kafka_hint_lost", extra=fields(error=type(error).__name__))


def _record(found: Any) -> Record:
    return Record(found.partition, found.offset, found.value or b"")
