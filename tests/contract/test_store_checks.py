"""A store that may lose what it commits is refused; one that is only weak is used, and that is told."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from shared.errors import ConfigError
from shared.store.engine import Connection, require_durable, weaknesses
from tests.support.postgres import Postgres


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A session of a superuser."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_a_store_whose_commits_are_not_on_disk_is_refused(connection: Connection) -> None:
    """By name of the setting; as it comes it is fine."""
    await require_durable(connection)
    await connection.execute("SET synchronous_commit TO off")

    with pytest.raises(ConfigError, match="synchronous_commit off"):
        await require_durable(connection)


async def test_a_superuser_is_told_of_and_another_role_is_not(
    connection: Connection, postgres: Postgres
) -> None:
    """The pages of PostgreSQL 18 have checksums as they come, so that the role is all that is to be said."""
    assert postgres.execute("SHOW data_checksums") == "on"
    (told,) = await weaknesses(connection)
    await connection.execute("SET ROLE pg_monitor")

    assert "superuser" in told
    assert await weaknesses(connection) == []
