"""Touchpoints whose type the catalogue doesn't have: counted, by name as far as there is room for names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from datetime import datetime

from services.stager import sql
from services.stager.batch import Incoming
from shared.store.engine import Connection
from shared.touchpoint_types import UNKNOWN_TYPES_MAX


def unknown_types(incoming: Iterable[Incoming], known: Set[str]) -> Counter[str]:
    """How many touchpoints are of each type that is not known."""
    return Counter([one.touchpoint.type for one in incoming if one.touchpoint.type not in known])


async def add_unknown_types(connection: Connection, types: Counter[str], shard: int, now: datetime) -> None:
    """Add touchpoints of unknown types to a shard's counts."""
    if types:
        names = sorted(types)
        counts = [types[name] for name in names]
        await connection.execute(sql.ADD_UNKNOWN_TYPES, names, counts, shard, now, UNKNOWN_TYPES_MAX)
