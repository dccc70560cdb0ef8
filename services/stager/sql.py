"""The batch transaction's SQL: a few statements whatever the size of the batch.

Every transaction takes its locks in one order: what is in force, erasures, offsets, touchpoint ids, new
identities and pairs of them, customers, new accounts, accounts, states, counters; and within each by key.
Whoever alters what a customer has, identities among it, has locked the customer; and an account, whoever lets
its timeline get touchpoints or lose some. So two of them never wait for one another in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

# However many a long timeline gives, no statement takes longer than it may, nor does making them ready for it
# keep others waiting.
_ROWS_AT_ONCE = 20_000

_Row = TypeVar("_Row")

# A negative offset is what a person left who resumed the partition from the log's beginning.
CLAIM = """
INSERT INTO stager_offsets AS o (log_id, topic, partition, next_offset, epoch, owner)
VALUES ($1, $2, $3, $4, 1, $5)
ON CONFLICT (log_id, topic, partition) DO UPDATE SET epoch = o.epoch + 1, owner = EXCLUDED.owner,
    next_offset = CASE WHEN o.next_offset < 0 THEN EXCLUDED.next_offset ELSE o.next_offset END, halted = NULL
RETURNING epoch, next_offset, tail_crc
"""

POSITIONS = """
SELECT partition, epoch, next_offset FROM stager_offsets
WHERE log_id = $1 AND topic = $2 AND partition = ANY($3::int[])
"""

# Held in share: what is folded can't change before the batch has ended. Nor is anybody erased.
FENCE = """
WITH in_force AS (SELECT revision FROM journeys_in_force FOR SHARE)
UPDATE stager_offsets AS o SET next_offset = n.new_offset, tail_crc = n.tail_crc
FROM in_force, (SELECT last_erasure() AS at) AS erasure,
    unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    AS n (partition, epoch, old_offset, new_offset, tail_crc)
WHERE o.log_id = $1 AND o.topic = $2 AND o.partition = n.partition
    AND o.epoch = n.epoch AND o.next_offset = n.old_offset
RETURNING o.partition, in_force.revision, erasure.at AS last_erasure, pg_current_snapshot()::text AS snapshot
"""

HOLD_OFF_ERASURES = "SELECT last_erasure()"

ID_COLUMNS = ("id", "body_hash")

BODY_HASHES = "SELECT id, body_hash FROM touchpoint_ids WHERE id = ANY($1::uuid[])"

_LOCKED = "SELECT id FROM customers WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"

LOCK_ALL_CUSTOMERS = f"SELECT count(*) FROM ({_LOCKED}) AS locked"

LOCK_FREE_CUSTOMERS = f"{_LOCKED} SKIP LOCKED"

MOVE_ACCOUNT_TOUCHPOINTS = """
UPDATE account_touchpoints SET customer_id = $2 WHERE customer_id = $1 AND id = ANY($3::uuid[])
"""

REVISIONS = """
SELECT customer_id, run, max(revision) AS revision FROM stage_transitions
WHERE customer_id = ANY($1::uuid[]) AND journey_key = $2 AND version = $3 GROUP BY customer_id, run
"""

DROP_STATES = "DELETE FROM journey_states WHERE customer_id = ANY($1::uuid[])"

DROP_STATES_OF = """
DELETE FROM journey_states WHERE (customer_id, run) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
"""

_LOCKED_ACCOUNTS = "SELECT id FROM accounts WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"

LOCK_ACCOUNTS = f"SELECT count(*) FROM ({_LOCKED_ACCOUNTS}) AS locked"

LOCK_FREE_ACCOUNTS = f"{_LOCKED_ACCOUNTS} SKIP LOCKED"

TOUCHPOINT_COLUMNS = ("customer_id", "occurred_at", "id", "type", "channel", "body")

# Those of the customers and accounts themselves; or with those of their things.
STATES = """
SELECT customer_id, run, due_at, states, CASE WHEN updated_at > $3 THEN updated_at END AS not_before
FROM journey_states
WHERE customer_id = ANY($1::uuid[]) AND ($2 OR run = '')
"""

STATES_OF_THINGS = """
SELECT customer_id, run, due_at, states, CASE WHEN updated_at > $3 THEN updated_at END AS not_before
FROM journey_states
WHERE (customer_id, run) IN (SELECT * FROM unnest($1::uuid[], $2::text[]))
"""

# What was written by a clock that went back since counts as settled, or time would stand still until then.
DUE = """
SELECT customer_id, run FROM journey_states
WHERE due_at <= $1 AND (updated_at <= $2 OR updated_at > $1) ORDER BY due_at LIMIT $3
"""

HISTORIES = """
SELECT customer_id, run, seq, at, kind, from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule
FROM stage_transitions
WHERE customer_id = ANY($1::uuid[]) AND journey_key = $2 AND version = $3 AND superseded_at IS NULL
ORDER BY customer_id, run, seq
"""

# The fences keep the planner from joining whole tables, of which it knows nothing while they are new.
LAST_CHECKPOINTS = """
SELECT l.customer_id, l.journey_key, l.version, c.state
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[], $5::uuid[])
    AS l (customer_id, journey_key, version, at, id)
