"""Which partitions this process stages: it follows the group's assignment, and claims each in the store.

The group only spreads the partitions. What makes a claim safe is the epoch in the store; a partition whose
log is not the one that the store knows is halted with an alarm instead of skipping records in silence, until
a person has lifted the halt in the store.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping, Sequence

from services.stager.store import BatchStore, Claimed
from shared.clock import Clock
from shared.eventlog.port import Assignment, Bounds, EventReader, Record
from shared.logs import fields
from shared.store.halts import Halts

log = logging.getLogger("rejse.stager")

RECLAIM_AFTER_S = 5.0
"""How long a partition that was lost to another owner is left alone while the group still gives it to us."""
LOOK_EVERY_S = 1.0
"""How often the store is asked whether a halt was lifted."""


class Partitions:
    """The claimed partitions, and where each stands."""

    def __init__(self, reader: EventReader, store: BatchStore, halts: Halts, clock: Clock) -> None:
        self._reader = reader
        self._store = store
        self._halts = halts
        self._clock = clock
        self._generation = -1
        self._held: dict[int, Claimed] = {}
        self._lost_at_s: dict[int, float] = {}
        self._halted: dict[int, str] = {}
        self._next_look_s = 0.0

    @property
    def held(self) -> Mapping[int, Claimed]:
        """The partitions that are ours, with the epoch we write under and the next offset."""
        return self._held

    @property
    def halted(self) -> Mapping[int, str]:
        """The partitions that are assigned to us but can't be staged, and why."""
        return self._halted

    def must_follow(self) -> bool:
        """Whether `follow` has something to do."""
        assignment = self._reader.assignment()
        moved = assignment.generation != self._generation
        return moved or bool(self._claimable(assignment)) or self._is_time_to_look()

    async def follow(self) -> None:
        """Drop what is assigned to us no longer, and claim what is and we don't hold.

        Raises:
            Transient: the store or the log is away.
        """
        assignment = self._reader.assignment()
        if assignment.generation != self._generation:
            self._forget((self._held.keys() | self._halted.keys()) - assignment.partitions)
            self._lost_at_s.clear()
            # A rebalance silences what it leaves with us too.
            for partition, stands in self._held.items():
                self._reader.start(partition, stands.next_offset)
        await self._release_lifted()
        if claimable := self._claimable(assignment):
            await self._claim(claimable)
        self._generation = assignment.generation

    def moved(self, next_offsets: Mapping[int, int]) -> None:
        """Note the offsets that a batch committed."""
        for partition, next_offset in next_offsets.items():
            self._held[partition] = Claimed(self._held[partition].epoch, next_offset, None)

    async def resync(self) -> None:
        """Ask the store where our partitions stand, after a commit whose outcome is unknown or was refused:
        drop those that have another owner now, and read the others from where they stand.

        Raises:
            Transient: the store is away.
        """
        positions = await self._store.positions(list(self._held))
        for partition, ours in list(self._held.items()):
            stands = positions.get(partition)
            if stands is None or stands.epoch != ours.epoch:
                log.warning("partition_lost", extra=fields(partition=partition, epoch=ours.epoch))
                self._forget([partition])
                self._lost_at_s[partition] = self._clock.monotonic_s()
            else:
                self._held[partition] = stands
                self._reader.start(partition, stands.next_offset)

    def drop_all(self) -> None:
        """Let go of everything, so that `follow` claims and checks each partition anew."""
        self._forget(list(self._held))

    def _claimable(self, assignment: Assignment) -> list[int]:
        missing = assignment.partitions - self._held.keys() - self._halted.keys()
        return [partition for partition in sorted(missing) if self._may_claim(partition)]

    def _is_time_to_look(self) -> bool:
        return bool(self._halted) and self._clock.monotonic_s() >= self._next_look_s

    async def _release_lifted(self) -> None:
        """Forget the halts that were lifted in the store, so that their partitions are claimed again."""
        if not self._is_time_to_look():
            return
        self._next_look_s = self._clock.monotonic_s() + LOOK_EVERY_S
        for partition in await self._halts.lifted(self._halted):
            log.info("partition_resumed", extra=fields(partition=partition))
            self._forget([partition])

    def _may_claim(self, partition: int) -> bool:
        lost_at_s = self._lost_at_s.get(partition)
        return lost_at_s is None or self._clock.monotonic_s() - lost_at_s >= RECLAIM_AFTER_S

    def _forget(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._held.pop(partition, None)
            self._halted.pop(partition, None)
            self._reader.stop(partition)

    async def _claim(self, partitions: Sequence[int]) -> None:
        bounds = await self._reader.bounds(partitions)
        claimed = {
            partition: await self._store.claim(partition, bounds[partition].begin) for partition in partitions
        }
        tails = await self._reader.read_each(
            {
                partition: stands.next_offset - 1
                for partition, stands in claimed.items()
                if stands.next_offset > bounds[partition].begin
            }
        )
        for partition, stands in claimed.items():
            wrong = _another_log(stands, bounds[partition], tails.get(partition))
            if wrong is None:
                self._begin(partition, stands)
            else:
                await self._halt(partition, stands, wrong)

    async def _halt(self, partition: int, stands: Claimed, reason: str) -> None:
        await self._halts.note(partition, stands.epoch, reason)
        self._halted[partition] = reason
        log.error("partition_halted", extra=fields(partition=partition, reason=reason))

    def _begin(self, partition: int, stands: Claimed) -> None:
        self._held[partition] = stands
        self._lost_at_s.pop(partition, None)
        self._reader.start(partition, stands.next_offset)
        log.info(
            "partition_claimed",
            extra=fields(partition=partition, epoch=stands.epoch, next_offset=stands.next_offset),
        )


def _another_log(stands: Claimed, bounds: Bounds, tail: Record | None) -> str | None:
    """Why the log can't be the one that the store knows, or None if it can."""
    if not bounds.begin <= stands.next_offset <= bounds.end:
        return f"the log holds {bounds.begin} to {bounds.end}, the store stands at {stands.next_offset}"
    if stands.tail_crc is None or stands.next_offset == bounds.begin:
        return None
    if tail is None or zlib.crc32(tail.value) != stands.tail_crc:
        return f"another record stands at {stands.next_offset - 1}"
    return None
