"""One customer: identities and stages, in one query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby, islice
from uuid import UUID

import asyncpg

from services.api.views.active import ActiveJourney
from services.api.views.answers import Customer, CustomerJourney, Identity
from shared.journey import standing
from shared.journey.standing import Upcoming, about_of
from shared.journey.state import NEVER, State, decode_states, mark_of
from shared.refs import CustomerRef
from shared.store.customers import ID_BY_ID, ID_BY_IDENTITY
from shared.store.engine import Pool, connection_of

QUERY_TIMEOUT_S = 3.0
RUNS_MAX = 100
"""Of a journey, in one answer: those that entered a stage last."""

ALIASES_MAX = 100
"""Of the ids that were merged into a customer's, in one answer: the latest."""

_CUSTOMER = f"""
SELECT c.id, c.created_at, i.identities, i.linked_at, i.aliases, s.states, s.run, s.account
FROM ({{id}}) AS named JOIN customers AS c ON c.id = named.id
CROSS JOIN LATERAL (
    SELECT array_agg(identity ORDER BY linked_at, identity) AS identities,
        array_agg(linked_at ORDER BY linked_at, identity) AS linked_at,
        ARRAY(
            SELECT alias_id FROM customer_aliases WHERE customer_id = c.id
            ORDER BY merged_at DESC, alias_id DESC LIMIT {ALIASES_MAX}
        ) AS aliases
    FROM identities WHERE customer_id = c.id
) AS i
LEFT JOIN LATERAL ({{runs}}) AS s ON true
"""
_ONE_A_JOURNEY = (
    "SELECT states, run, NULL AS account FROM journey_states WHERE customer_id = c.id AND run = ''"
)
# Asked only if a journey is active that may have several runs a customer; $2 are the marks of these.
_SEVERAL = f"""
    {_ONE_A_JOURNEY}
    UNION ALL (
        SELECT states, run, NULL FROM journey_states
        WHERE customer_id = c.id AND run IN (
            SELECT latest.run FROM unnest($2::bytea[]) AS mark CROSS JOIN LATERAL (
                SELECT run FROM journey_states
                WHERE customer_id = c.id AND run <> '' AND position(mark IN states) > 0
                ORDER BY entered_at DESC NULLS LAST, run LIMIT {RUNS_MAX}
            ) AS latest
        )
    )
    UNION ALL (
        SELECT s.states, s.run, a.identity FROM account_members AS m JOIN accounts AS a ON a.id = m.account_id
        JOIN journey_states AS s ON s.customer_id = a.id
        WHERE m.customer_id = c.id AND m.until IS NULL
        ORDER BY m.linked_at DESC, a.identity LIMIT {RUNS_MAX}
    )
"""
_QUERIES = {
    (by_id, several): _CUSTOMER.format(
        id=ID_BY_ID if by_id else ID_BY_IDENTITY, runs=_SEVERAL if several else _ONE_A_JOURNEY
    )
    for by_id in (False, True)
    for several in (False, True)
}


async def find_customer(
    pool: Pool, journeys: Mapping[str, ActiveJourney], ref: CustomerRef, as_of: datetime
) -> Customer | None:
    """The customer that `ref` names, in the active journeys; None: there is none.

    Raises:
        Transient: the store is away or busy.
    """
    several = [one.definition for one in journeys.values() if one.definition.subject.kind != "customer"]
    query = _QUERIES[isinstance(ref, UUID), bool(several)]
    marks = [[mark_of(one.key, one.version) for one in several]] if several else []
    async with connection_of(pool) as connection:
        rows = await connection.fetch(query, ref, *marks, timeout=QUERY_TIMEOUT_S)
    if not rows:
        return None
    id_, created_at, identities, linked_at, aliases = rows[0][:5]
    return Customer(
        id_, created_at, as_of, _identities(identities, linked_at), list(journeys_in(rows, journeys)), aliases
    )


def _identities(identities: Sequence[str] | None, linked_at: Sequence[datetime] | None) -> list[Identity]:
    found = []
    for identity, at in zip(identities or (), linked_at or (), strict=True):
        kind, _, value = identity.partition(":")
        found.append(Identity(kind, value, at))
    return found


def journeys_in(
    rows: Iterable[asyncpg.Record], journeys: Mapping[str, ActiveJourney]
) -> Iterable[CustomerJourney]:
    """What rows that end in states, run and account say of the active journeys: by journey, and of each the
    run first that entered a place last."""
    runs = [
        (active, kept.state, run, account)
        for *_, states, run, account in rows
        for kept in (decode_states(states) if states else ())
        if is_told(run, kept.state)
        and (active := journeys.get(kept.journey_key))
        and active.definition.version == kept.version
    ]
    runs.sort(key=lambda one: (one[3] or "", one[2]))
    runs.sort(key=lambda one: one[1].entered_at or NEVER, reverse=True)
    runs.sort(key=lambda one: one[0].definition.key)
    for _, of_one in groupby(runs, key=lambda one: one[0].definition.key):
        for active, state, run, account in islice(of_one, RUNS_MAX):
            yield _told(active, state, run, account)


def is_told(run: str, state: State) -> bool:
    """Whether a run is there: of a thing whose touchpoints are all somebody else's by now only the history
    is left."""
    return not run or state.at > NEVER


def _told(active: ActiveJourney, state: State, run: str, account: str | None) -> CustomerJourney:
    definition = active.definition
    return CustomerJourney(
        definition.key,
        definition.version,
        definition.labels,
        state.place,
        active.labels_of.get(state.place) if state.place is not None else None,
        state.paused,
        state.entered_at,
        state.furthest,
        state.lap,
        standing.stages_of(definition, state.observed),
        standing.stages_of(definition, state.inferred),
        list(standing.overlays(definition, state)),
        list(standing.signals(definition, state)),
        list(standing.tallies(definition, state)),
        _upcoming(active, state),
        state.substage,
        active.journey.persona(state),
        about_of(definition, run, account),
    )


def _upcoming(active: ActiveJourney, state: State) -> Upcoming | None:
    change = active.journey.upcoming(state)
    return None if change is None else standing.upcoming(change)
