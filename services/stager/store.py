"""The batch transaction: everything that a batch does, and the offsets it moves, or nothing of it.

Theory of operation. The fence comes first: the update that moves the offsets finds its row only under the
epoch and the offset that this process knows, so a stager that has lost a partition can't write, and its row
lock orders a batch and a claim. Then ids: one that is in the store is a duplicate, or a conflict if its body
differs. Only touchpoints that are new teach identities and are filed. An id or an identity that another
transaction made first can't be seen before that one ends; then the whole batch is rolled back and run again,
knowing it.

A batch folds by the journeys in force, and its fence holds them: if others are by now, it is rolled back and
run again with those. A version that is to take over doesn't know all customers of before; those that it
doesn't are refolded, from a timeline that may be older than the definition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.stager import identity, sql
from services.stager.assign import Change, Held, carry_on, is_late
from services.stager.batch import Batch, Incoming
from services.stager.changes import read_states, refold, write_changes
from services.stager.ids import UNSEEN_FROM, Ids
from services.stager.in_force import Folding, InForce
from services.stager.vocabulary import add_unknown_types, unknown_types
from shared.errors import Contended, FencedOut
from shared.eventlog.port import TOPIC
from shared.failpoints import Failpoints
from shared.ids import NewId
from shared.journey.fold import Journey
from shared.journey.touch import Lens, Touch
from shared.store.engine import Connection, Pool, connection_of
from shared.touchpoint_types import known_types

COUNTER_SHARDS = 16


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
    dead: int
    changes: Sequence[Change]
    unknown_types: int
    """How many of the stored ones are of a type that the catalogue doesn't have."""


@dataclass(frozen=True, slots=True)
class _Filed:
    """New touchpoints by customer, and which of the customers are new too."""

    by_customer: Mapping[UUID, Sequence[Incoming]]
    new_customers: frozenset[UUID]


class BatchStore:
    """The stager's writes. One owner name a process; `shard` is the counters' row that it writes.

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
            await self._fence(connection, batch, held, folding)
            self._failpoints.reach("stager.fenced")
            sorted_ = await self._ids.sort_out(connection, batch.incoming)
            self._failpoints.reach("stager.sorted")
            filed = await self._file(connection, sorted_.fresh, now)
            self._failpoints.reach("stager.filed")
            changes = await self._fold(connection, filed, folding)
            shard = (self._shard + lane) % COUNTER_SHARDS
            await write_changes(connection, changes, shard, now)
            unknown = unknown_types(sorted_.fresh, self._known_types)
            await add_unknown_types(connection, unknown, shard, now)
            self._failpoints.reach("stager.folded")
            await self._bury(connection, batch, now)
            self._failpoints.reach("stager.before_commit")
        self._failpoints.reach("stager.after_commit")
        return Done(
            len(sorted_.fresh),
            sorted_.duplicates,
            sorted_.conflicts,
            len(batch.dead),
            changes,
            unknown.total(),
        )

    async def _fence(
        self, connection: Connection, batch: Batch, held: Mapping[int, Claimed], folding: Folding
    ) -> None:
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

    async def _file(self, connection: Connection, fresh: Sequence[Incoming], now: datetime) -> _Filed:
        """Find or make the customer of each touchpoint, lock the customers, and store the touchpoints."""
        if not fresh:
            return _Filed({}, frozenset())
        identities = {one for incoming in fresh for one in incoming.touchpoint.identities}
        rows = await connection.fetch(sql.KNOWN_IDENTITIES, list(identities))
        claims = [identity.Claim(one.uid, one.touchpoint.identities) for one in fresh]
        filing = identity.file(claims, {row["identity"]: row["customer_id"] for row in rows}, self._new_id)
        await _learn(connection, filing, now)
        by_customer: dict[UUID, list[Incoming]] = defaultdict(list)
        for customer_id, incoming in zip(filing.customer_ids, fresh, strict=True):
            by_customer[customer_id].append(incoming)
        await connection.execute(sql.LOCK_CUSTOMERS, list(by_customer))
        await _store_touchpoints(connection, by_customer)
        return _Filed(by_customer, frozenset(filing.new_customers))

    async def _fold(self, connection: Connection, filed: _Filed, folding: Folding) -> list[Change]:
        touches = _touches_by_journey(filed.by_customer, folding.journeys, folding.lens)
        if not touches:
            return []
        customer_ids = list({customer_id for customer_id, _ in touches})
        states = await read_states(connection, customer_ids, folding.journeys)
        changes = []
        late: dict[Journey, dict[UUID, Held]] = defaultdict(dict)
        for (customer_id, journey), sorted_touches in touches.items():
            held = states.get((customer_id, journey))
            known = customer_id in filed.new_customers or folding.knows(
                journey, customer_id, has_state=held is not None
            )
            held = held or Held()
            if not known or is_late(held, sorted_touches):
                late[journey][customer_id] = held
            else:
                changes.append(carry_on(customer_id, journey, held, sorted_touches))
        for journey, held_by_customer in late.items():
            changes += await refold(connection, journey, held_by_customer)
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


async def _learn(connection: Connection, filing: identity.Filing, now: datetime) -> None:
    """Keep new customers and links.

    Raises:
        Contended: another transaction made one of the identities first.
    """
    if not filing.new_links:
        return
    await connection.execute(sql.NEW_CUSTOMERS, filing.new_customers, now)
    links = sorted(filing.new_links, key=lambda link: link.identity)
    status = await connection.execute(
        sql.NEW_IDENTITIES,
        [link.identity for link in links],
        [link.customer_id for link in links],
        [link.touchpoint_id for link in links],
        now,
    )
    if int(status.rpartition(" ")[2]) != len(links):
        raise Contended("an identity was made by another transaction first")


async def _store_touchpoints(connection: Connection, filed: Mapping[UUID, Sequence[Incoming]]) -> None:
    rows = [
        (
            customer_id,
            one.touchpoint.occurred_at,
            one.uid,
            one.touchpoint.type,
            one.touchpoint.channel,
            one.value,
        )
        for customer_id in sorted(filed)
        for one in filed[customer_id]
    ]
    await connection.copy_records_to_table("touchpoints", columns=sql.TOUCHPOINT_COLUMNS, records=rows)


def _touches_by_journey(
    filed: Mapping[UUID, Sequence[Incoming]], journeys: Sequence[Journey], lens: Lens
) -> dict[tuple[UUID, Journey], list[Touch]]:
    """The touches that concern each customer's journeys, in the fold's order."""
    found: dict[tuple[UUID, Journey], list[Touch]] = defaultdict(list)
    for customer_id, incoming in filed.items():
        for one in incoming:
            concerned = [journey for journey in journeys if journey.concerns(one.touchpoint.type)]
            if concerned:
                touch = lens.touch(one.uid, one.touchpoint)
                for journey in concerned:
                    found[customer_id, journey].append(touch)
    for touches in found.values():
        touches.sort(key=lambda touch: (touch.at, touch.id))
    return found
