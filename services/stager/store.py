"""The batch transaction: everything that a batch does, and the offsets it moves, or nothing of it.

Theory of operation. The fence comes first: the update that moves the offsets finds its row only under the
epoch and the offset that this process knows, so a stager that has lost a partition can't write, and its row
lock orders a batch and a claim. Then ids: one that is in the store is a duplicate, or a conflict if its body
differs. Only touchpoints that are new teach identities and are filed. An id or an identity that another
transaction made first can't be seen before that one ends; then the whole batch is rolled back and run again,
knowing it. Customers that became one, or gave touchpoints to another, are folded anew.

Nobody is erased while a batch is under way, or a link is settled. Of who was before, a new touchpoint from
then is dropped whole; its id is kept, so it stays the same touchpoint.

A batch folds by the journeys in force, and its fence holds them: if others are by now, it is rolled back and
run again with those. A run without a state is at its beginning, unless its version is to take over and hasn't
come as far as its customer or account (`Folding.knows`). Then there may be a timeline from before the
definition: all its runs are refolded together, so whoever has the state of one has those of all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from services.stager import identity_sql, sql
from services.stager.announce import merges, messages, splits
from services.stager.assign import Change, Held, unheard
from services.stager.batch import Batch
from services.stager.changes import refold, tell, write_changes
from services.stager.filing import Filed, file_touchpoints
from services.stager.identity import LIMITS, Limits
from services.stager.ids import UNSEEN_FROM, Ids
from services.stager.in_force import Folding, InForce
from services.stager.late import refold_late
from services.stager.pairs import KnownPairs
from services.stager.refolding import Late
from services.stager.remaking import remake
from services.stager.runs import Portion, Subject
from services.stager.settling import settle_next
from services.stager.states import States, read_states
from services.stager.tombstones import without_erased
from services.stager.vocabulary import add_unknown_types, unknown_types
from shared.errors import Contended, FencedOut, Permanent, Transient
from shared.eventlog.port import TOPIC
from shared.failpoints import Failpoints
from shared.ids import NewId
from shared.journey.fold import Journey
from shared.store.engine import Connection, Pool, connection_of
from shared.touchpoint_types import known_types

COUNTER_SHARDS = 16

_Unknown: TypeAlias = defaultdict[Journey, dict[UUID, Mapping[str, Held]]]
"""Runs that have to be refolded from their whole timelines, by journey, and customer or account."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim answers: the epoch that this owner writes under, and where the partition stands."""

    epoch: int
    next_offset: int
    tail_crc: int | None


@dataclass(frozen=True, slots=True)
class Done:
    """What a committed batch did."""

    stored: int
    duplicates: int
    conflicts: int
    erased: int
    dead: int
    changes: Sequence[Change]
    """Those of more than a state alone."""
    unknown_types: int
    """How many of the stored ones are of a type that the catalogue doesn't have."""
    merged: int = 0
    """Customers that became one with another."""
    handed_over: int = 0
    """Identities that went from one customer to another."""
    refused: Sequence[str] = ()
    """The kinds of the identities that were not linked, one for each refusal."""
    withheld: int = 0
    """Links that were withdrawn, and named again."""


