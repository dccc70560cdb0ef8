"""Times on their way to the store and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.store.engine import connection_of, open_pool

MOMENTS = [
    datetime(2026, 3, 1, 12, tzinfo=UTC),
    datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC),
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30))),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
async def test_a_time_is_the_same_on_both_sides(database_url: str, moment: datetime) -> None:
    """To the microsecond, alone and in an array; and it comes back in UTC."""
    pool = await open_pool(database_url, connections_max=1, service="test")
    try:
        async with connection_of(pool) as connection:
            text = await connection.fetchval(
                "SELECT to_char($1::timestamptz, 'YYYY-MM-DD HH24:MI:SS.US')", moment
            )
            back = await connection.fetchval("SELECT $1::timestamptz", moment)
            in_array = await connection.fetchval("SELECT $1::timestamptz[]", [moment])
    finally:
        pool.terminate()

    assert text == moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f").rjust(26, "0")
    assert [back] == in_array == [moment]
    assert back.tzinfo is UTC
