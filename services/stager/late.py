"""Refolding the runs that touchpoints came too late for, from as little of their timelines as it takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from services.stager import sql
from services.stager.assign import Change, Held, has_checkpoints, position_of
from services.stager.changes import refold
from services.stager.checkpoints import Span, Whose, between, last_before
from services.stager.reading import read_and_fold
from services.stager.refolding import Late, Refold
from services.stager.runs import is_of_accounts
from services.stager.sql import columns
from shared.journey.fold import Journey
from shared.journey.state import NOWHERE, Transition
from shared.journey.touch import LAST_POSITION
from shared.store.engine import Connection

_RUNS_AT_ONCE = 500


async def refold_late(connection: Connection, late: Sequence[Late]) -> list[Change]:
    """Fold the runs anew."""
    changes = await _refold_things(connection, [one for one in late if not has_checkpoints(one.journey)])
    for of_accounts in (False, True):
        runs = [
            one for one in late if has_checkpoints(one.journey) and is_of_accounts(one.journey) == of_accounts
        ]
        runs.sort(key=lambda one: one.owner_id)
        for begin in range(0, len(runs), _RUNS_AT_ONCE):
            changes += await _refold_page(connection, runs[begin : begin + _RUNS_AT_ONCE], of_accounts)
    return changes


async def _refold_things(connection: Connection, late: Sequence[Late]) -> list[Change]:
    held: dict[Journey, dict[UUID, dict[str, Held]]] = defaultdict(lambda: defaultdict(dict))
    causes = {}
    for one in late:
        held[one.journey][one.owner_id][one.run] = one.held
        causes[one.journey, one.owner_id, one.run] = one.touches[0].id
    return [
        msgspec.structs.replace(change, late=causes[journey, change.customer_id, change.run])
        for journey, of_journey in held.items()
        for change in await refold(connection, journey, of_journey)
    ]


async def _refold_page(connection: Connection, late: Sequence[Late], of_accounts: bool) -> list[Change]:
    places = [((one.owner_id, one.journey), position_of(one.touches[0])) for one in late]
    since = await last_before(connection, places)
    refolds = [
        Refold(
            one.owner_id,
            one.journey,
            one.held,
            late=one.touches,
            since=since.get((one.owner_id, one.journey), NOWHERE),
        )
        for one in late
    ]
    await read_and_fold(connection, refolds, of_accounts=of_accounts)
    histories = await _histories(connection, [(one, *one.old_part) for one in refolds])
    changed = [one for one in refolds if one.met is not None and not one.is_as_before(histories[one.whose])]
    behind = await _histories(connection, [(one, one.met.transitions, None) for one in changed if one.met])
    recorded_anew = [
        Span(one.owner_id, one.journey, position_of(one.met), LAST_POSITION)
        for one in changed
        if one.met is not None and one.is_recorded_anew
    ]
    checkpoints = await between(connection, recorded_anew)
    return [
        one.change(
            [*histories[one.whose], *behind.get(one.whose, ())],
            [*checkpoints.get(one.whose, {}).values()],
        )
        for one in refolds
    ]


async def _histories(
    connection: Connection, parts: Sequence[tuple[Refold, int, int | None]]
) -> Mapping[Whose, Sequence[Transition]]:
    """What stands of histories, from a number on and up to another one, or to the last."""
    found: dict[Whose, list[Transition]] = {one.whose: [] for one, _, _ in parts}
    if not parts:
        return found
    journeys = {one.journey.version: one.journey for one, _, _ in parts}
    rows = columns([(one.owner_id, *one.journey.version, first, behind) for one, first, behind in parts])
    for owner_id, key, version, *transition in await connection.fetch(sql.HISTORY_PARTS, *rows):
        found[owner_id, journeys[key, version]].append(Transition(*transition))
    return found