class BatchStore:
    """The stager's writes. One owner name a process; `shard` is the counters' row that it writes. With
    `tells`, what consumers are told of its changes goes into the outbox.

    Every method raises Transient when the store is away or busy (the outcome of a commit is then unknown)
    and Contended when it was rolled back and can be run again at once.
    """

    def __init__(
        self,
        pool: Pool,
        in_force: InForce,
        *,
        log_id: str,
        owner: str,
        shard: int,
        new_id: NewId,
        failpoints: Failpoints,
        tells: bool = False,
        limits: Limits = LIMITS,
        unseen_from: int = UNSEEN_FROM,
    ) -> None:
        self._pool = pool
        self._in_force = in_force
        self._log_id = log_id
        self._owner = owner
        self._shard = shard
        self._new_id = new_id
        self._failpoints = failpoints
        self._known_types = known_types()
        self._tells = tells
        self._limits = limits
        self._pairs = KnownPairs()
        self._ids = Ids(unseen_from)

    async def claim(self, partition: int, log_begin: int) -> Claimed:
        """Make a partition ours: every batch of an earlier owner fails from now on. It stands where it
        stood, or at `log_begin` the first time."""
        async with connection_of(self._pool) as connection:
            row = await connection.fetchrow(sql.CLAIM, self._log_id, TOPIC, partition, log_begin, self._owner)
        assert row is not None
        self._failpoints.reach("stager.claimed")
        return Claimed(row["epoch"], row["next_offset"], row["tail_crc"])

    async def positions(self, partitions: Sequence[int]) -> Mapping[int, Claimed]:
        """Where partitions stand and under whose epoch; tells what became of an unknown commit."""
        async with connection_of(self._pool) as connection:
            rows = await connection.fetch(sql.POSITIONS, self._log_id, TOPIC, partitions)
        return {row["partition"]: Claimed(row["epoch"], row["next_offset"], None) for row in rows}

    async def commit(self, batch: Batch, held: Mapping[int, Claimed], now: datetime, lane: int = 0) -> Done:
        """Run a batch. `held` says where each of its partitions stood, and under which epoch. Batches that
        run at once need a lane each: it chooses the counters' row, for which they would else wait.

        Raises:
            FencedOut: a partition has moved or changed hands; nothing was written.
            Permanent: the store refuses what a record says; nothing was written.
        """
        self._failpoints.reach("stager.read")
        folding = await self._in_force.latest()
        async with connection_of(self._pool) as connection, connection.transaction():
            self._failpoints.reach("stager.begin")
            snapshot, last_erasure = await self._fence(connection, batch, held, folding)
            self._pairs.as_of(last_erasure)
            self._failpoints.reach("stager.fenced")
            sorted_ = await self._ids.sort_out(connection, batch.incoming)
            self._failpoints.reach("stager.sorted")
            fresh = await without_erased(connection, sorted_.fresh, last_erasure)
            filed = await file_touchpoints(
                connection, fresh, snapshot, self._limits, self._pairs, self._new_id, now
            )
            self._failpoints.reach("stager.filed")
            shard = (self._shard + lane) % COUNTER_SHARDS
            changes = await self._stage(connection, filed, folding, shard, now)
            unknown = unknown_types(fresh, self._known_types)
            await add_unknown_types(connection, unknown, shard, now)
            self._failpoints.reach("stager.folded")
            await self._bury(connection, batch, now)
            self._failpoints.reach("stager.before_commit")
        self._failpoints.reach("stager.after_commit")
        self._pairs.keep(filed.pairs, last_erasure)
        return Done(
            len(fresh),
            sorted_.duplicates,
            sorted_.conflicts,
            len(sorted_.fresh) - len(fresh),
            len(batch.dead),
            changes,
            unknown.total(),
            len(filed.merged),
            filed.handed_over,
            filed.refused,
            filed.withheld,
        )

    async def settle(self, now: datetime) -> Filed | None:
        """Carry out the link that waits longest of those that were withdrawn or taken back; what that has
        done, or None: none waits. One that fails waits behind the others from then on.

        Raises:
            Permanent: the store refuses what that would write; nothing was written.
        """
        try:
            return await self._settle(now)
        except (Transient, Permanent):
            async with connection_of(self._pool) as connection:
                await connection.execute(identity_sql.PUT_OFF, now)
            raise

    async def _settle(self, now: datetime) -> Filed | None:
        folding = await self._in_force.latest()
        async with connection_of(self._pool) as connection, connection.transaction():
            await self._in_force.hold(connection, folding)
            await connection.execute(sql.HOLD_OFF_ERASURES)
            filed = await settle_next(connection, self._limits, self._new_id, now)
            if filed is not None:
                self._failpoints.reach("stager.settling")
                await self._stage(connection, filed, folding, self._shard, now)
                self._failpoints.reach("stager.settled")
        return filed

    async def _fence(
        self, connection: Connection, batch: Batch, held: Mapping[int, Claimed], folding: Folding
    ) -> tuple[str, datetime | None]:
        """Move the offsets. Returns what had been committed by then, as PostgreSQL tells it, and when
        somebody was erased last (None: nobody ever was)."""
        partitions = [advance.partition for advance in batch.advances]
        moved = await connection.fetch(
            sql.FENCE,
            self._log_id,
            TOPIC,
            partitions,
            [held[partition].epoch for partition in partitions],
            [held[partition].next_offset for partition in partitions],
            [advance.next_offset for advance in batch.advances],
            [advance.tail_crc for advance in batch.advances],
        )
        if len(moved) != len(partitions):
            raise FencedOut(f"partitions {sorted(set(partitions) - {row['partition'] for row in moved})}")
        if any(row["revision"] != folding.revision for row in moved):
            self._in_force.outdate()
            raise Contended("other journeys are in force")
        return (moved[0]["snapshot"], moved[0]["last_erasure"]) if moved else ("", None)

    async def _stage(
        self, connection: Connection, filed: Filed, folding: Folding, shard: int, now: datetime
    ) -> Sequence[Change]:
        """Fold the new touchpoints into the runs that they concern, and write what changes."""
        touches = folding.runs.touches(filed.by_customer, filed.accounts.by_account)
        remade = await remake(connection, filed.remade, filed.merged, filed.accounts.remade, folding, now)
        if not (touches or remade or filed.merged):
            return []
        states = await _read_states(connection, list(touches), folding, now)
        carried: list[Change] = []
        late: list[Late] = []
        unknown: _Unknown = defaultdict(dict)
        for subject, portions in touches.items():
            owner_id, _ = subject
            if folding.on_the_way and not filed.is_new(owner_id):
                known = _known(portions, owner_id, folding, states, unknown)
                states.carry_on(subject, known, carried, late)
            else:
                states.carry_on(subject, portions, carried, late)
        refolds = list(await refold_late(connection, late))
        for journey, of_unknown in unknown.items():
            refolded = await refold(connection, journey, of_unknown, whole=True)
            refolds += [unheard(change, now) for change in refolded]
        await states.save(connection, refolds, now)
        changes = [*remade, *carried, *refolds]
        await write_changes(connection, changes, shard, now)
        if self._tells:
            await tell(
                connection,
                (
                    *splits(filed.parted, filed.remade, now),
                    *messages(folding.of_active(changes), now),
                    *merges(filed.merged, filed.into, now),
                ),
            )
        return changes

    async def _bury(self, connection: Connection, batch: Batch, now: datetime) -> None:
        if batch.dead:
            await connection.execute(
                sql.NEW_DEAD_LETTERS,
                self._log_id,
                TOPIC,
                [dead.record.partition for dead in batch.dead],
                [dead.record.offset for dead in batch.dead],
                [dead.reason for dead in batch.dead],
                [dead.record.value for dead in batch.dead],
                now,
            )


def _known(
    portions: Iterable[Portion], owner_id: UUID, folding: Folding, states: States, unknown: _Unknown
) -> Iterator[Portion]:
    """What can be carried on. The runs of the other journeys are `unknown`."""
    for touches, journeys in portions:
        known = []
        for journey in journeys:
            if folding.knows(journey, owner_id, states):
                known.append(journey)
            else:
                unknown[journey][owner_id] = states.runs(owner_id, journey)
        yield Portion(touches, known)


async def _read_states(
    connection: Connection, subjects: Sequence[Subject], folding: Folding, now: datetime
) -> States:
    """The states of subjects; with those of all things of the customers, while these may have runs that the
    store lacks."""
    whole = any(journey in folding.runs.named for journey in folding.on_the_way)
    return await read_states(connection, subjects, now, whole=whole)
