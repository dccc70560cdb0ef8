"""The stager's loop: poll, decode, commit, and what it does when something is in the way.

- The store or the log is away (Transient): wait with jitter, ask the store where the partitions stand, go on
  from there. Such errors never cost a record.
- Another transaction was first (Contended): the same batch again, at once.
- The partition is lost or the commit's outcome was unknown (FencedOut): ask the store, drop or reposition.
- The store refuses what a record says (Permanent): halve the batch until the record is alone, and set it
  aside. Too many of those and the process ends: then it is a fault of ours, not of the records.

While it is behind, two batches are under way at once, of different partitions: one computes while the store
works for the other. Else one ends before the next is read, so that a batch is as fresh as it can be. Whatever
isn't a batch (a rebalance, an error, the end) waits until none is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.stager.batch import Batch, dead_batch, read_batch
from services.stager.partitions import Partitions
from services.stager.store import BatchStore, Done
from shared.clock import Clock
from shared.errors import Contended, FencedOut, LogReplaced, Permanent, RejseError, Transient
from shared.eventlog.port import EventReader, Record
from shared.logs import fields
from shared.metrics import Metrics
from shared.touchpoint import IDENTITY_KINDS

log = logging.getLogger("rejse.stager")

POLL_TIMEOUT_S = 0.25
CONTENDED_TRIES_MAX = 20
DEAD_WINDOW_RECORDS = 1_000
DEAD_SHARE_MAX = 0.01
REPORT_EVERY_S = 2.0
ABANDON_S = 0.5
BACKOFF_S = (0.05, 0.1, 0.2, 0.4)
LANES = 2
BUSY_POLL_TIMEOUT_S = 0.005
"""While batches are under way: when one lands, its partitions can be read again."""


class TooManyDeadLetters(RejseError):
    """More than one record in a hundred can't be processed: the fault is ours."""


class DeadShare:
    """The share of dead letters among the latest records."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, int]] = deque()
        self._records = 0
        self._dead = 0

    def add(self, records: int, dead: int) -> None:
        """Note a committed batch.

        Raises:
            TooManyDeadLetters: the share among the latest thousand records or more is too high.
        """
        self._batches.append((records, dead))
        self._records += records
        self._dead += dead
        while self._records - self._batches[0][0] >= DEAD_WINDOW_RECORDS:
            old_records, old_dead = self._batches.popleft()
            self._records -= old_records
            self._dead -= old_dead
        if self._dead > max(DEAD_WINDOW_RECORDS, self._records) * DEAD_SHARE_MAX:
            raise TooManyDeadLetters(f"{self._dead} of the latest {self._records} records are dead letters")


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch under way: its lane, which no other batch has meanwhile, and its partitions."""

    lane: int
    partitions: frozenset[int]


