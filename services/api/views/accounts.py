"""One account, and its runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from services.api.views.active import ActiveJourney
from services.api.views.answers import Account
from services.api.views.customers import QUERY_TIMEOUT_S, journeys_in
from shared.store.engine import Pool, connection_of
from shared.store.ids import account_uid

_ACCOUNT = """
SELECT a.id, a.created_at, s.states, s.run, a.identity AS account
FROM accounts AS a LEFT JOIN journey_states AS s ON s.customer_id = a.id
WHERE a.id = $1
"""


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
