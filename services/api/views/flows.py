"""How often customers went from one stage or exit of a journey to another, up to a time."""

from __future__ import annotations

from datetime import datetime

from services.api.views.active import ActiveJourney
from services.api.views.answers import Flow, Flows
from services.api.views.customers import QUERY_TIMEOUT_S
from services.api.views.moves import moves_until
from shared.store.engine import Pool, connection_of

_FLOWS = """
SELECT from_stage, to_stage, sum(count)::bigint AS count FROM ({moves}) AS moves
WHERE from_stage <> to_stage GROUP BY from_stage, to_stage HAVING sum(count) <> 0
"""


async def flows_until(
    pool: Pool, active: ActiveJourney, at: datetime, known_at: datetime | None, now: datetime
) -> Flows:
    """The moves up to `at` (UTC), in the definition's order, as known now or at `known_at`; what a touchpoint
    that came late by then has shown not to have happened is not among them.

    Raises:
        Transient: the store is away or busy.
    """
    definition = active.definition
    moves, parameters = moves_until(active, at, known_at)
    async with connection_of(pool) as connection:
        rows = await connection.fetch(_FLOWS.format(moves=moves), *parameters, timeout=QUERY_TIMEOUT_S)
    order = {place: number for number, place in enumerate(("", *definition.places))}
    rows.sort(key=lambda row: (order[row["from_stage"]], order[row["to_stage"]]))
    flows = [Flow(row["from_stage"] or None, row["to_stage"], row["count"]) for row in rows]
    return Flows(definition.key, definition.version, at, known_at or now, flows)
