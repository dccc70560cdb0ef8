"""Which touchpoints of a batch are new: an id is kept for ever, and the first one of an id wins.

Theory of operation. The key of `touchpoint_ids` is the judge. To look ids up before they are kept costs
PostgreSQL nearly as much again, and nearly all of them are new. So a large batch keeps its ids unseen; if one
is there, the batch is rolled back and run again, now with a look-up, and the batches after it look too, until
none of them has met a duplicate for long. A small batch always looks: that is cheaper than being run again.

With or without a look-up, an id that another transaction keeps meanwhile violates the key too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from asyncpg import UniqueViolationError

from services.stager import sql
from services.stager.batch import Incoming
from shared.errors import Contended
from shared.store.engine import Connection

UNSEEN_FROM = 1_000
"""Ids; fewer are looked up whatever came before."""
LOOKED_UP_AFTER = 100
"""Batches that look their ids up after a duplicate: the one that is run twice is at most so seldom."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """The touchpoints that are new, and how many are not: sent again, or with another body."""

    fresh: Sequence[Incoming]
    duplicates: int
    conflicts: int


class Ids:
    """Keeps the ids of batches, and remembers whether duplicates are about. A batch with fewer ids than
    `unseen_from` looks whatever came before."""

    def __init__(self, unseen_from: int) -> None:
        self._unseen_from = unseen_from
        self._look_ups_left = 0

    async def sort_out(self, connection: Connection, incoming: Sequence[Incoming]) -> Sorted:
        """Tell what is new from what was there, in the batch and in the store, and keep the ids that are new.

        Raises:
            Contended: an id is there that was not seen; run again, the batch finds it.
        """
        if not incoming:
            return Sorted([], 0, 0)
        first: dict[UUID, Incoming] = {}
        for one in incoming:
            first.setdefault(one.uid, one)
        ids = sorted(first)
        stored = await self._stored(connection, ids)
        new = [(id_, first[id_].body_hash) for id_ in ids if id_ not in stored]
        if new:
            await self._keep(connection, new)
        if len(new) == len(incoming):
            return Sorted(incoming, 0, 0)
        fresh = [one for one in first.values() if one.uid not in stored]
        conflicts = sum(one.body_hash != stored.get(one.uid, first[one.uid].body_hash) for one in incoming)
        return Sorted(fresh, len(incoming) - len(fresh) - conflicts, conflicts)

    async def _stored(self, connection: Connection, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """Those of the ids that are there, with the digests of their bodies, as far as a look is worth it."""
        if len(ids) >= self._unseen_from:
            if self._look_ups_left == 0:
                return {}
            self._look_ups_left -= 1
        rows = await connection.fetch(sql.BODY_HASHES, ids)
        if rows:
            self._look_ups_left = LOOKED_UP_AFTER
        return {row["id"]: row["body_hash"] for row in rows}

    async def _keep(self, connection: Connection, new: Sequence[tuple[UUID, int]]) -> None:
        try:
            await connection.copy_records_to_table("touchpoint_ids", columns=sql.ID_COLUMNS, records=new)
        except UniqueViolationError:
            self._look_ups_left = LOOKED_UP_AFTER
            raise Contended("an id is there that was not seen") from None