CROSS JOIN LATERAL (
    SELECT state FROM checkpoints
    WHERE customer_id = l.customer_id AND journey_key = l.journey_key AND version = l.version
        AND (at, id) < (l.at, l.id)
    ORDER BY at DESC, id DESC LIMIT 1
) AS c
"""

CHECKPOINTS_BETWEEN = """
SELECT s.customer_id, s.journey_key, s.version, c.id, c.state
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[], $5::uuid[], $6::timestamptz[], $7::uuid[])
    AS s (customer_id, journey_key, version, at, id, until_at, until_id)
CROSS JOIN LATERAL (
    SELECT at, id, state FROM checkpoints
    WHERE customer_id = s.customer_id AND journey_key = s.journey_key AND version = s.version
        AND (at, id) > (s.at, s.id) AND (at, id) <= (s.until_at, s.until_id)
    OFFSET 0
) AS c ORDER BY s.customer_id, s.journey_key, s.version, c.at, c.id
"""

# The next of each timeline, so many of each.
_PORTIONS = """
SELECT t.* FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[], $5::uuid[])
    AS s (owner_id, at, id, until_at, until_id)
CROSS JOIN LATERAL (
    SELECT s.owner_id, occurred_at, id, type, channel,
        CASE WHEN $7::text[] IS NULL OR type = ANY($7) THEN body END AS body
    FROM {table}
    WHERE {owner} = s.owner_id AND (occurred_at, id) > (s.at, s.id)
        AND (occurred_at, id) <= (s.until_at, s.until_id) AND ($6::text[] IS NULL OR type = ANY($6))
    ORDER BY occurred_at, id LIMIT $8
) AS t ORDER BY t.owner_id, t.occurred_at, t.id
"""

PORTIONS = _PORTIONS.format(table="touchpoints", owner="customer_id")

PORTIONS_OF_ACCOUNTS = _PORTIONS.format(
    table="account_touchpoints JOIN touchpoints USING (customer_id, occurred_at, id)", owner="account_id"
)

HISTORY_PARTS = """
SELECT h.* FROM unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::int[])
    AS s (customer_id, journey_key, version, first, behind)
CROSS JOIN LATERAL (
    SELECT customer_id, journey_key, version, seq, at, kind, from_stage, from_paused, to_stage, to_paused,
        touchpoint_id, rule
    FROM stage_transitions AS t
    WHERE customer_id = s.customer_id AND journey_key = s.journey_key AND version = s.version AND run = ''
        AND t.seq >= s.first AND (s.behind IS NULL OR t.seq < s.behind) AND superseded_at IS NULL
    OFFSET 0
) AS h ORDER BY h.customer_id, h.journey_key, h.version, h.seq
"""

CHECKPOINT_COLUMNS = ("customer_id", "journey_key", "version", "at", "id", "state")

DROP_CHECKPOINTS = """
DELETE FROM checkpoints AS c
USING unnest($1::uuid[], $2::text[], $3::int[], $4::timestamptz[], $5::uuid[], $6::timestamptz[], $7::uuid[])
    AS o (customer_id, journey_key, version, at, id, until_at, until_id)
WHERE c.customer_id = o.customer_id AND c.journey_key = o.journey_key AND c.version = o.version
    AND (c.at, c.id) > (o.at, o.id) AND (c.at, c.id) < (o.until_at, o.until_id)
"""

SUPERSEDE = """
UPDATE stage_transitions AS t SET superseded_at = s.known_at
FROM unnest($1::uuid[], $2::text[], $3::int[], $4::text[], $5::int[], $6::timestamptz[])
    AS s (customer_id, journey_key, version, run, seq, known_at)
WHERE t.customer_id = s.customer_id AND t.journey_key = s.journey_key AND t.version = s.version
    AND t.run = s.run AND t.seq = s.seq AND t.superseded_at IS NULL
