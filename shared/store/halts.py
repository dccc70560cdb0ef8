"""Partitions that stand still because their log is not the one that the store knows, and their resumption.

A stager notes a halt. Only a person lifts it, by saying where to go on; that is kept for ever, with what was
halted and who did it. The epoch that a resumption raises keeps out whoever held the partition before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from shared.errors import ConfigError
from shared.store.engine import Connection, Pool, connection_of

FROM_BEGINNING = -1
"""As a partition's next offset: the log's beginning, wherever that is when it is claimed next."""

_NOTE = """
UPDATE stager_offsets SET halted = $5 WHERE log_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4
"""
_STILL_HALTED = """
SELECT partition FROM stager_offsets
WHERE log_id = $1 AND topic = $2 AND partition = ANY($3::int[]) AND halted IS NOT NULL
"""
_ALL = """
SELECT log_id, topic, partition, next_offset, epoch, owner, halted FROM stager_offsets ORDER BY 1, 2, 3
"""
_HALTED = """
SELECT log_id, topic, partition, next_offset, epoch, owner, halted FROM stager_offsets
WHERE partition = $1 AND halted IS NOT NULL AND ($2::text IS NULL OR log_id = $2) FOR UPDATE
"""
_RESUME = """
UPDATE stager_offsets SET next_offset = $4, tail_crc = NULL, epoch = epoch + 1, owner = $5, halted = NULL
WHERE log_id = $1 AND topic = $2 AND partition = $3 RETURNING epoch
"""
_KEEP = """
INSERT INTO partition_resumptions
    (log_id, topic, partition, epoch, stood_at, halted, next_offset, resumed_by, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands, who claimed it last and, if it is halted, why."""

    log_id: str
    topic: str
    partition: int
    next_offset: int
    epoch: int
    owner: str
    halted: str | None


class Halts:
    """The stager's side: note a halt, and notice that it was lifted. Both raise Transient when the store is
    away or busy."""

    def __init__(self, pool: Pool, log_id: str, topic: str) -> None:
        self._pool = pool
        self._log_id = log_id
        self._topic = topic

    async def note(self, partition: int, epoch: int, reason: str) -> None:
        """Keep why a partition is halted, unless somebody claimed it after this epoch."""
        async with connection_of(self._pool) as connection:
            await connection.execute(_NOTE, self._log_id, self._topic, partition, epoch, reason)

    async def lifted(self, partitions: Collection[int]) -> set[int]:
        """Those of some halted partitions that are halted no longer."""
        async with connection_of(self._pool) as connection:
            rows = await connection.fetch(_STILL_HALTED, self._log_id, self._topic, list(partitions))
        return set(partitions) - {row["partition"] for row in rows}


async def fetch_positions(connection: Connection) -> Sequence[Position]:
    """Every partition that was ever claimed."""
    return [Position(**row) for row in await connection.fetch(_ALL)]


async def resume(
    connection: Connection,
    partition: int,
    next_offset: int,
    *,
    log_id: str | None,
    resumed_by: str,
    now: datetime,
) -> Position:
    """Let a halted partition go on at an offset, or at `FROM_BEGINNING`; where it stood until now.

    Raises:
        ConfigError: the partition is not halted, or is in several logs and `log_id` doesn't say in which.
    """
    async with connection.transaction():
        stood = _only(partition, await connection.fetch(_HALTED, partition, log_id))
        place = (stood.log_id, stood.topic, stood.partition)
        epoch = await connection.fetchval(_RESUME, *place, next_offset, resumed_by)
        await connection.execute(
            _KEEP, *place, epoch, stood.next_offset, stood.halted, next_offset, resumed_by, now
        )
    return stood


def _only(partition: int, rows: Sequence[asyncpg.Record]) -> Position:
    found = [Position(**row) for row in rows]
    if not found:
        raise ConfigError(f"partition {partition} is not halted; see `rejse partitions list`")
    if len(found) > 1:
        logs = ", ".join(position.log_id for position in found)
        raise ConfigError(f"partition {partition} is halted in several logs; say --log, one of {logs}")
    return found[0]