class Loop:
    """Stages what the reader is assigned until it is told to stop."""

    def __init__(
        self,
        reader: EventReader,
        store: BatchStore,
        partitions: Partitions,
        metrics: Metrics,
        clock: Clock,
        records_max: int,
    ) -> None:
        self._reader = reader
        self._store = store
        self._partitions = partitions
        self._metrics = metrics
        self._clock = clock
        self._records_max = records_max
        self._dead_share = DeadShare()
        self._failures = 0
        self._next_report_s = 0.0
        self._under_way: dict[asyncio.Task[None], _Flight] = {}
        self.last_turn_s = clock.monotonic_s()
        self.last_progress_s = self.last_turn_s
        """When a batch was committed last, or there was none to commit."""
        self.failing: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until `stop` is set; a batch that has begun is ended first.

        Raises:
            TooManyDeadLetters: see there.
        """
        try:
            while not stop.is_set():
                self.last_turn_s = self._clock.monotonic_s()
                try:
                    await self._turn()
                    self._failures, self.failing = 0, None
                except (Transient, FencedOut, LogReplaced) as error:
                    await self._recover(error)
            with contextlib.suppress(Transient, FencedOut):
                await self._land()
        finally:
            await self._abandon()

    async def _turn(self) -> None:
        if self.failing is not None:
            # The reader has gone past what was not committed: nothing may be read before it is back there.
            await self._partitions.resync()
        if self._partitions.must_follow():
            await self._land()
            await self._partitions.follow()
        records = await self._read_on()
        ours = [record for record in records if self._is_next_or_later(record)]
        if ours:
            batch = read_batch(ours)
            await self._land(LANES - 1)
            self._launch(batch)
        if len(records) < self._records_max // 2:
            await self._land()
        if self._clock.monotonic_s() >= self._next_report_s:
            self._next_report_s = self._clock.monotonic_s() + REPORT_EVERY_S
            await self._report()

    async def _read_on(self) -> Sequence[Record]:
        """Records of partitions that no batch is under way of."""
        busy = {partition for flight in self._under_way.values() for partition in flight.partitions}
        if busy and busy >= self._partitions.held.keys():
            return ()
        timeout_s = BUSY_POLL_TIMEOUT_S if busy else POLL_TIMEOUT_S
        return await self._reader.poll(self._records_max, timeout_s, busy)

    def _launch(self, batch: Batch) -> None:
        lane = min(set(range(LANES)) - {flight.lane for flight in self._under_way.values()})
        task = asyncio.get_running_loop().create_task(self._process(batch, lane), name=f"batch-{lane}")
        self._under_way[task] = _Flight(lane, frozenset(step.partition for step in batch.advances))

    async def _land(self, left: int = 0) -> None:
        """Wait until no more than so many batches are under way, and raise what one of them raised."""
        while len(self._under_way) > left:
            landed, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            if error := self._note_landed(landed):
                raise error

    async def _abandon(self) -> None:
        """Cut off what is under way, and let the store hear of it before its connections are closed."""
        for task in self._under_way:
            task.cancel()
        if self._under_way:
            ended, late = await asyncio.wait(self._under_way, timeout=ABANDON_S)
            self._note_landed(task for task in ended if not task.cancelled())
            for task in late:
                task.add_done_callback(_heard)

    def _note_landed(self, landed: Iterable[asyncio.Task[None]]) -> BaseException | None:
        """Forget batches that have ended, and tell the worst error of theirs: one that can't be recovered
        from, if there is any."""
        errors = []
        for task in landed:
            del self._under_way[task]
            if (error := task.exception()) is not None:
                errors.append(error)
        return min(errors, key=lambda error: isinstance(error, (Transient, FencedOut)), default=None)

    def _is_next_or_later(self, record: Record) -> bool:
        held = self._partitions.held.get(record.partition)
        return held is not None and record.offset >= held.next_offset

    async def _process(self, batch: Batch, lane: int) -> None:
        begun_s = self._clock.monotonic_s()
        try:
            done = await self._commit(batch, lane)
        except Permanent as error:
            await self._halve(batch.records, lane, str(error))
            return
        self._account(batch, done, begun_s)

    async def _commit(self, batch: Batch, lane: int) -> Done:
        for _ in range(CONTENDED_TRIES_MAX):
            try:
                done = await self._store.commit(batch, self._partitions.held, self._clock.now(), lane)
            except Contended as error:
                self._count_batch("retried")
                log.info("batch_contended", extra=fields(reason=str(error)))
                await self._clock.sleep(random.uniform(0, 0.02))
                continue
            self._partitions.moved({step.partition: step.next_offset for step in batch.advances})
            return done
        raise Transient("the batch met other transactions too often")

    async def _halve(self, records: Sequence[Record], lane: int, reason: str) -> None:
        """Find the record that the store refuses, and set it aside."""
        self._count_batch("halved")
        if len(records) == 1:
            begun_s = self._clock.monotonic_s()
            batch = dead_batch(records[0], reason)
            self._account(batch, await self._commit(batch, lane), begun_s)
            return
        middle = len(records) // 2
        await self._process(read_batch(records[:middle]), lane)
        await self._process(read_batch(records[middle:]), lane)

    async def _recover(self, error: RejseError) -> None:
        if self._under_way:
            landed, _ = await asyncio.wait(self._under_way)
            worse = self._note_landed(landed)
            # What the store did to another batch is found again by reading on from the stored offsets.
            if worse is not None and not isinstance(worse, (Transient, FencedOut)):
                raise worse
        self._count_batch("fenced" if isinstance(error, FencedOut) else "retried")
        self.failing = f"{type(error).__name__}: {error}"
        if self._failures == 0:
            log.warning("batch_failed", extra=fields(error=self.failing))
        if not isinstance(error, FencedOut):
            pause_s = BACKOFF_S[min(self._failures, len(BACKOFF_S) - 1)]
            self._failures += 1
            await self._clock.sleep(pause_s * random.uniform(0.5, 1.5))
        if isinstance(error, LogReplaced):
            self._partitions.drop_all()

    def _account(self, batch: Batch, done: Done, begun_s: float) -> None:
        now = self._clock.now()
        self.last_progress_s = self._clock.monotonic_s()
        counter = self._metrics.counter
        self._count_batch("committed")
        counter("rejse_stager_records_read_total").inc(len(batch.records))
        for fate, number in (
            ("stored", done.stored),
            ("duplicate", done.duplicates),
            ("conflict", done.conflicts),
            ("erased", done.erased),
            ("dead_letter", done.dead),
        ):
            counter("rejse_stager_records_total").labels(fate).inc(number)
        counter("rejse_stager_unknown_types_total").inc(done.unknown_types)
        counter("rejse_stager_customers_merged_total").inc(done.merged)
        counter("rejse_stager_identities_handed_over_total").inc(done.handed_over)
        counter("rejse_stager_links_withheld_total").inc(done.withheld)
        for kind in done.refused:
            known = kind if kind in IDENTITY_KINDS else "external"
            counter("rejse_stager_links_refused_total").labels(known).inc()
        for change in done.changes:
            key = change.journey.definition.key
            if change.superseded:
                counter("rejse_stager_refolds_total").labels(key).inc()
            for transition in change.added:
                counter("rejse_stager_transitions_total").labels(key, transition.kind).inc()
        self._metrics.histogram("rejse_stager_batch_seconds").observe(self._clock.monotonic_s() - begun_s)
        self._metrics.gauge("rejse_stager_last_commit_timestamp_seconds").set(now.timestamp())
        self._observe_freshness(batch, now)
        for dead in batch.dead:
            place = {"partition": dead.record.partition, "offset": dead.record.offset}
            log.warning("dead_letter", extra=fields(reason=dead.reason, **place))
        self._dead_share.add(len(batch.records), len(batch.dead))

    def _observe_freshness(self, batch: Batch, now: datetime) -> None:
        if batch.incoming:
            oldest = min(one.touchpoint.received_at for one in batch.incoming)
            self._metrics.histogram("rejse_stager_freshness_seconds").observe(
                max(0.0, (now - oldest).total_seconds())
            )

    def _count_batch(self, outcome: str) -> None:
        self._metrics.counter("rejse_stager_batches_total").labels(outcome).inc()

    async def _report(self) -> None:
        """Show ops, and the tools that read a group's lag, how far we are."""
        held = self._partitions.held
        self._metrics.gauge("rejse_stager_partitions_owned").set(len(held))
        self._metrics.gauge("rejse_stager_partitions_halted").set(len(self._partitions.halted))
        lag = self._metrics.gauge("rejse_stager_lag_records")
        lag.clear()
        behind = 0
        for partition, end in (await self._reader.ends()).items():
            if partition in held:
                records = max(0, end - held[partition].next_offset)
                lag.labels(str(partition)).set(records)
                behind += records
        if not behind:
            self.last_progress_s = self._clock.monotonic_s()
        await self._reader.hint({partition: claimed.next_offset for partition, claimed in held.items()})


def _heard(task: asyncio.Task[None]) -> None:
    """Take note of how a batch ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
