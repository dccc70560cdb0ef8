"""Finding the customer that a reference names. Each query is one lookup by key, or two."""

from __future__ import annotations

from uuid import UUID

from shared.refs import CustomerRef
from shared.store.engine import Connection

ID_BY_IDENTITY = "SELECT customer_id AS id FROM identities WHERE identity = $1"
ID_BY_ID = """
SELECT id FROM customers
WHERE id = coalesce((SELECT customer_id FROM customer_aliases WHERE alias_id = $1), $1) AND erased_at IS NULL
"""
"""Queries of the id of a customer, as $1 names one. An id that was merged into another one's names that one,
for ever. One who is erased is named by nothing."""


async def find_id(connection: Connection, ref: CustomerRef, timeout_s: float | None = None) -> UUID | None:
    """The id of the customer that `ref` names; None: there is none."""
    query = ID_BY_ID if isinstance(ref, UUID) else ID_BY_IDENTITY
    found: UUID | None = await connection.fetchval(query, ref, timeout=timeout_s)
    return found
