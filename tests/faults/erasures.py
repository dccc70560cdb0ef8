"""What the oracle holds erasures against: plain functions, so that a test can lie to them, and what they are
told of the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from shared.store.ids import touchpoint_uid
from shared.tombstones import digest_of
from tests.faults.ledger import Account
from tests.faults.promises import Id, Obligations, line
from tests.faults.report import Line
from tests.faults.traffic import micros_of, names_of

_ERASURES = """
SELECT id, erased_at, waits_since IS NULL AND carried_out_at IS NOT NULL AND named_by = '{}' AS carried_out,
    ARRAY(SELECT digest FROM erased_identities WHERE erasure_id = e.id) AS digests,
    ARRAY(SELECT a.id FROM erased_aliases AS a WHERE erasure_id = e.id) AS aliases
FROM erasures AS e
"""
_KNOWN = "SELECT id FROM touchpoint_ids WHERE id = ANY($1::uuid[])"
_BARE = "SELECT id FROM touchpoint_ids EXCEPT SELECT id FROM touchpoints"


@dataclass(frozen=True, slots=True)
class Grave:
    """What the store knows of an erasure: the ids that the customer had, the last one first; and the names
    that it knows again, None where nobody asked for it."""

    ids: Sequence[UUID]
    at: datetime
    carried_out: bool
    names: Set[str | None]


async def graves(connection: asyncpg.Connection[asyncpg.Record], account: Account) -> Sequence[Grave]:
    """All erasures of the store, with names as far as a ledger knows them."""
    names = {
        digest_of(name): name
        for asked in account.erasures
        for name in (f"{kind}:{value}" for kind, value in names_of(asked.number).items())
    }
    return [
        Grave([id_, *aliases], at, carried_out, {names.get(digest) for digest in digests})
        for id_, at, carried_out, digests, aliases in await connection.fetch(_ERASURES)
    ]


async def known_ids(connection: asyncpg.Connection[asyncpg.Record], obligations: Obligations) -> Set[Id]:
    """Those events of erased people whose ids the store knows."""
    by_uid = {touchpoint_uid(*id_): id_ for id_ in obligations.gone}
    return {by_uid[row["id"]] for row in await connection.fetch(_KNOWN, list(by_uid))}


async def bare_ids(connection: asyncpg.Connection[asyncpg.Record]) -> Set[UUID]:
    """The ids of touchpoints that the store knows and doesn't have."""
    return {row["id"] for row in await connection.fetch(_BARE)}


def erased_until(found: Collection[Grave]) -> Mapping[str, int]:
    """The names that were erased, each with the last time of that, in the traffic's microseconds."""
    until: dict[str, int] = {}
    for grave in found:
        for name in grave.names - {None}:
            assert name is not None
            until[name] = max(until.get(name, 0), micros_of(grave.at))
    return until


def of_the_erasures(account: Account, found: Collection[Grave]) -> list[Line]:
    """What was acked is carried out, of all that the customer was known by; what was not may have happened,
    but not by half; and nothing else has."""
    acked = {asked.acked: asked.names for asked in account.erasures if asked.acked}
    done = {(grave.ids[0], grave.at): grave.names for grave in found if grave.carried_out}
    missed = [one for one, names in acked.items() if one not in done or not names <= done[one]]
    wrong = [
        grave.ids[0]
        for grave in found
        if not grave.carried_out or not any(asked.names <= grave.names for asked in account.erasures)
    ]
    unasked = [grave.ids[0] for grave in found if None in grave.names]
    return [
        line(f"acked erasures, of {len(acked)}, that are not carried out", "0", missed),
        line(f"erasures, of {len(found)}, that are half done or unasked for", "0", [*wrong, *unasked]),
    ]


def of_their_ids(obligations: Obligations, below: Set[Id], known: Set[Id], bare: Set[UUID]) -> list[Line]:
    """What was staged of an erased person keeps its id, so that it is a duplicate if it comes again; and no
    other id is there without its event. `below` are the ids that the log has below the stored offsets."""
    forgotten = (obligations.gone & (obligations.acked | below)) - known
    stray = bare - {touchpoint_uid(*id_) for id_ in obligations.gone}
    return [
        line("events of erased people whose ids are forgotten", "0", forgotten),
        line("ids of others without their events", "0", stray),
    ]


def must_be_nowhere(
    account: Account, found: Collection[Grave], obligations: Obligations
) -> tuple[Collection[str], Collection[UUID]]:
    """What no table may have any more: names, but of those who came back, and ids of customers and of what
    they did."""
    came_back = {name for name, _ in account.returns}
    ids = {id_ for grave in found for id_ in grave.ids} | {touchpoint_uid(*one) for one in obligations.gone}
    return obligations.erased.keys() - came_back, ids
