"""What is left of people who were erased: in whatever table, of those too that nobody has thought of yet."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg
import httpx

from tests.faults.traffic import MORTAL_NAME

_COLUMNS = """
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid JOIN pg_type ON pg_type.oid = atttypid
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
"""
# All but numbers, times and truth values.
_WITH_TEXT = f"""
SELECT relname, string_agg(quote_ident(attname), ', ') {_COLUMNS}
    AND typcategory NOT IN ('N', 'D', 'B') AND atttypid NOT IN ('uuid'::regtype, 'uuid[]'::regtype)
GROUP BY relname
"""
_WITH_IDS = f"""
SELECT relname, attname, atttypid = 'uuid[]'::regtype {_COLUMNS}
    AND atttypid IN ('uuid'::regtype, 'uuid[]'::regtype)
"""
_MAY_BE_THERE = frozenset(
    {
        ("erasures", "id"),
        ("erased_aliases", "id"),
        ("erased_aliases", "erasure_id"),
        ("erased_identities", "erasure_id"),
        ("touchpoint_ids", "id"),
    }
)
"""Where ids are kept of who was erased, and of what they did."""


async def remains(
    connection: asyncpg.Connection[asyncpg.Record], names: Collection[str], ids: Collection[UUID]
) -> Sequence[str]:
    """Where names, or ids of customers or touchpoints, still stand that must not."""
    async with connection.transaction():
        # Bytes that can be read.
        await connection.execute("SET LOCAL bytea_output = 'escape'")
        return [*await _with_names(connection, names), *await _with_ids(connection, ids)]


async def _with_names(
    connection: asyncpg.Connection[asyncpg.Record], names: Collection[str]
) -> Sequence[str]:
    values = {name.partition(":")[2] for name in names}
    found = []
    for table, columns in await connection.fetch(_WITH_TEXT):
        text = f"concat_ws(' ', {columns})"
        rows = await connection.fetch(f"SELECT {text} FROM {table} WHERE {text} ~ $1", MORTAL_NAME)
        for (row,) in rows:
            found += [f"{table}: {value}" for value in values.intersection(re.findall(MORTAL_NAME, row))]
    return found


async def _with_ids(connection: asyncpg.Connection[asyncpg.Record], ids: Collection[UUID]) -> Sequence[str]:
    found = []
    for table, column, is_array in await connection.fetch(_WITH_IDS):
        if (table, column) in _MAY_BE_THERE:
            continue
        each = f"unnest({column})" if is_array else column
        question = f"SELECT id FROM (SELECT {each} AS id FROM {table}) AS t WHERE id = ANY($1::uuid[])"
        found += [f"{table}.{column}: {id_}" for (id_,) in await connection.fetch(question, list(ids))]
    return found


async def not_gone(client: httpx.AsyncClient, ids: Collection[UUID]) -> Sequence[str]:
    """What the public API answers of ids of erased customers that is not 410."""
    answers = {id_: (await client.get(f"/v1/customers/{id_}")).status_code for id_ in ids}
    return [f"{status} to {id_}" for id_, status in answers.items() if status != 410]
