"""Folding a run's history anew, portion by portion, until it goes on as before.

A refold begins at a checkpoint before what came late. Where it comes past a checkpoint behind all that came
late, in a state from which it goes the same way as from the one that is kept there, it ends: the transitions
behind are known, and what the states behind record is told anew from these (`shared.journey.records`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec

from services.stager.assign import Change, Held, carry, has_checkpoints, is_marked, position_of
from shared.journey.fold import Journey
from shared.journey.records import goes_the_same_way, recorded_anew
from shared.journey.state import NOWHERE, State, Transition
from shared.journey.touch import LAST_POSITION, Position, Touch


class Late(NamedTuple):
    """New touches of a run, in order, the first of which come too late for the held state."""

    owner_id: UUID
    run: str
    journey: Journey
    held: Held
    touches: Sequence[Touch]


class Refold:
    """One run on the way from the state `since` to what it comes to now. Of what came `late` all is in the
    timeline that it is given."""

    def __init__(
        self,
        owner_id: UUID,
        journey: Journey,
        held: Held,
        run: str = "",
        *,
        late: Sequence[Touch] = (),
        since: State = NOWHERE,
    ) -> None:
        self.owner_id = owner_id
        self.journey = journey
        self.position = position_of(since)
        """How far it has come: what lies behind is wanted next."""
        self.met: State | None = None
        """The checkpoint, as it was kept, at which the rest was found to go on as before."""
        self._held = held
        self._run = run
        self._since = since
        self._late = late
        self._news = [touch for touch in late if position_of(touch) > position_of(held.state)]
        olds = late[: len(late) - len(self._news)]
        self.comparable_from = position_of(olds[-1]) if olds else LAST_POSITION
        """Checkpoints behind it have the same timeline behind them as before."""
        self._state = since
        self._history: list[Transition] = []
        self._checkpoints: list[State] = []

    def fold(self, touches: Sequence[Touch], until: Position, checkpoints: Mapping[UUID, State]) -> None:
        """Fold the touches that concern the run between its position and `until`, in order. `checkpoints` are
        those that are kept there, by the touch that they follow."""
        for piece in _pieces(touches):
            self._state, more = self.journey.carry(self._state, piece)
            self._history += more
            last = piece[-1]
            if is_marked(last) and has_checkpoints(self.journey):
                self._checkpoints.append(self._state)
                kept = checkpoints.get(last.id)
                if kept and position_of(last) > self.comparable_from and goes_the_same_way(kept, self._state):
                    self.met = kept
                    return
        self.position = until

    @property
    def is_at_its_beginning(self) -> bool:
        """Whether nothing has been folded yet that concerns the run."""
        return position_of(self._state) == position_of(NOWHERE)

    @property
    def whose(self) -> tuple[UUID, Journey]:
        """Whose run it is, and of which journey."""
        return self.owner_id, self.journey

    @property
    def old_part(self) -> tuple[int, int | None]:
        """The transitions, from one number to another or to the last, in whose place there are new ones."""
        return self._since.transitions, None if self.met is None else self.met.transitions

    def is_as_before(self, history: Sequence[Transition]) -> bool:
        """Whether nothing has changed, given the old part of the history."""
        return self.met == self._state and history == self._history

    @property
    def is_recorded_anew(self) -> bool:
        """Whether the states behind the checkpoint that was met record something else now."""
        return self.met is not None and self.met != self._state

    def change(self, history: Sequence[Transition], checkpoints: Sequence[State] = ()) -> Change:
        """What is to be written, given the old history: its old part if all is as before, else what stands of
        it from `since` on; and the checkpoints behind the one that was met, if they record something else."""
        met, held, kept, until = self.met, self._held, [*self._checkpoints], LAST_POSITION
        if met is None:
            # As far in time as the held state had come.
            state, more = self.journey.advance(self._state, held.state.at)
            new = self._history + more
        else:
            behind = history[met.transitions - self._since.transitions :]
            new = self._history + _numbered(behind, self._state.transitions)
            if self.is_recorded_anew:
                *later, state = self._recorded_anew(met, behind, [*checkpoints, held.state])
                kept += later
            else:
                state, until = held.state, position_of(met)
                kept.pop()
        standing = _common_prefix(history, new)
        superseded, added = history[standing:], new[standing:]
        if met is not None:
            state, more, of_news = carry(self.journey, state, self._news)
            added, kept = added + more, [*kept, *of_news]
        return Change(
            self.owner_id,
            self.journey,
            held,
            Held(state, held.revision + 1 if superseded else held.revision),
            added,
            superseded,
            self._run,
            late=self._late[0].id if self._late else None,
            checkpoints=kept,
            outdated=(position_of(self._since), until) if has_checkpoints(self.journey) else None,
        )

    def _recorded_anew(
        self, met: State, behind: Sequence[Transition], later: Sequence[State]
    ) -> Iterator[State]:
        """What states behind the checkpoint that was met are now."""
        was, now = met, self._state
        for one in later:
            between = behind[was.transitions - met.transitions : one.transitions - met.transitions]
            now = recorded_anew(self.journey, was, now, one, between)
            was = one
            yield now


def refolded(
    owner_id: UUID,
    journey: Journey,
    held: Held,
    history: Sequence[Transition],
    timeline: Sequence[Touch],
    run: str = "",
) -> Change:
    """Fold a run's whole timeline anew, given what stands of its history."""
    refold = Refold(owner_id, journey, held, run)
    refold.fold(timeline, LAST_POSITION, {})
    return refold.change(history)


def _pieces(touches: Sequence[Touch]) -> Iterator[Sequence[Touch]]:
    """Touches cut behind each one after which there is a checkpoint."""
    begin = 0
    for number, touch in enumerate(touches, 1):
        if is_marked(touch):
            yield touches[begin:number]
            begin = number
    if begin < len(touches):
        yield touches[begin:]


def _common_prefix(old: Sequence[Transition], new: Sequence[Transition]) -> int:
    for index, (left, right) in enumerate(zip(old, new, strict=False)):
        if left != right:
            return index
    return min(len(old), len(new))


def _numbered(transitions: Sequence[Transition], first: int) -> list[Transition]:
    return [msgspec.structs.replace(one, seq=seq) for seq, one in enumerate(transitions, first)]
