"""Migrations keep what is in the store, in its new shape."""

from __future__ import annotations

import asyncio

import asyncpg

from shared.store.migrate import upgrade_async
from tests.support.postgres import Postgres

_HOURS = """
INSERT INTO stage_flows
    (journey_key, version, hour, from_stage, from_paused, to_stage, to_paused, shard, count)
VALUES ('j', 1, '2026-01-31T23:00Z', '', false, 'a', false, 0, 2),
    ('j', 1, '2026-02-01T00:00Z', '', false, 'a', false, 0, 3),
    ('j', 1, '2026-02-01T05:00Z', '', false, 'a', false, 0, 4)
"""
_SUMS = "SELECT span, since::text, count FROM stage_flows WHERE span <> 'hour' ORDER BY span, since"


async def test_flows_by_the_hour_get_their_sums_by_day_and_month(postgres: Postgres) -> None:
    """In UTC, whatever the session's time zone is."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0001")
        connection = await asyncpg.connect(url, server_settings={"timezone": "Asia/Tokyo"})
        await connection.execute(_HOURS)
        await upgrade_async(url)
        await connection.execute("SET timezone TO 'UTC'")
        sums = [tuple(row) for row in await connection.fetch(_SUMS)]
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert sums == [
        ("day", "2026-01-31 00:00:00+00", 2),
        ("day", "2026-02-01 00:00:00+00", 7),
        ("month", "2026-01-01 00:00:00+00", 2),
        ("month", "2026-02-01 00:00:00+00", 7),
    ]


_VERSIONS = """
INSERT INTO journey_definitions (key, version, hash, source, recorded_at, backfilled_at)
VALUES ('a', 1, '', '', now(), now()), ('a', 2, '', '', now(), now()), ('b', 1, '', '', now(), now()),
    ('b', 3, '', '', now(), NULL)
"""
_STATUS = """
SELECT key, version, activated_at IS NOT NULL, wanted_at IS NOT NULL, retired_at IS NOT NULL
FROM journey_definitions ORDER BY key, version
"""


async def test_the_highest_version_is_the_active_one_or_on_its_way(postgres: Postgres) -> None:
    """It was what everybody read, if its customers were all staged; lower ones have been folded no more."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0005")
        connection = await asyncpg.connect(url)
        await connection.execute(_VERSIONS)
        await upgrade_async(url)
        status = [tuple(row) for row in await connection.fetch(_STATUS)]
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert status == [
        ("a", 1, False, False, True),
        ("a", 2, True, False, False),
        ("b", 1, False, False, True),
        ("b", 3, False, True, False),
    ]
