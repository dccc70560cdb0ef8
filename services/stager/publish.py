"""Publishing stage changes: out of the outbox, onto the topic `stage-changes`.

What a batch or a sweep has to tell is written to the outbox in its own transaction, so it is told if that
commits and else never was. Here it goes out: some rows are deleted, their messages appended to the log, and
the deletion is committed once the log has kept all of them. Whatever ends between keeps the rows, and they
are told again under the same ids.

The order: whoever writes rows of a customer has the customer locked and takes their ids after that, so the
ids of one customer rise with what happened. One process publishes at a time, by a lock that ends with its
transaction, in the order of the ids. A consumer that keeps the highest id of each customer therefore knows
what comes again. What is told `to_all` goes into each partition, between the same messages of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import asyncpg

from services.stager.announce import with_id
from shared.errors import Transient
from shared.eventlog.port import EventWriter, NewRecord, Outcome, keys_of_all
from shared.failpoints import Failpoints
from shared.lifecycle import wait_for_stop
from shared.logs import fields
from shared.metrics import Metrics
from shared.store.engine import Pool, connection_of

log = logging.getLogger("rejse.stager")

MESSAGES_MAX = 5_000
APPEND_TIMEOUT_S = 4.0
"""Twice, it is less than the store lets a transaction be idle."""
EVERY_S = 0.2
RETRY_S = 1.0
_OUTBOX_WAITING_S = """
SELECT extract(epoch FROM now() - recorded_at)::float8 FROM outbox ORDER BY id LIMIT 1
"""
_LOCK_OUTBOX = "SELECT pg_try_advisory_xact_lock(hashtext('rejse.outbox'))"
# An array and not `IN`: a backlog comes when PostgreSQL has counted none, and it would join it row by row.
_TAKE_OUTBOX = """
DELETE FROM outbox WHERE id = ANY(ARRAY(SELECT id FROM outbox ORDER BY id LIMIT $1))
RETURNING id, key, value, to_all
"""


class Publisher:
    """Tells the log what the outbox holds."""

    def __init__(self, pool: Pool, writer: EventWriter, metrics: Metrics, failpoints: Failpoints) -> None:
        self._pool = pool
        self._writer = writer
        self._failpoints = failpoints
        self._published = metrics.counter("rejse_stager_stage_changes_published_total")
        self._waiting_s = metrics.gauge("rejse_stager_stage_changes_waiting_seconds")
        self._failing = False

    async def run(self, stop: asyncio.Event) -> None:
        """Publish until `stop` is set. Neither a store nor a log that is away ends it."""
        while not stop.is_set():
            pause_s = EVERY_S
            try:
                if await self.publish():
                    pause_s = 0.0
                self._failing = False
            except Transient as error:
                pause_s = RETRY_S
                if not self._failing:
                    log.warning("stage_changes_wait", extra=fields(error=str(error)))
                self._failing = True
            if pause_s:
                await wait_for_stop(stop, pause_s)

    async def publish(self) -> int:
        """Publish some of what waits, and say how much; 0: nothing waits, or another process is at it.

        Raises:
            Transient: the log or the store is away; the messages wait on.
        """
        async with connection_of(self._pool) as connection:
            waiting_s = await connection.fetchval(_OUTBOX_WAITING_S)
            self._waiting_s.set(waiting_s or 0.0)
            if waiting_s is None:
                return 0
            async with connection.transaction():
                if not await connection.fetchval(_LOCK_OUTBOX):
                    return 0
                rows = await connection.fetch(_TAKE_OUTBOX, MESSAGES_MAX)
                rows.sort(key=lambda row: row["id"])
                self._failpoints.reach("stager.publish_taken")
                records = await self._records(rows)
                await self._append(records)
                self._failpoints.reach("stager.publish_appended")
            self._failpoints.reach("stager.published")
        self._published.inc(len(records))
        return len(rows)

    async def _records(self, rows: Sequence[asyncpg.Record]) -> list[NewRecord]:
        partitions = await self._partitions() if any(row["to_all"] for row in rows) else 0
        return [
            NewRecord(key, with_id(row["value"], row["id"]))
            for row in rows
            for key in (keys_of_all(row["key"], partitions) if row["to_all"] else (row["key"],))
        ]

    async def _partitions(self) -> int:
        partitions = await self._writer.partitions(APPEND_TIMEOUT_S)
        if partitions is None:
            raise Transient(self._writer.wrong() or "the log did not say how many partitions it has")
        return partitions

    async def _append(self, records: list[NewRecord]) -> None:
        outcomes = await self._writer.append(records, APPEND_TIMEOUT_S)
        if any(outcome is not Outcome.KEPT for outcome in outcomes):
            raise Transient(self._writer.wrong() or "the log did not keep every stage change")
