"""Reading timelines for the runs that fold them anew.

What the runs of one owner need is read once for all of them: the reading begins where the run begins that is
furthest back, and the others join in where they begin. Portions grow, so that few suffice, up to a bound: a
fold of one is as long as nothing else gets the processor.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.stager import sql
from services.stager.assign import is_marked, position_of
from services.stager.checkpoints import Span, Whose, between
from services.stager.refolding import Refold
from services.stager.sql import columns
from shared.journey.fold import Journey
from shared.journey.state import State
from shared.journey.touch import LAST_POSITION, Lens, Position, Touch
from shared.store.engine import Connection
from shared.store.timelines import touch_of, types_of

_TOUCHES_AT_FIRST = 2_048
_FOLDED_AT_ONCE = 16_384
"""Touches, each as often as there are journeys."""


async def read_and_fold(connection: Connection, refolds: Sequence[Refold], *, of_accounts: bool) -> None:
    """Read and fold portions, until each run has met a checkpoint or the end of its timeline. None of the
    runs is about a thing."""
    query = sql.PORTIONS_OF_ACCOUNTS if of_accounts else sql.PORTIONS
    size = _TOUCHES_AT_FIRST
    journeys, lens = frozenset[Journey](), Lens(())
    while readings := list(_readings(refolds)):
        wanting = frozenset(one.journey for reading in readings for one in reading.refolds)
        if wanting != journeys:
            journeys, lens = wanting, Lens(journey.asks for journey in wanting)
        timelines: dict[UUID, list[Touch]] = {reading.owner_id: [] for reading in readings}
        spans = columns([(reading.owner_id, *reading.begin, *reading.end) for reading in readings])
        for row in await connection.fetch(query, *spans, types_of(journeys), lens.types_with_content, size):
            timelines[row["owner_id"]].append(touch_of(lens, row))
        portions = [_Portion(reading, timelines[reading.owner_id], size) for reading in readings]
        checkpoints = await between(connection, [span for portion in portions for span in portion.compared()])
        for portion in portions:
            portion.fold(checkpoints)
        size = min(2 * size, max(_FOLDED_AT_ONCE // len(journeys), _TOUCHES_AT_FIRST))


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is to be read for the runs of one owner that are furthest back: up to where others begin."""

    refolds: Sequence[Refold]
    begin: Position
    end: Position

    @property
    def owner_id(self) -> UUID:
        return self.refolds[0].owner_id


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
