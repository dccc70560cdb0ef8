"""A crowd of which every third comes under several names until these are linked: customers that merge.

None of its links is held back by a limit. So who is who hangs on the touchpoints alone and on no order.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Any, TypeAlias

import asyncpg
import msgspec

from tests.support.people import People

Names = Mapping[str, str]
"""What somebody is known by, the value by its kind, the strongest first."""

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
"""How many PostgreSQL has met in a database; each connection tells at its end what it has met."""

_Sets = Set[frozenset[Any]]
_Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)


class _Said(msgspec.Struct):
    """What of a touchpoint says who it is about."""

    occurred_at: datetime
    identities: tuple[str, ...]


def crowd(number: int) -> Sequence[Names]:
    """So many people."""
    return [_names(one) for one in range(number)]


def drawn(names: Names, chance: random.Random) -> Names:
    """Those that one touchpoint has: mostly one, and at times two, which it links."""
    kinds = chance.sample(list(names), min(len(names), 2 if chance.random() < 0.2 else 1))
    return {kind: names[kind] for kind in names if kind in kinds}


def _names(one: int) -> Names:
    if one % 3:
        return {"user_id": f"u{one}"}
    return {
        "user_id": f"u{one}",
        "loyalty_id": f"card-{one}",
        "phone": f"+4533{one:06d}",
        "anonymous_id": f"browser-{one}",
    }


async def who_is_who_wrongly(connection: _Connection) -> list[str]:
    """What the store has wrong of who its touchpoints belong to; empty: nothing. None of their links may be
    held back by a limit."""
    people = People()
    for id_, body in await connection.fetch("SELECT id, body FROM touchpoints"):
        one = msgspec.json.decode(body, type=_Said)
        names = [name for name in one.identities if not name.startswith("account_id:")]
        people.meet(id_, one.occurred_at, names)
    assert (people.refused.total(), people.handovers) == (0, 0)
    found = [
        *_differences("identities", people.identities(), await _sets(connection, "identity", "identities")),
        *_differences(
            "touchpoints",
            {frozenset(ids) for ids in people.timelines().values()},
            await _sets(connection, "id", "touchpoints"),
        ),
    ]
    dangling = await connection.fetch(
        "SELECT alias_id FROM customer_aliases WHERE customer_id NOT IN (SELECT id FROM customers)"
    )
    return [*found, *(f"the alias {alias_id} leads nowhere" for (alias_id,) in dangling)]


async def _sets(connection: _Connection, column: str, table: str) -> _Sets:
    rows = await connection.fetch(f"SELECT array_agg({column}) FROM {table} GROUP BY customer_id")
    return {frozenset(values) for (values,) in rows}


def _differences(what: str, expected: _Sets, stored: _Sets) -> Iterator[str]:
    for one in stored ^ expected:
        is_stored = "has" if one in stored else "lacks"
        yield f"the store {is_stored} a customer with the {what} {sorted(map(str, one))[:10]}"
