"""Ending sessions of stagers that stand still in the middle of a statement, and would keep their locks.

PostgreSQL's own timeouts end the transaction of a stager that is frozen or cut off, but not within a `COPY`
from its client: while it waits for the client's bytes it heeds no timeout, only that the session is to end
(`ProcessClientReadInterrupt` in its src/backend/tcop/postgres.c). Until the stager wakes up, nobody could
claim the partitions of that batch, nor write about its customers. So every stager looks for such sessions and
ends them.
"""

from __future__ import annotations

import logging

from shared.logs import fields
from shared.store.engine import Pool, connection_of

log = logging.getLogger("rejse.stager")

# What a statement of ours may take is the same for all sessions of a service's name.
_END = """
SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND application_name = current_setting('application_name')
  AND state = 'active' AND wait_event_type = 'Client'
  AND query_start < clock_timestamp() - current_setting('statement_timeout')::interval
"""


async def end_frozen(pool: Pool) -> int:
    """End the sessions of stagers of which PostgreSQL has waited for the client for longer than a statement
    may take, and return how many there were.

    Raises:
        Transient: the store is away.
    """
    async with connection_of(pool) as connection:
        ended = int(await connection.fetchval(_END))
    if ended:
        log.warning("frozen_sessions_ended", extra=fields(sessions=ended))
    return ended
