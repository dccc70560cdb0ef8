"""Three years of history, filled into a store by a few statements: what the counts read, as the stager would
have left it.

Every customer has twenty touchpoints, a day and a half apart, and begins at a time of their own, spread
evenly. A quarter never buys, a quarter buys once and half twice; whoever has bought nothing for 180 days is
dormant: the transitions of the journey `purchase-lifecycle`, in closed form. What the counts don't read
(identities, states, the ids that were seen) is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from uuid import UUID

import asyncpg

from services.stager.definitions import register
from shared.journey.catalog import load_definitions

JOURNEY = "purchase-lifecycle"
VERSION = 2
TOUCHES_EACH = 20
YEARS = 3
_WRITERS = 2

_SESSION = {"synchronous_commit": "off", "maintenance_work_mem": "256MB", "work_mem": "256MB"}

_CUSTOMERS = f"""
INSERT INTO customers (id, created_at)
SELECT lpad(to_hex(number), 32, '0')::uuid,
    $2::timestamptz - interval '{YEARS} years'
        + (number * 0.6180339887498949 % 1) * interval '{YEARS * 365 - 31} days'
FROM generate_series(1, $1::bigint) AS number
"""

# Of a range of customers, in the order of the timeline's key.
_TOUCHPOINTS = f"""
INSERT INTO touchpoints (customer_id, occurred_at, id, type, channel, body)
SELECT c.id, c.created_at + place * interval '36 hours', gen_random_uuid(),
    CASE WHEN place = 7 AND c.buys > 0 OR place = 15 AND c.buys > 1 THEN 'order_completed'
        WHEN place % 3 = 0 THEN 'product_viewed' ELSE 'page_viewed' END,
    'web', '{{"properties":{{"path":"/products/00042","referrer":"search"}}}}'
FROM (
    SELECT id, created_at, least(get_byte(uuid_send(id), 15) % 4, 2) AS buys FROM customers
    WHERE id > $1 AND id <= $2 ORDER BY id
) AS c CROSS JOIN generate_series(0, {TOUCHES_EACH - 1}) AS place
"""

_TRANSITIONS = f"""
WITH orders AS (
    SELECT customer_id, occurred_at AS at, id,
        row_number() OVER (PARTITION BY customer_id ORDER BY occurred_at) - 1 AS seq,
        lead(occurred_at) OVER (PARTITION BY customer_id ORDER BY occurred_at) AS next_at
    FROM touchpoints WHERE type = 'order_completed'
), moves AS (
    SELECT customer_id, seq, at, 'enter' AS kind,
        CASE seq WHEN 0 THEN NULL ELSE 'first' END AS origin,
        CASE seq WHEN 0 THEN 'first' ELSE 'repeat' END AS target, id,
        CASE seq WHEN 0 THEN 'first.enter' ELSE 'repeat.enter' END AS rule
    FROM orders
    UNION ALL
    SELECT customer_id, seq + 1, at + interval '180 days', 'exit',
        CASE seq WHEN 0 THEN 'first' ELSE 'repeat' END, 'dormant', NULL, 'dormant.enter'
    FROM orders WHERE next_at IS NULL AND at + interval '180 days' <= $1
)
INSERT INTO stage_transitions (customer_id, journey_key, version, seq, revision, at, kind, from_stage,
    from_paused, to_stage, to_paused, touchpoint_id, rule, recorded_at, run)
SELECT customer_id, '{JOURNEY}', {VERSION}, seq, 0, at, kind, origin, false, target, false, id, rule, at, ''
FROM moves ORDER BY customer_id, seq
"""

_COUNTS = """
INSERT INTO stage_counts (journey_key, version, stage, paused, shard, count)
SELECT journey_key, version, to_stage, to_paused, 0, count(*) FROM (
    SELECT DISTINCT ON (customer_id, journey_key, version) journey_key, version, to_stage, to_paused
    FROM stage_transitions ORDER BY customer_id, journey_key, version, seq DESC
) AS latest GROUP BY journey_key, version, to_stage, to_paused
"""

_FLOWS = """
INSERT INTO stage_flows (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused,
    shard, count)
SELECT journey_key, version, span, date_trunc(span, at, 'UTC'), coalesce(from_stage, ''), from_paused,
    to_stage, to_paused, 0, count(*)
FROM stage_transitions CROSS JOIN unnest('{hour,day,month}'::text[]) AS span
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
"""


async def fill(database_url: str, touchpoints: int, now: datetime) -> None:
    """Fill an empty store with so many touchpoints up to `now`."""
    connections = [await asyncpg.connect(database_url, server_settings=_SESSION) for _ in range(_WRITERS)]
    try:
        await _fill(connections, touchpoints // TOUCHES_EACH, now)
    finally:
        for connection in connections:
            await connection.close()


async def _fill(
    connections: Sequence[asyncpg.Connection[asyncpg.Record]], customers: int, now: datetime
) -> None:
    first = connections[0]
    await register(first, load_definitions(None), now)
    await first.execute(_CUSTOMERS, customers, now)
    bounds = [UUID(int=customers * part // _WRITERS) for part in range(_WRITERS + 1)]
    parts = zip(connections, pairwise(bounds), strict=True)
    await asyncio.gather(*(one.execute(_TOUCHPOINTS, *part) for one, part in parts))
    await first.execute(_TRANSITIONS, now)
    await first.execute(_COUNTS)
    await first.execute(_FLOWS)
    await first.execute("VACUUM ANALYZE")
    await first.execute("CHECKPOINT")
