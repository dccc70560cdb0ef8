"""A customer's timeline: touchpoints and stage changes together, newest first, page by page.

Touchpoints are read from the cursor on, along their key, so a page costs the same wherever it lies; stage
changes, which are few, are read for the whole customer and cut to the page. The order is `position`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from services.api.views.active import ActiveJourney
from services.api.views.answers import Cause, StageChangeItem, Timeline, TouchpointItem
from services.api.views.customers import QUERY_TIMEOUT_S
from services.api.views.position import (
    BY_TIME,
    CAUSED,
    END,
    NO_TOUCHPOINT,
    TOUCHPOINT,
    Position,
    to_cursor,
)
from shared.codec import decode
from shared.journey.standing import about_of
from shared.refs import CustomerRef
from shared.store.customers import find_id
from shared.store.engine import Pool, connection_of

_PAGE = f"""
SELECT * FROM (
    (SELECT occurred_at AS at, id AS touchpoint_id, {TOUCHPOINT} AS rank,
        '' COLLATE "C" AS journey, 0 AS version, 0 AS seq, '' COLLATE "C" AS run, body,
        NULL AS kind, NULL AS from_stage, NULL::bool AS from_paused, NULL AS to_stage,
        NULL::bool AS to_paused, NULL AS rule
    FROM touchpoints
    WHERE customer_id = $1 AND $10 AND occurred_at >= $2 AND occurred_at < $3
        AND (occurred_at, id, {TOUCHPOINT}) < ($4, $5, $6::int)
        AND ($16::timestamptz IS NULL
            OR (convert_from(body, 'UTF8')::json ->> 'received_at')::timestamptz <= $16)
        AND ($12::text[] IS NULL OR channel = ANY($12)) AND ($13::text[] IS NULL OR type = ANY($13))
    ORDER BY occurred_at DESC, id DESC LIMIT $14)
    UNION ALL
    (SELECT at, coalesce(touchpoint_id, '{NO_TOUCHPOINT}') AS touchpoint_id,
        CASE WHEN touchpoint_id IS NULL THEN {BY_TIME} ELSE {CAUSED} END AS rank,
        journey_key COLLATE "C", version, seq, run, NULL,
        kind, from_stage, from_paused, to_stage, to_paused, rule
    FROM stage_transitions
    WHERE customer_id = $1 AND $11 AND at >= $2 AND at < $3
        AND CASE WHEN $16::timestamptz IS NULL THEN superseded_at IS NULL
            ELSE recorded_at <= $16 AND (superseded_at IS NULL OR superseded_at > $16) END
        AND (at, coalesce(touchpoint_id, '{NO_TOUCHPOINT}'),
            CASE WHEN touchpoint_id IS NULL THEN {BY_TIME} ELSE {CAUSED} END,
            journey_key COLLATE "C", version, seq, run)
            < ($4, $5, $6::int, $7::text, $8::int, $9::int, $15::text)
        AND (journey_key, version) IN (
            SELECT key, version FROM journey_definitions WHERE activated_at IS NOT NULL)
    ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC, 5 DESC, 6 DESC, 7 DESC LIMIT $14)
) AS items
ORDER BY at DESC, touchpoint_id DESC, rank DESC, journey DESC, version DESC, seq DESC, run DESC LIMIT $14
"""

BEGIN = datetime.min.replace(tzinfo=UTC)
"""Earlier than every item."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items: event time from `begin` on and before `end`, touchpoints, stage changes or both, and of
    the touchpoints those of the channels and types; None: of all. With `known_at`: as it was known then."""

    begin: datetime = BEGIN
    end: datetime = END.at
    touchpoints: bool = True
    stage_changes: bool = True
    channels: Sequence[str] | None = None
    types: Sequence[str] | None = None
    known_at: datetime | None = None


async def find_timeline(
    pool: Pool,
    journeys: Mapping[str, ActiveJourney],
    ref: CustomerRef,
    wanted: Filter,
    after: Position,
    items_max: int,
) -> Timeline | None:
    """The items that follow a position in the timeline of the customer that `ref` names; None: there is
    no such customer.

    Raises:
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        customer_id = await find_id(connection, ref, QUERY_TIMEOUT_S)
        if customer_id is None:
            return None
        rows = await connection.fetch(
            _PAGE,
            customer_id,
            wanted.begin,
            wanted.end,
            after.at,
            after.touchpoint_id,
            after.rank,
            after.journey,
            after.version,
            after.seq,
            wanted.touchpoints,
            wanted.stage_changes,
            wanted.channels,
            wanted.types,
            items_max + 1,
            after.run,
            wanted.known_at,
            timeout=QUERY_TIMEOUT_S,
        )
    page = rows[:items_max]
    cursor = to_cursor(_position(page[-1])) if len(rows) > items_max else None
    return Timeline(customer_id, [_item(row, journeys) for row in page], cursor)


def _position(row: asyncpg.Record) -> Position:
    return Position(*row[:7])


def _item(row: asyncpg.Record, journeys: Mapping[str, ActiveJourney]) -> TouchpointItem | StageChangeItem:
    if row["rank"] == TOUCHPOINT:
        return _touchpoint(row["touchpoint_id"], row["body"])
    return _stage_change(row, journeys.get(row["journey"]))


def _touchpoint(id_: UUID, body: bytes) -> TouchpointItem:
    touchpoint = decode(body)
    return TouchpointItem(
        touchpoint.occurred_at,
        id_,
        touchpoint.id,
        touchpoint.type,
        touchpoint.channel,
        touchpoint.source,
        touchpoint.owner,
        touchpoint.sentiment,
        touchpoint.identities,
        touchpoint.received_at,
        touchpoint.sent_at,
        touchpoint.properties,
        touchpoint.traits,
        touchpoint.context,
        touchpoint.consent,
    )


def _stage_change(row: asyncpg.Record, active: ActiveJourney | None) -> StageChangeItem:
    return StageChangeItem(
        row["at"],
        row["journey"],
        row["version"],
        row["kind"],
        row["from_stage"],
        row["to_stage"],
        row["from_paused"],
        row["to_paused"],
        Cause(row["touchpoint_id"] if row["rank"] == CAUSED else None, row["rule"]),
        about_of(active.definition if active else None, row["run"]),
    )
