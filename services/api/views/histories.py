"""A customer's history in a journey in two times: when it was true, and when Rejse knew it.

A change is known from the instant that it was recorded on and until the instant that a refold superseded it,
that one not included. So at any instant there is one history of a customer, the one that was folded of what
was known by then; of several that were recorded at one instant, it is the last.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec

from services.api.views import cursor
from services.api.views.active import ActiveJourney
from services.api.views.answers import Cause, History, HistoryItem
from services.api.views.customers import QUERY_TIMEOUT_S
from shared.refs import CustomerRef
from shared.store.customers import find_id
from shared.store.engine import Pool, connection_of

# A page goes on before a change, so the place at its end has to be looked up by itself.
_PAGE = """
SELECT seq, at, kind, from_stage, from_paused, to_stage, to_paused, touchpoint_id, rule, revision,
    recorded_at, superseded_at
FROM stage_transitions
WHERE customer_id = $1 AND journey_key = $2 AND version = $3 AND run = $8 AND seq < $6 AND at <= $4
    AND CASE WHEN $5::timestamptz IS NULL THEN superseded_at IS NULL
        ELSE recorded_at <= $5 AND (superseded_at IS NULL OR superseded_at > $5) END
ORDER BY seq DESC LIMIT $7
"""

_ACCOUNT = """
SELECT a.id FROM accounts AS a JOIN account_members AS m ON m.account_id = a.id
WHERE a.identity = $1 AND m.customer_id = $2
"""

_SEQ_MAX = 2**31 - 1
_END_OF_TIME = datetime.max.replace(tzinfo=UTC)


class AsOf(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Which history: as it was at `at`, as it was known at `known_at`, and of it the changes numbered less
    than `before`. None: all that stands, also what lies ahead of the clock."""

    at: datetime | None = None
    known_at: datetime | None = None
    before: int = _SEQ_MAX


_decoder = msgspec.msgpack.Decoder(AsOf)


def from_cursor(text: str) -> AsOf:
    """Where a cursor says to go on.

    Raises:
        ValueError: no answer of ours gave this cursor.
    """
    as_of = cursor.from_text(text, _decoder)
    if not cursor.are_storable((as_of.before,), tuple(filter(None, (as_of.at, as_of.known_at)))):
        raise ValueError("is no cursor of ours")
    return as_of


async def find_history(
    pool: Pool,
    active: ActiveJourney,
    ref: CustomerRef,
    as_of: AsOf,
    now: datetime,
    changes_max: int,
    run: str = "",
) -> History | None:
    """The newest changes of the history of the customer that `ref` names, or of their thing or account that
    `run` names; None: there is no such customer.

    Raises:
        Transient: the store is away or busy.
    """
    definition = active.definition
    async with connection_of(pool) as connection:
        customer_id = await find_id(connection, ref, QUERY_TIMEOUT_S)
        if customer_id is None:
            return None
        owner_id = customer_id
        if definition.subject.kind == "account":
            owner_id = await connection.fetchval(_ACCOUNT, run, customer_id, timeout=QUERY_TIMEOUT_S)
            run = ""
        asked = (
            *(owner_id, definition.key, definition.version),
            *(as_of.at or _END_OF_TIME, as_of.known_at),
        )
        rows = await connection.fetch(
            _PAGE, *asked, as_of.before, changes_max + 1, run, timeout=QUERY_TIMEOUT_S
        )
        newest = rows[:1]
        if as_of.before != _SEQ_MAX:
            newest = await connection.fetch(_PAGE, *asked, _SEQ_MAX, 1, run, timeout=QUERY_TIMEOUT_S)
    return _history(active, customer_id, as_of, now, rows, newest, changes_max)


def _history(
    active: ActiveJourney,
    customer_id: UUID,
    as_of: AsOf,
    now: datetime,
    rows: list[asyncpg.Record],
    newest: list[asyncpg.Record],
    changes_max: int,
) -> History:
    page = rows[:changes_max]
    at, known_at = as_of.at or now, as_of.known_at or now
    stage: str | None = newest[0]["to_stage"] if newest else None
    return History(
        customer_id,
        active.definition.key,
        active.definition.version,
        at,
        known_at,
        stage,
        None if stage is None else active.labels_of.get(stage),
        newest[0]["to_paused"] if newest else False,
        [_item(row) for row in page],
        cursor.to_text(AsOf(at, known_at, page[-1]["seq"])) if len(rows) > changes_max else None,
    )


def _item(row: asyncpg.Record) -> HistoryItem:
    return HistoryItem(
        row["at"],
        row["kind"],
        row["from_stage"],
        row["to_stage"],
        row["from_paused"],
        row["to_paused"],
        Cause(row["touchpoint_id"], row["rule"]),
        row["revision"],
        row["recorded_at"],
        row["superseded_at"],
    )
