"""What the parts of a definition say of one another: names that exist, moves that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Protocol

from shared.journey.definition import START, Definition, Jump
from shared.journey.rules import Count, Rule, can_hold, counts_in
from shared.journey.shape import Reading

WINDOW_COUNT_MAX = 100
"""A state keeps the time of each touchpoint that a window counts."""
TRAIT_TESTS_MAX = 60
"""A state has a bit for each."""


class _Named(Protocol):
    @property
    def key(self) -> str: ...


def check(definition: Definition, reading: Reading) -> None:
    """Note all that doesn't fit together."""
    _Checker(definition, reading).check()


class _Checker:
    def __init__(self, definition: Definition, reading: Reading) -> None:
        self._definition = definition
        self._stages = [stage.key for stage in definition.stages]
        self._refuse = reading.refuse

    def check(self) -> None:
        """Everything."""
        self._check_keys()
        self._check_stages()
        self._check_exits()
        self._check_jumps()
        self._check_beside()
        self._check_audience()
        for at, rule in self._triggers():
            self._check_trigger(rule, at)
        rules = [rule for _, rule in (*self._triggers(), *self._conditions())]
        if len({test for rule in rules for count in counts_in(rule) for test in count.matcher.traits}) > (
            TRAIT_TESTS_MAX
        ):
            self._refuse("", f"has more than {TRAIT_TESTS_MAX} tests of traits")

    def _check_keys(self) -> None:
        definition = self._definition
        self._check_unlike("stage or exit", stages=definition.stages, exits=definition.exits)
        self._check_unlike(
            "overlay, signal or tally",
            overlays=definition.overlays,
            signals=definition.signals,
            tallies=definition.tallies,
        )
        self._check_unlike("persona", personas=definition.personas)
        for number, stage in enumerate(definition.stages):
            if stage.key == START:
                self._refuse(f"stages[{number}].key", f"{START!r} is where the journey has not begun")

    def _check_unlike(self, what: str, **parts: Sequence[_Named]) -> None:
        known: set[str] = set()
        for at, named in parts.items():
            for number, one in enumerate(named):
                if one.key and one.key in known:
                    self._refuse(f"{at}[{number}].key", f"another {what} before has the key {one.key!r}")
                known.add(one.key)

    def _check_stages(self) -> None:
        definition = self._definition
        led_to = {self._stages[0]} if self._stages else set()
        led_to |= {after.key for gate, after in pairwise(definition.stages) if gate.gate}
        led_to |= {jump.to for jump in (*definition.laps, *definition.regresses)}
        led_to |= {back.to for exit_ in definition.exits for back in exit_.returns}
        for number, stage in enumerate(definition.stages):
            at = f"stages[{number}]"
            if stage.enter is None and stage.key not in led_to:
                self._refuse(f"{at}.enter", "is missing: nothing leads to this stage")
            for source in sorted(stage.sources - {START, *self._stages[:number]}):
                self._refuse(f"{at}.from", f"there is no earlier stage {source!r}")
            if stage.gate and number + 1 == len(definition.stages):
                self._refuse(f"{at}.gate", "there is no stage behind this gate")
            if stage.gate and (stage.pause or stage.substages):
                self._refuse(f"{at}.gate", "a gate has no length: it has no pause and no substages")
            self._check_substages(number)

    def _check_substages(self, number: int) -> None:
        substages = self._definition.stages[number].substages
        at = f"stages[{number}].substages"
        self._check_unlike("substage", **{at: substages})
        for index, substage in enumerate(substages):
            if index and substage.enter is None:
                self._refuse(f"{at}[{index}].enter", "is missing: only the first is entered with the stage")

    def _check_exits(self) -> None:
        for number, exit_ in enumerate(self._definition.exits):
            for index, way in enumerate(exit_.ways):
                at = f"exits[{number}].enter"
                at = f"{at}[{index}]" if index or len(exit_.ways) > 1 else at
                self._check_sources(way.sources, at)
                if (way.on is None) == (way.after is None):
                    self._refuse(at, "needs either `on: RULE` or `after: DURATION`")
                for stage in self._definition.stages:
                    reached = not way.sources or stage.key in way.sources
                    patience = stage.pause.after if stage.pause and stage.pause.patience else None
                    if reached and way.after and patience and way.after < patience:
                        self._refuse(at, f"comes before the patience of stage {stage.key!r} is over")
            for back in exit_.returns:
                self._check_stage(back.to, f"exits[{number}].return")

    def _check_jumps(self) -> None:
        for number, jump in enumerate(self._definition.regresses):
            at = f"regress[{number}]"
            self._check_jump(jump, at)
            place = self._stages.index(jump.to) if jump.to in self._stages else -1
            for source in sorted(jump.sources & set(self._stages[: place + 1])):
                self._refuse(f"{at}.from", f"{source!r} does not lie behind {jump.to!r}")
        for number, jump in enumerate(self._definition.laps):
            self._check_jump(jump, f"laps[{number}]")

    def _check_jump(self, jump: Jump, at: str) -> None:
        self._check_sources(jump.sources, at)
        self._check_stage(jump.to, f"{at}.to")

    def _check_beside(self) -> None:
        behind_gates = {after.key for gate, after in pairwise(self._definition.stages) if gate.gate}
        for number, overlay in enumerate(self._definition.overlays):
            at = f"overlays[{number}]"
            self._check_sources(overlay.sources, at)
            for key in sorted(overlay.blocks):
                self._check_stage(key, f"{at}.blocks")
            for key in sorted(overlay.blocks & behind_gates):
                self._refuse(f"{at}.blocks", f"{key!r} lies behind a gate: block the gate")
        for number, signal in enumerate(self._definition.signals):
            self._check_sources(signal.sources, f"signals[{number}]")

    def _check_audience(self) -> None:
        known = {persona.key for persona in self._definition.personas}
        for key in sorted(set(self._definition.audience.personas) - known):
            self._refuse("for.personas", f"there is no persona {key!r}")
        for number, start in enumerate(self._definition.starts):
            if start.journey == self._definition.key:
                self._refuse(f"starts[{number}].journey", "a journey can't start itself: say it under `laps`")
        for at, rule in self._conditions():
            self._check_counts(rule, at)

    def _check_trigger(self, rule: Rule, at: str) -> None:
        if not can_hold(rule):
            self._refuse(at, "`none` and `ago` only restrict: say beside them what has to happen")
        self._check_counts(rule, at)

    def _check_counts(self, rule: Rule, at: str) -> None:
        for count in counts_in(rule):
            if count.within is not None and count.at_least > WINDOW_COUNT_MAX:
                self._refuse(at, f"`within` counts no further than {WINDOW_COUNT_MAX}")
            if count.ago is not None and not _only_ago(count):
                self._refuse(at, "`ago` goes without `at_least`, `distinct` and `within`")

    def _check_sources(self, sources: Iterable[str], at: str) -> None:
        for key in sorted(sources):
            self._check_stage(key, f"{at}.from")

    def _check_stage(self, key: str, at: str) -> None:
        if key and key not in self._stages:
            known = f"; there are {', '.join(self._stages)}" if self._stages else ""
            self._refuse(at, f"there is no stage {key!r}{known}")

    def _conditions(self) -> Iterator[tuple[str, Rule]]:
        """Rules that are asked whether they have been met."""
        if self._definition.audience.when is not None:
            yield "for.when", self._definition.audience.when
        for number, persona in enumerate(self._definition.personas):
            yield f"personas[{number}].when", persona.when

    def _triggers(self) -> Iterator[tuple[str, Rule]]:
        """Rules that something happens by."""
        definition = self._definition
        found: list[tuple[str, Rule | None]] = []
        for number, stage in enumerate(definition.stages):
            found.append((f"stages[{number}].enter", stage.enter))
            found += [
                (f"stages[{number}].substages[{index}].enter", substage.enter)
                for index, substage in enumerate(stage.substages)
            ]
        for number, exit_ in enumerate(definition.exits):
            found += [(f"exits[{number}].enter", way.on) for way in exit_.ways]
            found += [(f"exits[{number}].return", back.on) for back in exit_.returns]
        found += [(f"regress[{number}].on", jump.on) for number, jump in enumerate(definition.regresses)]
        found += [(f"laps[{number}].on", jump.on) for number, jump in enumerate(definition.laps)]
        for number, overlay in enumerate(definition.overlays):
            found += [
                (f"overlays[{number}].open", overlay.open),
                (f"overlays[{number}].close", overlay.close),
            ]
        for number, signal in enumerate(definition.signals):
            found += [(f"signals[{number}].on", signal.on), (f"signals[{number}].off", signal.off)]
        found += [
            (f"tallies[{number}].until", tally.until) for number, tally in enumerate(definition.tallies)
        ]
        found += [(f"starts[{number}].on", start.on) for number, start in enumerate(definition.starts)]
        return ((at, rule) for at, rule in found if rule is not None)


def _only_ago(count: Count) -> bool:
    return count.at_least == 1 and not count.distinct_days and count.within is None
