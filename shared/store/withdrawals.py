"""Withdrawing the link between two identities, and taking that back. Both are facts on the pair; a stager
carries them out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.store.engine import Connection

_WITHDRAW = """
UPDATE identity_links SET withdrawn_at = $3, unsettled_at = $3
WHERE {pair} AND withdrawn_at IS NULL RETURNING identity, other
"""
_TAKE_BACK = """
UPDATE identity_links SET withdrawn_at = NULL, unsettled_at = $3
WHERE {pair} AND withdrawn_at IS NOT NULL RETURNING identity, other
"""
# Without another one ($2) it is every pair that has the first.
_PAIR = """
(identity = $1 AND other = coalesce($2, other) OR other = $1 AND identity = coalesce($2, identity))
"""
_LINKS = f"""
SELECT identity, other, linked_at, withdrawn_at, unsettled_at IS NULL AS carried_out
FROM identity_links WHERE {_PAIR} ORDER BY identity, other LIMIT $3
"""
LINKS_MAX = 500


class LinkState(msgspec.Struct, frozen=True):
    """The link between two identities, as `kind:value`, the stronger one first: since when it is withdrawn
    (null: it is not), and whether a stager has carried out the latest word on it."""

    identity: str
    other: str
    linked_at: datetime
    withdrawn_at: datetime | None
    carried_out: bool


async def withdraw(connection: Connection, identity: str, other: str | None, now: datetime) -> int:
    """Withdraw the link between two identities, or every link of one; how many were withdrawn that were
    not."""
    return len(await connection.fetch(_WITHDRAW.format(pair=_PAIR), identity, other, now))


async def take_back(connection: Connection, identity: str, other: str | None, now: datetime) -> int:
    """Let withdrawn links count again; how many."""
    return len(await connection.fetch(_TAKE_BACK.format(pair=_PAIR), identity, other, now))


async def links_of(connection: Connection, identity: str, other: str | None) -> Sequence[LinkState]:
    """The link between two identities, or those of one, `LINKS_MAX` at most; empty: no touchpoint told of
    them together."""
    return [LinkState(*row) for row in await connection.fetch(_LINKS, identity, other, LINKS_MAX)]
