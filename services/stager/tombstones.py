"""Dropping what is told of customers who were erased: touchpoints from before, come late or sent again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from asyncpg import Record

from services.stager.batch import Incoming
from shared.store.engine import Connection
from shared.tombstones import Tombstone, digest_of, is_erased

_TOMBSTONES = """
SELECT digest, begin_at, begin_id, end_at, end_id, shared FROM erased_identities
WHERE digest = ANY($1::bytea[])
"""


async def without_erased(
    connection: Connection, fresh: Sequence[Incoming], last_erasure: datetime | None
) -> Sequence[Incoming]:
    """New touchpoints without those of erased customers. `last_erasure` is when somebody was erased last,
    which can't change before the transaction has ended; None: nobody ever was."""
    if last_erasure is None:
        return fresh
    old = [one for one in fresh if one.touchpoint.occurred_at <= last_erasure]
    names = {name for one in old for name in one.touchpoint.identities}
    if not names:
        return fresh
    found = tombstones(await connection.fetch(_TOMBSTONES, [digest_of(name) for name in names]))
    if not found:
        return fresh
    return [
        one
        for one in fresh
        if not is_erased(one.touchpoint.identities, (one.touchpoint.occurred_at, one.uid), found)
    ]


def tombstones(rows: Iterable[Record]) -> Mapping[bytes, Sequence[Tombstone]]:
    """Tombstones by digest, of rows that have their columns in order."""
    found: defaultdict[bytes, list[Tombstone]] = defaultdict(list)
    for digest, begin_at, begin_id, end_at, end_id, shared in rows:
        stone = Tombstone(digest, (begin_at, begin_id), (end_at, end_id), shared)
        found[stone.digest].append(stone)
    return found
