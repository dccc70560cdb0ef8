"""One account, its runs, and its members."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

import msgspec

from services.api.views import cursor
from services.api.views.active import ActiveJourney
from services.api.views.answers import Account, Member, Members
from services.api.views.customers import QUERY_TIMEOUT_S, journeys_in
from shared.store.engine import Pool, connection_of
from shared.store.ids import account_uid

_ACCOUNT = """
SELECT a.id, a.created_at, s.states, s.run, a.identity AS account
FROM accounts AS a LEFT JOIN journey_states AS s ON s.customer_id = a.id
WHERE a.id = $1
"""
_MEMBERS = """
SELECT a.id AS account, m.* FROM accounts AS a LEFT JOIN LATERAL (
    SELECT customer_id AS customer, linked_at, touchpoint_id AS touchpoint, since, until FROM account_members
    WHERE account_id = a.id AND customer_id > $2 ORDER BY customer_id LIMIT $3
) AS m ON true
WHERE a.id = $1 ORDER BY m.customer
"""

BEFORE_ALL = UUID(int=0)
"""Lower than every customer's id: where the first page begins."""


class _After(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last member of a page."""

    customer: UUID


_decoder = msgspec.msgpack.Decoder(_After)


async def find_account(
    pool: Pool, journeys: Mapping[str, ActiveJourney], identity: str, as_of: datetime
) -> Account | None:
    """The account of a normalised `account_id:…`, in the active journeys; None: there is none.

    Raises:
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        rows = await connection.fetch(_ACCOUNT, account_uid(identity), timeout=QUERY_TIMEOUT_S)
    if not rows:
        return None
    id_, created_at = rows[0][:2]
    account_id = identity.partition(":")[2]
    return Account(id_, account_id, created_at, as_of, list(journeys_in(rows, journeys)))


def from_cursor(text: str) -> UUID:
    """The customer behind whom a page of members goes on.

    Raises:
        ValueError: no answer of ours gave this cursor.
    """
    return cursor.from_text(text, _decoder).customer


async def find_members(pool: Pool, identity: str, after: UUID, members_max: int) -> Members | None:
    """The members behind a customer's id of the account of a normalised `account_id:…`; None: there is no
    such account.

    Raises:
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        rows = await connection.fetch(
            _MEMBERS, account_uid(identity), after, members_max + 1, timeout=QUERY_TIMEOUT_S
        )
    if not rows:
        return None
    found = [Member(*row[1:]) for row in rows if row["customer"] is not None]
    members = found[:members_max]
    next_cursor = cursor.to_text(_After(members[-1].customer)) if len(found) > members_max else None
    return Members(rows[0]["account"], identity.partition(":")[2], members, next_cursor)
