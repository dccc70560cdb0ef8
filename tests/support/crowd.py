"""A crowd of which every third comes under several names until these are linked: customers that merge.

None of its links is held back by a limit. So who is who hangs on the touchpoints alone and on no order.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import Any, TypeAlias

import asyncpg
import msgspec

from tests.support.people import Pair, components

Names = Mapping[str, str]
"""What somebody is known by, the value by its kind, the strongest first."""

DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
"""How many PostgreSQL has met in a database; each connection tells at its end what it has met."""

_ROWS = 5_000
_HELD_BACK = """
SELECT (SELECT count(*) FROM identity_conflicts) + (SELECT count(*) FROM identity_holders)
    + (SELECT count(*) FROM identity_links WHERE unsettled_at IS NOT NULL)
"""
_IDENTITIES = "SELECT identity, customer_id FROM identities"
_TOUCHPOINTS = "SELECT customer_id, body FROM touchpoints"
_WITHDRAWN = "SELECT identity, other FROM identity_links WHERE withdrawn_at IS NOT NULL"

_Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)


class _Said(msgspec.Struct):
    """What of a touchpoint says who it is about."""

    identities: tuple[str, ...]


def _identities(body: bytes) -> tuple[str, ...]:
    return msgspec.json.decode(body, type=_Said).identities


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
    """What the store has wrong of who its touchpoints belong to, given the links that are withdrawn by now;
    empty: nothing. None may be held back by a limit, and none may wait to be settled."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _wrongly(connection)


async def _wrongly(connection: _Connection) -> list[str]:
    held_back = await connection.fetchval(_HELD_BACK)
    found = [f"{held_back} links are refused, handed over or not settled"] if held_back else []
    owners = {row["identity"]: row["customer_id"] for row in await connection.fetch(_IDENTITIES)}
    names: set[str] = set()
    told: set[Pair] = set()
    misplaced = 0
    async for customer_id, body in connection.cursor(_TOUCHPOINTS, prefetch=_ROWS):
        strongest, *others = (one for one in _identities(body) if not one.startswith("account_id:"))
        names |= {strongest, *others}
        told |= {(strongest, other) for other in others}
        misplaced += owners.get(strongest) != customer_id
    if misplaced:
        found.append(f"{misplaced} touchpoints are not with their strongest identity")
    stored: defaultdict[Any, set[str]] = defaultdict(set)
    for one, owner_id in owners.items():
        stored[owner_id].add(one)
    expected = components(names, told - await withdrawn_links(connection))
    for people in expected ^ set(map(frozenset, stored.values())):
        is_stored = "lacks" if people in expected else "has"
        found.append(f"the store {is_stored} a customer with the identities {sorted(people)[:10]}")
    dangling = await connection.fetch(
        "SELECT alias_id FROM customer_aliases WHERE customer_id NOT IN (SELECT id FROM customers)"
    )
    return [*found, *(f"the alias {alias_id} leads nowhere" for (alias_id,) in dangling)]


async def withdrawn_links(connection: _Connection) -> Set[Pair]:
    """The links that count no more."""
    return {(row["identity"], row["other"]) for row in await connection.fetch(_WITHDRAWN)}
