"""Customers' timelines out of the store, as a fold takes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.codec import decode
from shared.journey.fold import Journey
from shared.journey.touch import Lens, Touch
from shared.store.engine import Connection

# A body is sent only where something in it is asked for.
_TIMELINES = """
SELECT customer_id, occurred_at, id, type, channel,
    CASE WHEN $3::text[] IS NULL OR type = ANY($3) THEN body END AS body
FROM touchpoints
WHERE customer_id = ANY($1::uuid[]) AND ($2::text[] IS NULL OR type = ANY($2))
    AND ($4::timestamptz IS NULL OR occurred_at <= $4)
ORDER BY customer_id, occurred_at, id
"""


async def read_timelines(
    connection: Connection,
    customer_ids: Sequence[UUID],
    journeys: Sequence[Journey],
    until: datetime | None = None,
) -> Mapping[UUID, Sequence[Touch]]:
    """The touches that concern one of the journeys, of each customer that has any, in the fold's order, with
    what the journeys ask for; `until` leaves out the later ones."""
    types = _types(journeys)
    lens = Lens(journey.asks for journey in journeys)
    found: dict[UUID, list[Touch]] = defaultdict(list)
    rows = await connection.fetch(_TIMELINES, customer_ids, types, lens.types_with_content, until)
    for row in rows:
        found[row["customer_id"]].append(_touch(lens, row))
    return found


def _types(journeys: Sequence[Journey]) -> Sequence[str] | None:
    found: set[str] = set()
    for journey in journeys:
        if journey.types is None:
            return None
        found |= journey.types
    return sorted(found)


def _touch(lens: Lens, row: asyncpg.Record) -> Touch:
    if row["body"] is None:
        return Touch(row["occurred_at"], row["id"], row["type"], row["channel"])
    return lens.touch(row["id"], decode(row["body"]))
