"""The history that benchmarks fill into a store, on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime

import asyncpg

from tests.bench import history

_CUSTOMERS = 200
_STANDS = """
SELECT (SELECT count(DISTINCT customer_id) FROM stage_transitions) AS customers,
    (SELECT sum(count) FROM stage_counts) AS counted,
    (SELECT count(*) FROM stage_transitions) AS transitions,
    (SELECT sum(count) FROM stage_flows WHERE span = 'month') AS flows
"""


async def test_a_filled_store_is_as_a_stager_leaves_it(database_url: str) -> None:
    """The tables take it as it is; whoever bought is counted once, and every transition is in the flows."""
    await history.fill(database_url, _CUSTOMERS * history.TOUCHES_EACH, datetime(2026, 11, 1, tzinfo=UTC))
    connection = await asyncpg.connect(database_url)
    try:
        stands = await connection.fetchrow(_STANDS)
    finally:
        await connection.close()

    assert stands is not None
    # A quarter never buys.
    assert stands["customers"] == stands["counted"] == _CUSTOMERS * 3 // 4
    assert stands["transitions"] == stands["flows"] > stands["customers"]
