"""The plain reference stager: as little as can keep a timeline and a stage per customer, exactly once.

aiokafka's `getmany`, msgspec, and one asyncpg transaction a batch with the offsets in it. The timeline has
one key (customer, time, id) of uuids. No identities are resolved: a customer is the hash of the only one.
No touchpoint may come late, nobody else may own a partition, and there is one journey, of five stages, in
code. What Rejse's stager takes longer than this is what its promises cost.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.plain_fold import moved

BATCH_RECORDS = 4_000
_POLL_TIMEOUT_MS = 250

SCHEMA = """
CREATE TABLE stager_offsets (partition int PRIMARY KEY, next_offset bigint NOT NULL);
CREATE TABLE timeline (
    customer_id uuid, occurred_at timestamptz, id uuid, type text NOT NULL, body bytea NOT NULL,
    PRIMARY KEY (customer_id, occurred_at, id)
);
CREATE TABLE states (
    customer_id uuid PRIMARY KEY, stage smallint NOT NULL,
    entered_at timestamptz NOT NULL, seen bigint NOT NULL
) WITH (fillfactor = 70)
"""
_OFFSETS = """
INSERT INTO stager_offsets SELECT * FROM unnest($1::int[], $2::bigint[])
ON CONFLICT (partition) DO UPDATE SET next_offset = EXCLUDED.next_offset
"""
_TIMELINE = """
INSERT INTO timeline SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[], $5::bytea[])
ON CONFLICT DO NOTHING
"""
_STATES = "SELECT customer_id, stage, entered_at, seen FROM states WHERE customer_id = ANY($1::uuid[])"
_KEEP = """
INSERT INTO states SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[], $4::bigint[])
ON CONFLICT (customer_id) DO UPDATE
    SET stage = EXCLUDED.stage, entered_at = EXCLUDED.entered_at, seen = EXCLUDED.seen
"""


class _Event(msgspec.Struct, gc=False):
    id: str
    type: str
    occurred_at: datetime
    identities: tuple[str, ...]


State = tuple[int, datetime, int]
"""The stage, when it was entered, and how many events have been seen."""

_decode = msgspec.json.Decoder(_Event).decode


def uuid_of(text: str) -> UUID:
    """A text's hash, of the size of a uuid."""
    return UUID(bytes=blake2b(text.encode(), digest_size=16).digest())


async def stage(database_url: str, bootstrap: str, topic: str, partitions: int) -> None:
    """Stage a topic from its beginning, until killed."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(SCHEMA)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    async with consumer:
        assigned = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(assigned)
        await consumer.seek_to_beginning(*assigned)
        while True:
            found = await consumer.getmany(timeout_ms=_POLL_TIMEOUT_MS, max_records=BATCH_RECORDS)
            if found:
                await _commit(connection, found)


async def _commit(connection: Any, found: Mapping[TopicPartition, Sequence[Any]]) -> None:
    values = [record.value for records in found.values() for record in records]
    events = [_decode(value) for value in values]
    customer_ids = [uuid_of(event.identities[0]) for event in events]
    async with connection.transaction():
        await connection.execute(
            _OFFSETS,
            [place.partition for place in found],
            [records[-1].offset + 1 for records in found.values()],
        )
        await connection.execute(
            _TIMELINE,
            customer_ids,
            [event.occurred_at for event in events],
            [uuid_of(event.id) for event in events],
            [event.type for event in events],
            values,
        )
        rows = await connection.fetch(_STATES, list(set(customer_ids)))
        states: dict[UUID, State] = {row[0]: (row[1], row[2], row[3]) for row in rows}
        for customer_id, event in zip(customer_ids, events, strict=True):
            states[customer_id] = moved(states.get(customer_id), event.type, event.occurred_at)
        await connection.execute(_KEEP, list(states), *zip(*states.values(), strict=True))


if __name__ == "__main__":
    uvloop.run(stage(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
