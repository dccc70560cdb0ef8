"""What a state remembers of rules, told as of an instant: what counts, until when, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.journey import words
from shared.journey.compiled import Rules, instant
from shared.journey.reasons import Window
from shared.journey.rules import Count, Rule, counts_in
from shared.journey.state import State

_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Counted:
    """What counts of a leaf at an instant: how many touchpoints or days, at most as many as the rule asks
    for, and the times as far as they are remembered, the oldest first."""

    number: int
    times: Sequence[datetime] = ()
    today: bool = False


class Memory:
    """A state's memory of the rules of a definition, as of an instant not earlier than its position."""

    def __init__(self, rules: Rules, state: State, now: datetime) -> None:
        self._rules = rules
        self._state = state
        self._now = now

    def has(self, count: Count) -> bool:
        """Whether anything is ever remembered of a leaf."""
        return self._rules.remembers(count, self._state) is not None

    def counted(self, count: Count) -> Counted:
        """What counts of a leaf now."""
        remembered = self._rules.remembers(count, self._state) or ()
        if count.within is None and count.ago is None:
            number, *days = remembered or (0,)
            return Counted(number, today=bool(days) and days[0] == self._now.toordinal())
        begin = self._now - count.within if count.within is not None else None
        times = [at for at in map(instant, remembered) if begin is None or at >= begin]
        return Counted(len(times), times, bool(times) and times[-1].date() == self._now.date())

    def met_until(self, rule: Rule) -> datetime | None:
        """The last instant at which a rule that has been met still is, if nothing happens."""
        met = self._rules.met(rule)
        turns = sorted({at for count in counts_in(rule) for at in self._turns(count)})
        return next((at - _INSTANT for at in turns if not met(self._state, at)), None)

    def _turns(self, count: Count) -> Iterator[datetime]:
        """The instants to come from which on time alone changes whether a leaf has been met."""
        times = self.counted(count).times
        if count.within is not None:
            yield from (at + count.within + _INSTANT for at in times)
        elif count.ago is not None:
            yield from (at + count.ago for at in times if at + count.ago > self._now)

    def windows(self, rules: Iterable[tuple[str, Rule]]) -> list[Window]:
        """What time alone will change in what some rules, by their names, have seen, the earliest first."""
        found = {
            one for name, rule in rules for count in counts_in(rule) for one in self._windows(name, count)
        }
        return sorted(found, key=lambda one: (one.at, one.rule, one.says))

    def _windows(self, name: str, count: Count) -> Iterator[Window]:
        counted = self.counted(count)
        if not counted.times:
            return
        what = words.touchpoints(count.matcher)
        first = f"{what} at {words.moment(counted.times[0])}"
        if count.within is not None:
            says = f"the {first} falls out of the {words.duration(count.within)} of {name}"
            yield Window(kind="ends", at=counted.times[0] + count.within, rule=name, says=says)
        elif count.ago is not None and counted.times[0] + count.ago > self._now:
            says = f"the {first} lies {words.duration(count.ago)} back"
            yield Window(kind="ripens", at=counted.times[0] + count.ago, rule=name, says=says)
