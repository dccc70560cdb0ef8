"""A customer's proof in a journey, run by run, read from one snapshot of the store.

However long the timeline is, a bounded part of it is read: the states, and of each run a page of the history
with the touchpoints that caused it (each by its key), and the newest touchpoints. What the rules have counted
stands in the state; only near misses are looked for among touchpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from services.api.views.active import ActiveJourney
from services.api.views.answers import Proof
from services.api.views.customers import QUERY_TIMEOUT_S, is_told
from shared.codec import decode
from shared.journey.definition import Definition
from shared.journey.fold import subject_of
from shared.journey.misses import Seen
from shared.journey.proof import History, ProofRun
from shared.journey.reasons import TouchRef
from shared.journey.standing import CUSTOMER, About, about_of
from shared.journey.state import NOWHERE, State, Transition, mark_of, state_in
from shared.journey.touch import Lens, Touch
from shared.refs import CustomerRef
from shared.store.customers import ID_BY_ID, ID_BY_IDENTITY
from shared.store.engine import Connection, Pool, connection_of

TOUCHPOINTS_READ_MAX = 200
"""How many of the newest touchpoints are read, to find near misses."""

RUNS_PROVED_MAX = 10
"""Of a customer's runs, those that entered a stage last."""

_STATES = """
SELECT named.id, d.activated_at IS NOT NULL AS has_all, s.owner_id, s.run, s.account, s.states
FROM ({id}) AS named
LEFT JOIN LATERAL (
    SELECT one.customer_id AS owner_id, one.run, {account} AS account, one.states FROM {rows}
    ORDER BY one.entered_at DESC NULLS LAST, one.run, one.customer_id LIMIT {runs_max}
) AS s ON true
LEFT JOIN journey_definitions AS d ON d.key = $2 AND d.version = $3
"""
_ROWS = {
    "customer": "journey_states AS one WHERE one.customer_id = named.id AND one.run = ''",
    "property": "journey_states AS one WHERE one.customer_id = named.id AND one.run <> ''",
    "account": """account_members AS m JOIN accounts AS a ON a.id = m.account_id AND m.customer_id = named.id
        JOIN journey_states AS one ON one.customer_id = a.id WHERE m.until IS NULL""",
}
_STATES_BY = {
    (by_id, subject): _STATES.format(
        id=ID_BY_ID if by_id else ID_BY_IDENTITY,
        runs_max=RUNS_PROVED_MAX,
        account="a.identity" if subject == "account" else "NULL",
        rows=f"{rows} AND position($4 IN one.states) > 0",
    )
    for by_id in (False, True)
    for subject, rows in _ROWS.items()
}
_OWN_TIMELINE = "touchpoints"
_ACCOUNTS_TIMELINE = """(
    SELECT a.account_id AS customer_id, a.occurred_at, a.id, t.type, t.channel, t.body
    FROM account_touchpoints AS a JOIN touchpoints AS t USING (customer_id, occurred_at, id)
)"""
_HISTORY = """
SELECT h.seq, h.at, h.kind, h.from_stage, h.from_paused, h.to_stage, h.to_paused, h.touchpoint_id, h.rule,
    t.type, t.channel
FROM stage_transitions AS h
LEFT JOIN {timeline} AS t
    ON t.customer_id = h.customer_id AND t.occurred_at = h.at AND t.id = h.touchpoint_id
WHERE h.customer_id = $1 AND h.journey_key = $2 AND h.version = $3 AND h.seq < $4 AND h.superseded_at IS NULL
    AND h.run = $6
ORDER BY h.seq DESC LIMIT $5
"""
_NEWEST = """
SELECT occurred_at, id, type, channel, CASE WHEN $2::text[] IS NULL OR type = ANY($2) THEN body END AS body
FROM {timeline} AS t WHERE customer_id = $1 ORDER BY occurred_at DESC, id DESC LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class _Run:
    """A run: the customer or account whose it is, its name, its state, and what it is about."""

    owner_id: UUID
    run: str
    state: State
    about: About


async def find_proof(
    pool: Pool, active: ActiveJourney, ref: CustomerRef, before: int, changes_max: int, as_of: datetime
) -> Proof | None:
    """The proof of the customer that `ref` names, with the last `changes_max` transitions numbered below
    `before`; None: there is no such customer.

    Raises:
        Transient: the store is away or busy.
    """
    definition = active.definition
    query = _STATES_BY[isinstance(ref, UUID), definition.subject.kind]
    async with (
        connection_of(pool) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        key, version = definition.key, definition.version
        rows = await connection.fetch(
            query, ref, key, version, mark_of(key, version), timeout=QUERY_TIMEOUT_S
        )
        if not rows:
            return None
        runs: list[ProofRun] = []
        for one in _standing(rows, definition):
            history = await _history(connection, one, active, before, changes_max)
            seen = await _newest(connection, one, active)
            runs.append(active.prover.prove(one.state, history, seen, as_of, one.about))
    described = active.described()
    return Proof(
        rows[0]["id"],
        as_of,
        definition.key,
        definition.version,
        definition.labels,
        described.stages,
        described.exits,
        runs,
    )


def _standing(rows: Sequence[asyncpg.Record], definition: Definition) -> Iterator[_Run]:
    """The runs that there are. A customer's own is there without a state too, unless they may have a timeline
    from before the definition, not staged yet."""
    for id_, has_all, owner_id, run, account, states in rows:
        if states is not None:
            state = state_in(states, definition.key, definition.version)
            if is_told(run, state):
                yield _Run(owner_id, run, state, about_of(definition, run, account))
        elif has_all and definition.subject.kind == "customer":
            yield _Run(id_, "", NOWHERE, CUSTOMER)


def _timeline(active: ActiveJourney) -> str:
    return _ACCOUNTS_TIMELINE if active.definition.subject.kind == "account" else _OWN_TIMELINE


async def _history(
    connection: Connection, one: _Run, active: ActiveJourney, before: int, changes_max: int
) -> History:
    definition = active.definition
    rows = await connection.fetch(
        _HISTORY.format(timeline=_timeline(active)),
        one.owner_id,
        definition.key,
        definition.version,
        before,
        changes_max,
        one.run,
        timeout=QUERY_TIMEOUT_S,
    )
    return [_change(row) for row in reversed(rows)]


def _change(row: asyncpg.Record) -> tuple[Transition, TouchRef | None]:
    *fields, type_, channel = row
    change = Transition(*fields)
    if change.touchpoint_id is None:
        return change, None
    return change, TouchRef(change.touchpoint_id, change.at, type_, channel)


async def _newest(connection: Connection, one: _Run, active: ActiveJourney) -> Seen:
    lens = active.lens
    rows = await connection.fetch(
        _NEWEST.format(timeline=_timeline(active)),
        one.owner_id,
        lens.types_with_content,
        TOUCHPOINTS_READ_MAX + 1,
        timeout=QUERY_TIMEOUT_S,
    )
    newest = [_touch(lens, row) for row in rows[:TOUCHPOINTS_READ_MAX]]
    its = [touch for touch in newest if subject_of(active.definition, touch) == one.run]
    return Seen(its, whole=len(rows) <= TOUCHPOINTS_READ_MAX)


def _touch(lens: Lens, row: asyncpg.Record) -> Touch:
    if row["body"] is None:
        return Touch(row["occurred_at"], row["id"], row["type"], row["channel"])
    return lens.touch(row["id"], decode(row["body"]))
