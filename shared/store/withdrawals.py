"""Withdrawing the link between two identities, and taking that back. Both are facts on the pair; a stager
carries them out."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.store.engine import Connection

# Without another one ($2) it is every pair that has the first.
_PAIR = """
(identity = $1 AND other = coalesce($2, other) OR other = $1 AND identity = coalesce($2, identity))
"""
# Locked in the order of their keys, so that two who say something of the same links never wait in a circle.
_SAY = f"""
WITH named AS (
    SELECT identity, other FROM identity_links
    WHERE {_PAIR} AND (withdrawn_at IS NOT NULL) <> $4 ORDER BY identity, other FOR UPDATE
)
UPDATE identity_links AS l SET withdrawn_at = CASE WHEN $4 THEN $3::timestamptz END, unsettled_at = $3
FROM named WHERE l.identity = named.identity AND l.other = named.other RETURNING l.identity
"""
OWNERS = """
(SELECT customer_id FROM identities WHERE identity = {one}
UNION SELECT customer_id FROM identity_holders WHERE identity = {one})
{both_or_either}
(SELECT customer_id FROM identities WHERE identity = {other}
UNION SELECT customer_id FROM identity_holders WHERE identity = {other})
"""
"""Whoever has, or once had, two identities: both (INTERSECT), or one of them (UNION)."""
_LINKS = f"""
SELECT identity, other, linked_at, withdrawn_at, unsettled_at IS NULL AS carried_out,
    EXISTS ({OWNERS.format(one="l.identity", other="l.other", both_or_either="INTERSECT")}) AS together
FROM identity_links AS l WHERE {_PAIR} ORDER BY identity, other LIMIT $3
"""
_EDGES = f"""
WITH owner AS (
    {OWNERS.format(one="$1", other="$2", both_or_either="INTERSECT")} LIMIT 1
), names AS (
    SELECT identity FROM identities WHERE customer_id = (SELECT customer_id FROM owner)
    UNION SELECT identity FROM identity_holders WHERE customer_id = (SELECT customer_id FROM owner)
)
SELECT identity, other FROM identity_links
WHERE withdrawn_at IS NULL AND identity IN (SELECT identity FROM names)
    AND other IN (SELECT identity FROM names) LIMIT $3
"""
LINKS_MAX = 500
EDGES_MAX = 10_000
"""Among which a way between two identities is looked for."""


class LinkState(msgspec.Struct, frozen=True):
    """The link between two identities, as `kind:value`, the stronger one first: since when it is withdrawn
    (null: it is not), and whether a stager has carried out the latest word on it. `together`: somebody has,
    or once had, both. A link that was taken back and refused, since a limit forbids it by now, is carried out
    and they are not."""

    identity: str
    other: str
    linked_at: datetime
    withdrawn_at: datetime | None
    carried_out: bool
    together: bool


class Links(msgspec.Struct, frozen=True):
    """How links stand. `held_together_by` is a way from one identity to the other by links that stand, if the
    link between the two is withdrawn and they are one customer nevertheless; else it is null."""

    links: Sequence[LinkState]
    held_together_by: Sequence[str] | None


async def withdraw(connection: Connection, identity: str, other: str | None, now: datetime) -> int:
    """Withdraw the link between two identities, or every link of one; how many were withdrawn that were
    not."""
    return len(await connection.fetch(_SAY, identity, other, now, True))


async def take_back(connection: Connection, identity: str, other: str | None, now: datetime) -> int:
    """Let withdrawn links count again; how many."""
    return len(await connection.fetch(_SAY, identity, other, now, False))


async def links_of(connection: Connection, identity: str, other: str | None) -> Links:
    """The link between two identities, or those of one, `LINKS_MAX` at most; none: no touchpoint told of
    them together."""
    links = [LinkState(*row) for row in await connection.fetch(_LINKS, identity, other, LINKS_MAX)]
    if other is None or not any(one.withdrawn_at for one in links):
        return Links(links, None)
    edges = await connection.fetch(_EDGES, identity, other, EDGES_MAX)
    return Links(links, _way(identity, other, [(row["identity"], row["other"]) for row in edges]))


def _way(begin: str, end: str, edges: Sequence[tuple[str, str]]) -> Sequence[str] | None:
    """A shortest way from one identity to another."""
    beside: defaultdict[str, list[str]] = defaultdict(list)
    for one, other in edges:
        beside[one].append(other)
        beside[other].append(one)
    ways = {begin: [begin]}
    reached = deque([begin])
    while reached and end not in ways:
        at = reached.popleft()
        for one in sorted(beside[at]):
            if one not in ways:
                ways[one] = [*ways[at], one]
                reached.append(one)
    return ways.get(end)
