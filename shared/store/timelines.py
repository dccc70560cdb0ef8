"""Timelines of customers and of accounts out of the store, as a fold takes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.codec import decode
from shared.journey.fold import Journey
from shared.journey.touch import Lens, Touch
from shared.store.engine import Connection

# A body is sent only where something in it is asked for. One that a name ($5) doesn't stand in holds nothing
# under that name, unless a backslash may hide it.
_NAMES = "($5::bytea IS NULL OR position($5 IN body) > 0 OR position('\\x5c'::bytea IN body) > 0)"

_TIMELINES = f"""
SELECT customer_id, occurred_at, id, type, channel,
    CASE WHEN $3::text[] IS NULL OR type = ANY($3) THEN body END AS body
FROM touchpoints
WHERE customer_id = ANY($1::uuid[]) AND ($2::text[] IS NULL OR type = ANY($2))
    AND ($4::timestamptz IS NULL OR occurred_at <= $4) AND {_NAMES}
ORDER BY customer_id, occurred_at, id
"""

# In the columns of _TIMELINES: whose timeline it is comes first.
_OF_ACCOUNTS = f"""
SELECT a.account_id AS customer_id, occurred_at, id, t.type, t.channel,
    CASE WHEN $3::text[] IS NULL OR t.type = ANY($3) THEN t.body END AS body
FROM account_touchpoints AS a JOIN touchpoints AS t USING (customer_id, occurred_at, id)
WHERE a.account_id = ANY($1::uuid[]) AND ($2::text[] IS NULL OR t.type = ANY($2))
    AND ($4::timestamptz IS NULL OR occurred_at <= $4) AND {_NAMES}
ORDER BY a.account_id, occurred_at, id
"""


async def read_timelines(
    connection: Connection,
    customer_ids: Sequence[UUID],
    journeys: Sequence[Journey],
    until: datetime | None = None,
) -> Mapping[UUID, Sequence[Touch]]:
    """The touches that concern one of the journeys, of each customer that has any, in the fold's order, with
    what the journeys ask for; `until` leaves out the later ones. If the journeys are about accounts, the ids
    are those of accounts. If all are about things, what names none may be left out."""
    query = _OF_ACCOUNTS if any(one.definition.subject.kind == "account" for one in journeys) else _TIMELINES
    types = types_of(journeys)
    lens = Lens(journey.asks for journey in journeys)
    found: dict[UUID, list[Touch]] = defaultdict(list)
    rows = await connection.fetch(
        query, customer_ids, types, lens.types_with_content, until, _name_of_things(journeys)
    )
    for row in rows:
        found[row["customer_id"]].append(touch_of(lens, row))
    return found


def types_of(journeys: Iterable[Journey]) -> Sequence[str] | None:
    """The types of touchpoints that concern one of the journeys; None: all do."""
    found: set[str] = set()
    for journey in journeys:
        if journey.types is None:
            return None
        found |= journey.types
    return sorted(found)


def _name_of_things(journeys: Sequence[Journey]) -> bytes | None:
    """What stands in every touchpoint of a run, if the journeys are all about things of one kind: they have
    no use for the others."""
    names = {journey.definition.subject.property_name for journey in journeys}
    (name,) = names if len(names) == 1 else (None,)
    return name.rpartition(".")[2].encode() if name else None


def touch_of(lens: Lens, row: asyncpg.Record) -> Touch:
    """The touch of a row that has the columns of a timeline."""
    if row["body"] is None:
        return Touch(row["occurred_at"], row["id"], row["type"], row["channel"])
    return lens.touch(row["id"], decode(row["body"]))