"""

STATE_COLUMNS = ("customer_id", "run", "due_at", "states", "entered_at", "updated_at")

# Of rows without a name, which come last, no name and no time is sent.
SAVE_STATES = """
UPDATE journey_states AS s
SET due_at = n.due_at, states = n.states, entered_at = n.entered_at, updated_at = greatest(s.updated_at, $6)
FROM unnest($1::uuid[], $2::timestamptz[], $3::bytea[], $4::text[], $5::timestamptz[])
    AS n (customer_id, due_at, states, run, entered_at)
WHERE s.customer_id = n.customer_id AND s.run = coalesce(n.run, '')
"""

ADD_COUNTS = """
INSERT INTO stage_counts AS c (journey_key, version, stage, paused, shard, count)
SELECT n.journey_key, n.version, n.stage, n.paused, $6::smallint, n.delta
FROM unnest($1::text[], $2::int[], $3::text[], $4::bool[], $5::bigint[])
    AS n (journey_key, version, stage, paused, delta)
ON CONFLICT (journey_key, version, stage, paused, shard) DO UPDATE SET count = c.count + EXCLUDED.count
"""

# Ways in their order; and by the numbers that this gives them, from 1, and by the hour since 1970, how many
# went. It is told by the hour, by the day and by the month, so that all up to a time can be read from the
# largest spans that end before it.
ADD_FLOWS = """
WITH hourly AS (
    SELECT way, 'epoch'::timestamptz + hour * interval '1 hour' AS since, delta
    FROM unnest($7::int[], $8::int[], $9::bigint[]) AS h (way, hour, delta)
), spans AS (
    SELECT way, 'hour' AS span, since, delta FROM hourly
    UNION ALL
    SELECT way, span, date_trunc(span, since, 'UTC'), sum(delta)::bigint
    FROM hourly CROSS JOIN (VALUES ('day'), ('month')) AS n (span) GROUP BY 1, 2, 3
)
INSERT INTO stage_flows AS f (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused,
    shard, count)
SELECT w.journey_key, w.version, s.span, s.since, w.from_stage, w.from_paused, w.to_stage, w.to_paused,
    $10::smallint, s.delta
FROM spans AS s
JOIN unnest($1::text[], $2::int[], $3::text[], $4::bool[], $5::text[], $6::bool[]) WITH ORDINALITY
    AS w (journey_key, version, from_stage, from_paused, to_stage, to_paused, way) USING (way)
WHERE s.delta <> 0 ORDER BY way, s.span, s.since
ON CONFLICT (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused, shard)
    DO UPDATE SET count = f.count + EXCLUDED.count
"""

# A new name is taken while the shard has room for it; what has no name there is counted under the empty one.
ADD_UNKNOWN_TYPES = """
WITH arrived AS (
    SELECT n.type, n.count, EXISTS (
        SELECT FROM unknown_types AS u WHERE u.shard = $3::smallint AND u.type = n.type
    ) AS named
    FROM unnest($1::text[], $2::bigint[]) AS n (type, count)
), placed AS (
    SELECT count, CASE WHEN named OR row_number() OVER (PARTITION BY named ORDER BY type)
        <= $5::int - (SELECT count(*) FROM unknown_types WHERE shard = $3::smallint AND type <> '')
        THEN type ELSE '' END AS type
    FROM arrived
)
INSERT INTO unknown_types AS u (shard, type, count, recorded_at)
SELECT $3::smallint, type, sum(count), $4::timestamptz FROM placed GROUP BY type ORDER BY type
ON CONFLICT (shard, type) DO UPDATE SET count = u.count + EXCLUDED.count,
    recorded_at = greatest(u.recorded_at, EXCLUDED.recorded_at)
"""

NEW_DEAD_LETTERS = """
INSERT INTO dead_letters (log_id, topic, partition, "offset", digest, reason, value, recorded_at)
SELECT $1, $2, n.partition, n."offset", sha256(n.value), n.reason, n.value, $7::timestamptz
FROM unnest($3::int[], $4::bigint[], $5::text[], $6::bytea[]) AS n (partition, "offset", reason, value)
ON CONFLICT DO NOTHING
"""

OUTBOX_COLUMNS = ("key", "value")


def columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    """Rows, of which there is one at least, as the arrays of a statement."""
    return [list(column) for column in zip(*rows, strict=True)]


def parts(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Rows, which are not made before they are wanted, by the statement that they go with."""
    rows = iter(rows)
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        yield part


def rows_of(status: str) -> int:
    """How many rows a statement has written, by its command tag."""
    return int(status.rpartition(" ")[2])
