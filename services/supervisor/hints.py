"""What a definition says that is right, and probably not meant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from shared.journey import words
from shared.journey.definition import Definition
from shared.journey.fold import Journey
from shared.journey.plan import Clock, Plans
from shared.journey.rules import Matcher
from shared.touchpoint_types import known_types

_NEARLY = 0.85
"""How alike words are of which one is probably the other misspelt, as difflib measures it."""


def hints(definition: Definition) -> Iterator[str]:
    """What to ask the author about: types that the catalogue doesn't have, but one that is written nearly so;
    and clocks that never run out, for another one of the stage always does before."""
    plans = Journey(definition).plans
    yield from _misspelt(plans)
    yield from _never_due(plans)


def _misspelt(plans: Plans) -> Iterator[str]:
    for type_ in sorted(filter(None, plans.asks)):
        if type_ not in known_types():
            for close in get_close_matches(type_, known_types(), 1, _NEARLY):
                yield f"no touchpoint type of the catalogue is called {type_}: did you mean {close}?"


def _never_due(plans: Plans) -> Iterator[str]:
    never: dict[str, str] = {}
    at_times: set[str] = set()
    for place in plans.places.values():
        if place.leads_to is not None:
            continue
        exits: dict[Matcher, Clock] = {}
        # Of two that are due at once the first comes.
        for clock in sorted(place.clocks, key=lambda clock: clock.after):
            if clock.since in exits:
                told = f"{_comes(clock, place.key, 'never ')}: {_comes(exits[clock.since], place.key)}"
                never.setdefault(clock.rule, told)
                continue
            at_times.add(clock.rule)
            if clock.to:
                exits[clock.since] = clock
    # A way into an exit may lead out of several stages.
    yield from (told for rule, told in never.items() if rule not in at_times)


def _comes(clock: Clock, place: str, how: str = "") -> str:
    what = f"exit {clock.to}" if clock.to else f"the pause of {place}"
    return f"{what} {how}comes by {words.silence(clock.after, clock.since)}"
