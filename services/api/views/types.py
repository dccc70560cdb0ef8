"""The touchpoint types: those of the catalogue, and those that came without being there."""

from __future__ import annotations

from collections.abc import Sequence

from services.api.views.answers import TouchpointTypes, TypeItem, UnknownType
from services.api.views.customers import QUERY_TIMEOUT_S
from shared.store.engine import Pool, connection_of
from shared.touchpoint_types import UNKNOWN_TYPES_MAX, catalogue, known_types

# What was unknown when it came may have got into the catalogue since.
_UNKNOWN = """
SELECT type, sum(count)::bigint AS count, max(recorded_at) AS last_stored_at FROM unknown_types
WHERE type <> ALL($1::text[]) GROUP BY type ORDER BY count DESC, type
"""


def listed_types() -> Sequence[TypeItem]:
    """Every type of the catalogue, in its order."""
    return [
        TypeItem(
            name,
            about,
            one.meaning,
            one.channels,
            one.segment,
            one.ga4,
            one.shopify,
            one.sentiment,
            one.content,
        )
        for about, types in catalogue().items()
        for name, one in types.items()
    ]


async def types_and_unknown(pool: Pool, types: Sequence[TypeItem]) -> TouchpointTypes:
    """The catalogue's types, and the unknown ones that were stored.

    Raises:
        Transient: the store is away or busy.
    """
    async with connection_of(pool) as connection:
        rows = await connection.fetch(_UNKNOWN, list(known_types()), timeout=QUERY_TIMEOUT_S)
    named = [UnknownType(**row) for row in rows if row["type"]]
    told = named[:UNKNOWN_TYPES_MAX]
    others = sum(row["count"] for row in rows) - sum(one.count for one in told)
    return TouchpointTypes(types, told, others)
