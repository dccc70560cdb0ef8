"""A customer's proof in a journey, read from one snapshot of the store.

However long the timeline is, three queries read a bounded part of it: the state, a page of the history with
the touchpoints that caused it (each by its key), and the newest touchpoints. What the rules have counted
stands in the state; only near misses are looked for among touchpoints.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg

from services.api.views.active import ActiveJourney
from services.api.views.answers import Proof
from services.api.views.customers import ID_BY_ID, ID_BY_IDENTITY, QUERY_TIMEOUT_S
from services.api.views.refs import CustomerRef
from shared.codec import decode
from shared.journey.misses import Seen
from shared.journey.proof import History, ProofRun
from shared.journey.reasons import TouchRef
from shared.journey.state import NOWHERE, State, Transition, decode_state
from shared.journey.touch import Lens, Touch
from shared.store.engine import Connection, Pool, connection_of

TOUCHPOINTS_READ_MAX = 200
"""How many of the newest touchpoints are read, to find near misses."""

_STATE = """
SELECT named.id, s.state, d.activated_at IS NOT NULL AS has_all
FROM ({id}) AS named
LEFT JOIN journey_states AS s ON s.customer_id = named.id AND s.journey_key = $2 AND s.version = $3
LEFT JOIN journey_definitions AS d ON d.key = $2 AND d.version = $3
"""
_STATE_BY_IDENTITY = _STATE.format(id=ID_BY_IDENTITY)
_STATE_BY_ID = _STATE.format(id=ID_BY_ID)
_HISTORY = """
SELECT h.seq, h.at, h.kind, h.from_stage, h.from_paused, h.to_stage, h.to_paused, h.touchpoint_id, h.rule,
    t.type, t.channel
FROM stage_transitions AS h
LEFT JOIN touchpoints AS t
    ON t.customer_id = h.customer_id AND t.occurred_at = h.at AND t.id = h.touchpoint_id
WHERE h.customer_id = $1 AND h.journey_key = $2 AND h.version = $3 AND h.seq < $4 AND h.superseded_at IS NULL
ORDER BY h.seq DESC LIMIT $5
"""
_NEWEST = """
SELECT occurred_at, id, type, channel, CASE WHEN $2::text[] IS NULL OR type = ANY($2) THEN body END AS body
FROM touchpoints WHERE customer_id = $1 ORDER BY occurred_at DESC, id DESC LIMIT $3
"""


async def find_proof(
    pool: Pool, active: ActiveJourney, ref: CustomerRef, before: int, changes_max: int, as_of: datetime
) -> Proof | None:
    """The proof of the customer that `ref` names, with the last `changes_max` transitions numbered below
    `before`; None: there is no such customer.

    Raises:
        Transient: the store is away or busy.
    """
    definition = active.definition
    query = _STATE_BY_ID if isinstance(ref, UUID) else _STATE_BY_IDENTITY
    async with (
        connection_of(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        found = await connection.fetchrow(
            query, ref, definition.key, definition.version, timeout=QUERY_TIMEOUT_S
        )
        if found is None:
            return None
        state = _state(found)
        if state is not None:
            history = await _history(connection, found["id"], active, before, changes_max)
            seen = await _newest(connection, found["id"], active.lens)
            runs = [active.prover.prove(state, history, seen, as_of)]
        else:
            runs = list[ProofRun]()
    described = active.described()
    return Proof(
        found["id"],
        as_of,
        definition.key,
        definition.version,
        definition.labels,
        described.stages,
        described.exits,
        runs,
    )


def _state(row: asyncpg.Record) -> State | None:
    """The state; None: the customer may have a timeline from before the definition, not staged yet."""
    if row["state"] is not None:
        return decode_state(row["state"])
    return NOWHERE if row["has_all"] else None


async def _history(
    connection: Connection, customer_id: UUID, active: ActiveJourney, before: int, changes_max: int
) -> History:
    definition = active.definition
    rows = await connection.fetch(
        _HISTORY,
        customer_id,
        definition.key,
        definition.version,
        before,
        changes_max,
        timeout=QUERY_TIMEOUT_S,
    )
    return [_change(row) for row in reversed(rows)]


def _change(row: asyncpg.Record) -> tuple[Transition, TouchRef | None]:
    *fields, type_, channel = row
    change = Transition(*fields)
    if change.touchpoint_id is None:
        return change, None
    return change, TouchRef(change.touchpoint_id, change.at, type_, channel)


async def _newest(connection: Connection, customer_id: UUID, lens: Lens) -> Seen:
    rows = await connection.fetch(
        _NEWEST, customer_id, lens.types_with_content, TOUCHPOINTS_READ_MAX + 1, timeout=QUERY_TIMEOUT_S
    )
    newest = [_touch(lens, row) for row in rows[:TOUCHPOINTS_READ_MAX]]
    return Seen(newest, whole=len(rows) <= TOUCHPOINTS_READ_MAX)


def _touch(lens: Lens, row: asyncpg.Record) -> Touch:
    if row["body"] is None:
        return Touch(row["occurred_at"], row["id"], row["type"], row["channel"])
    return lens.touch(row["id"], decode(row["body"]))
