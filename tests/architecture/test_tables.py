"""The tables as the code knows them are the tables that the migrations make."""

from collections.abc import AsyncIterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from shared.store.tables import BY_CUSTOMER, metadata
from tests.support.postgres import sqlalchemy_url


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    """A connection to a database that the migrations have made."""
    engine = create_async_engine(sqlalchemy_url(database_url), poolclass=NullPool)
    async with engine.connect() as opened:
        yield opened
    await engine.dispose()


async def test_the_migrations_make_the_tables_that_the_code_describes(connection: AsyncConnection) -> None:
    """Nothing is on one side only: no table, column, type, default, index or constraint."""
    assert await connection.run_sync(_differences) == []


async def test_rows_of_one_customer_lie_together() -> None:
    """Every table with a customer's rows has `customer_id` first in its primary key, so that it can be
    divided by it; every other table with such a column only points to a customer."""
    pointing = {"account_touchpoints", "customer_aliases", "identities", "identity_holders", "parted_ends"}
    with_customer = {table.name for table in metadata.sorted_tables if "customer_id" in table.columns}

    assert with_customer - pointing == {table.name for table in BY_CUSTOMER}
    for table in BY_CUSTOMER:
        assert table.primary_key.columns.keys()[0] == "customer_id", table.name


async def test_every_table_has_a_primary_key(connection: AsyncConnection) -> None:
    """Each row can be named, and a replica can follow its changes."""
    keyed = text(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = pg_class.oid AND contype = 'p')"
    )
    assert (await connection.execute(keyed)).all() == []


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True, "include_object": _is_ours}
    )
    return [found for found in compare_metadata(context, metadata) if not _is_about_a_comment(found)]


def _is_ours(_: object, name: str | None, kind: str, __: bool, ___: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def _is_about_a_comment(difference: object) -> bool:
    """Comments are for the reader of the code; the database needs none."""
    return isinstance(difference, list) and all(step[0] == "modify_comment" for step in difference)
