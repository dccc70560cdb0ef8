"""What a touchpoint does, as one function for each place and each sort of touchpoint.

Of a plan mostly two or three things are left, and to look at each by its number, and at what is not there,
takes longer than to do it. So the function of a plan is written as source, without a loop and without what
the plan lacks, as `dataclasses` writes `__init__`. The text holds numbers and names of ours alone; whatever a
definition says comes in as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from math import inf
from types import CodeType
from typing import TypeAlias

import msgspec

from shared.journey.compiled import Holds, Sort, always
from shared.journey.definition import Definition
from shared.journey.effects import Effects
from shared.journey.plan import Move, Plan, Plans
from shared.journey.state import State, Transition
from shared.journey.touch import Touch

Do: TypeAlias = Callable[[State, Touch, list[Transition]], None]

_TYPES_MAX = 1_000
_SPELLED_OUT_MAX = 12
"""Tuples up to this length are written out, which takes half the time of slices."""


class Step(msgspec.Struct, frozen=True):
    """`do` is all that a touchpoint of one sort does to a state in one place, once the state is at its
    position. `beside` is the part of it that comes last, after a move into the place too: what stands beside
    the stage. None: nothing does."""

    do: Do
    beside: Do | None


StepsByPlace: TypeAlias = Mapping[str | None, Mapping[str, Step]]


class Steps:
    """The steps of a definition, made when they are first needed."""

    def __init__(self, definition: Definition, plans: Plans, effects: Effects) -> None:
        self._plans = plans
        self._effects = effects
        self._counts = len(definition.tallies)
        everywhere = (None, *plans.places)
        self.of: StepsByPlace = {place: _StepsHere(self, place, is_bare=False) for place in everywhere}
        """What a touchpoint of a type does in a place; None is where the journey has not begun."""
        self.of_bare: StepsByPlace = {place: _StepsHere(self, place, is_bare=True) for place in everywhere}
        """What one does that is bare."""

    def is_named(self, type_: str) -> bool:
        """Whether a rule names the type."""
        return type_ in self._plans.asks

    def made(self, place: str | None, sort: Sort) -> Step:
        """Write the functions of a plan."""
        plan = self._plans.made(place, sort)
        beside = _Writer()
        self._write_beside(beside, plan)
        do = _Writer()
        _write_counters(do, plan, self._plans.rules.remembered)
        _write_tallies(do, plan, self._counts)
        if plan.closes:
            close = do.name(self._effects.close)
            do.line(f"if state.open: {close}(state, touch, {do.name(plan.closes)}, out)")
        moves_surely = self._write_moves(do, plan, place, self.of_bare if sort.is_bare else self.of)
        if not moves_surely:
            self._write_resets(do, plan)
            self._write_beside(do, plan)
        return Step(do.function(), beside.function() if beside.has_lines else None)

    def _write_moves(self, to: _Writer, plan: Plan, place: str | None, arriving: StepsByPlace) -> bool:
        """Returns whether one of the moves takes place in any case."""
        admits = self._plans.admits if place is None else None
        if admits is None or not plan.moves:
            # Behind one that takes place in any case the others are nothing to write of.
            return any(self._write_move(to, move, arriving) for move in plan.moves)
        with to.block(f"if {to.name(admits)}(state, touch.at):"):
            for move in plan.moves:
                self._write_move(to, move, arriving)
        return False

    def _write_move(self, to: _Writer, move: Move, arriving: StepsByPlace) -> bool:
        open_ = " or ".join(f"state.open[{number}] is not None" for number in move.blocked_by)
        conditions = _and(_asked(to, move.holds), f"not (state.open and ({open_}))" if open_ else None)
        with to.block(f"if {conditions}:" if conditions else None):
            if move.new_lap:
                to.line("state.lap += 1; state.observed = state.inferred = state.counted = 0")
                to.line("state.tallies = state.counts = ()")
            arrive, kind, rule = map(to.name, (self._effects.arrive[move.to], move.kind, move.rule))
            to.line(f"{arrive}(state, {kind}, touch.id, {rule}, out)")
            to.line(f"beside = {to.name(arriving[self._plans.end_of(move.to)])}[touch.type].beside")
            to.line("if beside is not None: beside(state, touch, out)")
            to.line("return")
        return not conditions

    def _write_resets(self, to: _Writer, plan: Plan) -> None:
        if not plan.resets:
            return
        reset = f"{to.name(self._effects.reset_clocks)}(state, touch, {to.name(plan.resets)}, out)"
        if plan.resets_for_sure:
            to.line(f"if state.paused: {reset}")
            to.line(f"else: state.anchors = ({'touch.at, ' * plan.resets_for_sure})")
        else:
            to.line(reset)

    def _write_beside(self, to: _Writer, plan: Plan) -> None:
        if plan.substages:
            enter = to.name(self._effects.enter_substage)
            to.line(f"{enter}(state, touch, {to.name(plan.substages)}, out)")
        for number, holds in plan.opens:
            is_open = f"state.open and state.open[{number}] is not None"
            with to.block(f"if {_and(f'not ({is_open})', _asked(to, holds))}:"):
                to.line(
                    f"{to.name(self._effects.set_open)}(state, {number}, touch.at, touch.id, 'open', out)"
                )
        for number, on, off in plan.signals:
            with to.block(f"if state.signals and state.signals[{number}] is not None:"):
                turn_off = f"{to.name(self._effects.turn)}(state, {number}, None, touch.id, 'off', out)"
                to.line_if(_asked(to, off), turn_off if off else "pass")
            if on:
                with to.block("else:"):
                    turn_on = f"{to.name(self._effects.turn)}(state, {number}, touch.at, touch.id, 'on', out)"
                    to.line_if(_asked(to, on), turn_on)


def _write_counters(to: _Writer, plan: Plan, size: int) -> None:
    if plan.counters:
        to.line(f"t = state.tallies or {to.name(((),) * size)}")
    for one in plan.counters:
        to.line(f"b = t[{one.number}]")
        has_room = None if one.most == inf else f"(not b or b[0] < {one.most})"
        conditions = _and(has_room, _asked(to, one.matches))
        with to.block(f"if {conditions}:" if conditions else None):
            if one.after is None:
                after = _with_value("t", one.number, "(b[0] + 1,) if b else (1,)", size)
                to.line(f"state.tallies = t = {after}")
            else:
                to.line(f"a = {to.name(one.after)}(b, touch)")
                after = _with_value("t", one.number, "a", size)
                to.line_if("a is not b", f"state.tallies = t = {after}")


def _write_tallies(to: _Writer, plan: Plan, size: int) -> None:
    """Count up the tallies that are not final; what ends one is not counted itself."""
    for number, counts, ends in plan.tallies:
        with to.block(f"if not state.counted & {1 << number}:"):
            end = f"state.counted |= {1 << number}"
            if ends is always:
                to.line(end)
                continue
            if ends is not None:
                to.line_if(_asked(to, ends), end)
            if counts is not None:
                with to.block("else:" if ends is not None else None):
                    to.line(f"c = state.counts or {to.name((0,) * size)}")
                    after = _with_value("c", number, f"c[{number}] + 1", size)
                    to.line_if(_asked(to, counts), f"state.counts = {after}")


class _StepsHere(dict[str, Step]):
    """The steps of one place by the type of touchpoints. A type that no rule names is like any other such:
    senders may make up any number of them, so only so many are remembered."""

    def __init__(self, steps: Steps, place: str | None, *, is_bare: bool) -> None:
        self._steps = steps
        self._place = place
        self._is_bare = is_bare
        self._other: Step | None = None

    def __missing__(self, type_: str) -> Step:
        if self._steps.is_named(type_):
            step = self._steps.made(self._place, Sort(type_, self._is_bare))
        else:
            step = self._other = self._other or self._steps.made(self._place, Sort(None, self._is_bare))
        if len(self) < _TYPES_MAX:
            self[type_] = step
        return step


class _Writer:
    """The source of a function that is being written, and the values that it names."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._values: dict[str, object] = {}
        self._depth = 1

    @property
    def has_lines(self) -> bool:
        return bool(self._lines)

    def name(self, value: object) -> str:
        """A name for a value."""
        name = f"v{len(self._values)}"
        self._values[name] = value
        return name

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def line_if(self, condition: str | None, text: str) -> None:
        """A line that is only run under a condition, if there is one."""
        self.line(f"if {condition}: {text}" if condition else text)

    @contextmanager
    def block(self, head: str | None) -> Iterator[None]:
        """What is written meanwhile stands under a head, if there is one."""
        if head is None:
            yield
            return
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def function(self) -> Do:
        """The function that was written."""
        code = _compiled("\n".join(["def do(state, touch, out):", *self._lines, "    return"]))
        # Our own text: whatever a definition says is one of the values.
        exec(code, self._values)
        do: Do = self._values["do"]  # type: ignore[assignment]
        return do


@lru_cache(4_096)
def _compiled(source: str) -> CodeType:
    """Plans that differ in their values alone have the same source."""
    return compile(source, "<a step of a journey>", "exec")


def _asked(to: _Writer, holds: Holds | None) -> str | None:
    """The question whether something holds; None: there is none to ask."""
    return None if holds is None or holds is always else f"{to.name(holds)}(state, touch)"


def _and(*conditions: str | None) -> str:
    return " and ".join(one for one in conditions if one)


def _with_value(name: str, number: int, value: str, size: int) -> str:
    """A tuple with another value at one place."""
    if size > _SPELLED_OUT_MAX:
        return f"(*{name}[:{number}], {value}, *{name}[{number + 1}:])"
    return "(" + "".join(f"{value if at == number else f'{name}[{at}]'}, " for at in range(size)) + ")"
