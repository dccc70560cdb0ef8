"""Refolding the runs that touchpoints came too late for, from as little of their timelines as it takes.

What the runs of one owner need is read once for all of them: the reading begins where the run begins that is
furthest back, and the others join in where they begin. Portions grow, so that few suffice, up to a bound: a
fold of one is as long as nothing else gets the processor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from services.stager import sql
from services.stager.assign import Change, Held, has_checkpoints, is_marked, position_of
from services.stager.changes import refold
from services.stager.checkpoints import Span, Whose, between, last_before
from services.stager.refolding import Late, Refold
from services.stager.runs import is_of_accounts
from services.stager.sql import columns
from shared.journey.fold import Journey
from shared.journey.state import NOWHERE, State, Transition
from shared.journey.touch import LAST_POSITION, Lens, Position, Touch
from shared.store.engine import Connection
from shared.store.timelines import touch_of, types_of

_RUNS_AT_ONCE = 500
_TOUCHES_AT_FIRST = 2_048
_TOUCHES_MAX = 8_192


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
    await _fold(connection, refolds, of_accounts)
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


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is to be read for the runs of one owner that are furthest back: up to where others begin."""

    refolds: Sequence[Refold]
    begin: Position
    end: Position

    @property
    def owner_id(self) -> UUID:
        return self.refolds[0].owner_id


async def _fold(connection: Connection, refolds: Sequence[Refold], of_accounts: bool) -> None:
    """Read and fold portions, until each run has met a checkpoint or the end of its timeline."""
    query = sql.PORTIONS_OF_ACCOUNTS if of_accounts else sql.PORTIONS
    size = _TOUCHES_AT_FIRST
    while readings := list(_readings(refolds)):
        journeys = {one.journey for reading in readings for one in reading.refolds}
        lens = Lens(journey.asks for journey in journeys)
        timelines: dict[UUID, list[Touch]] = {reading.owner_id: [] for reading in readings}
        spans = columns([(reading.owner_id, *reading.begin, *reading.end) for reading in readings])
        for row in await connection.fetch(query, *spans, types_of(journeys), lens.types_with_content, size):
            timelines[row["owner_id"]].append(touch_of(lens, row))
        portions = [_Portion(reading, timelines[reading.owner_id], size) for reading in readings]
        checkpoints = await between(connection, [span for portion in portions for span in portion.compared()])
        for portion in portions:
            portion.fold(checkpoints)
        size = min(2 * size, _TOUCHES_MAX)


def _readings(refolds: Sequence[Refold]) -> Iterator[_Reading]:
    """What to read next, of each owner that has a run on the way."""
    by_owner: dict[UUID, list[Refold]] = defaultdict(list)
    for one in refolds:
        if one.met is None and one.position < LAST_POSITION:
            by_owner[one.owner_id].append(one)
    for of_owner in by_owner.values():
        begin, *others = sorted({one.position for one in of_owner})
        furthest_back = [one for one in of_owner if one.position == begin]
        yield _Reading(furthest_back, begin, others[0] if others else LAST_POSITION)


class _Portion:
    """The touches of a reading, or the first so many of them, and how far they go."""

    def __init__(self, reading: _Reading, touches: Sequence[Touch], size: int) -> None:
        self._refolds = reading.refolds
        self._touches = touches
        self._end = position_of(touches[-1]) if len(touches) == size else reading.end

    def compared(self) -> Iterator[Span]:
        """Where in it checkpoints may be met."""
        marked = [position_of(touch) for touch in self._touches if is_marked(touch)]
        for one in self._refolds:
            begin = max(one.position, one.comparable_from)
            if marked and marked[-1] > begin:
                yield Span(one.owner_id, one.journey, begin, marked[-1])

    def fold(self, checkpoints: Mapping[Whose, Mapping[UUID, State]]) -> None:
        """Let each run fold what concerns it."""
        for one in self._refolds:
            concerning = [touch for touch in self._touches if one.journey.concerns(touch.type)]
            one.fold(concerning, self._end, checkpoints.get(one.whose, {}))


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
