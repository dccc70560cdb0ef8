"""Folding customers and accounts anew whose timelines have got touchpoints of before, or have lost some."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from services.stager import sql
from services.stager.assign import Change, Held, unheard
from services.stager.changes import begun_before, histories_of, refold
from services.stager.in_force import Folding
from services.stager.reading import read_and_fold
from services.stager.refolding import Refold
from services.stager.runs import is_of_accounts, is_of_things
from services.stager.states import States, Version, read_states
from shared.errors import ConfigError
from shared.journey.fold import Journey
from shared.journey.state import NOWHERE
from shared.store.definitions import fetch_version
from shared.store.engine import Connection

# What a version that is folded no more says of customers, though it may have no state of theirs any more.
_LEFT_BEHIND = """
SELECT key, version FROM journey_definitions AS d
WHERE retired_at IS NOT NULL AND EXISTS (
    SELECT FROM stage_transitions AS t
    WHERE t.customer_id = ANY($1::uuid[]) AND t.journey_key = d.key AND t.version = d.version
        AND t.superseded_at IS NULL
)
"""


async def remake(
    connection: Connection,
    remade: Mapping[UUID, UUID],
    gone: Mapping[UUID, UUID],
    accounts: Mapping[UUID, UUID],
    folding: Folding,
    now: datetime,
) -> Sequence[Change]:
    """Fold all runs anew of the customers that were `remade` and of the `accounts` that were, end those of
    the customers that are `gone`, and save the states; the changes are still to be written. All have the
    touchpoint that did it, and must be locked."""
    if not (remade or gone or accounts):
        return []
    owners = [(one, "") for one in (*remade, *gone, *accounts)]
    states = await read_states(connection, owners, now, whole=True)
    ended_of: list[Change] = []
    left_behind = [(row[0], row[1]) for row in await connection.fetch(_LEFT_BEHIND, list(gone))]
    for journey in await _journeys(connection, folding, states.versions(gone).union(left_behind)):
        ended = await _ended(connection, journey, gone, states)
        # Of what is not read any more nobody is told, but its counts have to be right if it is again.
        told = journey in folding.journeys
        ended_of += [msgspec.structs.replace(one, told=told) for one in ended]
    refolded = [
        *_caused(await _refolded(connection, remade, states, folding, now, of_accounts=False), remade),
        *_caused(await _refolded(connection, accounts, states, folding, now, of_accounts=True), accounts),
    ]
    if gone:
        await connection.execute(sql.DROP_STATES, list(gone))
    ended_of = _caused(ended_of, gone)
    await states.save(connection, refolded, now)
    return [*ended_of, *refolded]


def _caused(changes: Sequence[Change], by: Mapping[UUID, UUID]) -> list[Change]:
    return [msgspec.structs.replace(change, late=by[change.customer_id]) for change in changes]


async def _journeys(connection: Connection, folding: Folding, versions: Collection[Version]) -> list[Journey]:
    """The journeys of versions, retired ones too; without those that this version of Rejse can't fold."""
    found = [journey for journey in folding.journeys if journey.version in versions]
    for version in sorted(set(versions) - {journey.version for journey in found}):
        stored = await fetch_version(connection, *version)
        with contextlib.suppress(ConfigError):
            found += [Journey(stored.definition())] if stored else []
    return found


async def _ended(
    connection: Connection, journey: Journey, gone: Collection[UUID], states: States
) -> list[Change]:
    """The runs of customers that are there no more: they never were."""
    histories = await histories_of(connection, list(gone), journey)
    held = {(one, run): was for one in gone for run, was in states.runs(one, journey).items()}
    # Of a version that was cleared there is a history without a state.
    held = dict.fromkeys(histories, Held()) | held
    return [
        Change(one, journey, was, Held(NOWHERE, was.revision + 1), (), histories[one, run], run)
        for (one, run), was in held.items()
    ]


async def _refolded(
    connection: Connection,
    remade: Collection[UUID],
    states: States,
    folding: Folding,
    now: datetime,
    *,
    of_accounts: bool,
) -> list[Change]:
    """All runs of the customers, or of the accounts, whose timelines are read once for all journeys but those
    about things."""
    if not remade:
        return []
    journeys = [journey for journey in folding.journeys if is_of_accounts(journey) == of_accounts]
    held = {
        journey: await _held(connection, journey, remade, states)
        for journey in journeys
        if not is_of_things(journey)
    }
    refolds = {
        (journey, one): Refold(one, journey, runs.get("", Held()))
        for journey, of_journey in held.items()
        for one, runs in of_journey.items()
    }
    await read_and_fold(connection, [*refolds.values()], of_accounts=of_accounts)
    changes: list[Change] = []
    for journey in journeys:
        if is_of_things(journey):
            things = {one: states.runs(one, journey) for one in remade}
            refolded = await refold(connection, journey, things, whole=True)
        else:
            histories = await histories_of(connection, list(remade), journey)
            refolded = [
                refolds[journey, one].change(histories[one, ""])
                for one, runs in held[journey].items()
                if runs or not refolds[journey, one].is_at_its_beginning
            ]
        changes += [
            change if folding.knows(journey, change.customer_id, states) else unheard(change, now)
            for change in refolded
        ]
    return changes


async def _held(
    connection: Connection, journey: Journey, remade: Collection[UUID], states: States
) -> Mapping[UUID, Mapping[str, Held]]:
    begun = await begun_before(connection, list(remade), journey)
    return {one: {**begun.get(one, {}), **states.runs(one, journey)} for one in remade}
