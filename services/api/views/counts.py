"""How many customers are in each stage and exit of a journey, now or as of a past time, as known then.

Now-counts are kept. As of a time, the count of a place is all that ever moved in less all that moved out.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import asyncpg

from services.api.views.active import ActiveJourney
from services.api.views.answers import Counts, PlaceCount
from services.api.views.customers import QUERY_TIMEOUT_S
from services.api.views.moves import moves_until
from shared.store.engine import Pool, connection_of

_NOW = """
SELECT stage, sum(count)::bigint AS count, coalesce(sum(count) FILTER (WHERE paused), 0)::bigint AS paused
FROM stage_counts WHERE journey_key = $1 AND version = $2 GROUP BY stage
"""

_AS_OF = """
SELECT moved.stage, sum(moved.count)::bigint AS count,
    coalesce(sum(moved.count) FILTER (WHERE moved.paused), 0)::bigint AS paused
FROM ({moves}) AS moves
CROSS JOIN LATERAL (
    VALUES (to_stage, to_paused, count), (from_stage, from_paused, -count)
) AS moved (stage, paused, count)
GROUP BY moved.stage
"""


async def counts_now(pool: Pool, active: ActiveJourney, now: datetime) -> Counts:
    """The counts as they are kept.

    Raises:
        Transient: the store is away or busy.
    """
    definition = active.definition
    async with connection_of(pool) as connection:
        rows = await connection.fetch(_NOW, definition.key, definition.version, timeout=QUERY_TIMEOUT_S)
    return _counts(active, now, now, rows)


async def counts_as_of(
    pool: Pool, active: ActiveJourney, at: datetime, known_at: datetime | None, now: datetime
) -> Counts:
    """The counts as they were at `at` (UTC), all that happened at that instant included, as it is known now
    or was known at `known_at`: as many as each customer's history tells.

    Raises:
        Transient: the store is away or busy.
    """
    moves, parameters = moves_until(active, at, known_at)
    async with connection_of(pool) as connection:
        rows = await connection.fetch(_AS_OF.format(moves=moves), *parameters, timeout=QUERY_TIMEOUT_S)
    return _counts(active, at, known_at or now, rows)


def _counts(
    active: ActiveJourney, at: datetime, known_at: datetime, rows: Iterable[asyncpg.Record]
) -> Counts:
    found: dict[str, tuple[int, int]] = {row["stage"]: (row["count"], row["paused"]) for row in rows}
    definition = active.definition
    stage_keys = {stage.key for stage in definition.stages}
    places = [
        _place_count(key, "stage" if key in stage_keys else "exit", active, found.get(key, (0, 0)))
        for key in definition.places
    ]
    return Counts(definition.key, definition.version, at, known_at, places)


def _place_count(
    key: str, kind: Literal["stage", "exit"], active: ActiveJourney, found: tuple[int, int]
) -> PlaceCount:
    return PlaceCount(key, kind, active.labels_of[key], *found)
