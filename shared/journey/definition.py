"""A journey definition: a YAML file as validated, immutable data.

A definition names its stages in order, the rules that enter them, the clocks that pause a stage or end the
journey in an exit, and the way back from an exit. `parse` reports every error of a file at once, each with
the place where it stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

from shared import strict_yaml
from shared.errors import ConfigError
from shared.touchpoint import CHANNELS

LANGUAGES = ("en", "da", "sv")
COUNT_MAX = 1_000

_KEY = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,199}")
_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Matcher:
    """Which touchpoints a rule is about; an empty set matches every type or channel."""

    types: frozenset[str] = frozenset()
    channels: frozenset[str] = frozenset()

    def matches(self, type_: str, channel: str) -> bool:
        return (not self.types or type_ in self.types) and (not self.channels or channel in self.channels)


@dataclass(frozen=True, slots=True)
class Rule:
    """Holds at a touchpoint that matches and is the `at_least`-th one that counts, or a later one.

    With `distinct_days` only the first matching touchpoint of each UTC day counts, and the rule holds at
    every match from the day on that completes the number.
    """

    matcher: Matcher
    at_least: int = 1
    distinct_days: bool = False


@dataclass(frozen=True, slots=True)
class Clock:
    """Runs from entering a stage and starts anew at each touchpoint that `since` matches.

    When `after` has passed it pauses the stage (`exit_to` is None) or moves the customer to that exit.
    """

    after: timedelta
    since: Matcher
    exit_to: str | None


@dataclass(frozen=True, slots=True)
class Return:
    """The way back: in an exit, a touchpoint that `matcher` matches enters the stage `to`."""

    matcher: Matcher
    to: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the journey, its labels by language, the rule that enters it and its clocks."""

    key: str
    labels: Mapping[str, str]
    enter: Rule
    clocks: tuple[Clock, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """A named end of the journey, and the way back from it if there is one.

    `enter` lets a touchpoint end the journey from any stage: a "no".
    """

    key: str
    labels: Mapping[str, str]
    enter: Matcher | None = None
    back: Return | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a journey. `hash` tells two texts of the same key and version apart."""

    key: str
    version: int
    labels: Mapping[str, str]
    stages: tuple[Stage, ...]
    exits: tuple[Exit, ...]
    source: str
    hash: str

    @property
    def places(self) -> tuple[str, ...]:
        """The keys of the stages in order, then of the exits."""
        stages = tuple(stage.key for stage in self.stages)
        return stages + tuple(exit_.key for exit_ in self.exits)


def parse(text: str, name: str) -> Definition:
    """Read a definition from YAML. `name` stands in the errors.

    Raises:
        ConfigError: lists every error of the text, each with its place.
    """
    problems: list[str] = []
    data = strict_yaml.load(text, problems)
    definition = _Reader(problems).definition(data, text) if not problems else None
    if problems or definition is None:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))
    return definition


class _Reader:
    """Turns plain data into a definition and notes every problem with its place on the way."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems

    def definition(self, data: Any, text: str) -> Definition | None:
        fields = self._object(data, "", {"key", "version", "labels", "stages"}, {"exits"})
        key = self._key(fields.get("key"), "key")
        version = self._whole(fields.get("version"), "version", 1, 1_000_000)
        labels = self._labels(fields.get("labels"), "labels")
        stages = self._list(fields.get("stages"), "stages", self._stage)
        exits = self._list(fields.get("exits", []), "exits", self._exit, empty=True)
        self._check_places(stages, exits)
        if self._problems:
            return None
        digest = sha256(text.encode()).hexdigest()
        return Definition(key, version, labels, tuple(stages), tuple(exits), text, digest)

    def _stage(self, data: Any, at: str) -> Stage:
        fields = self._object(data, at, {"key", "labels", "enter"}, {"clocks"})
        return Stage(
            self._key(fields.get("key"), f"{at}.key"),
            self._labels(fields.get("labels"), f"{at}.labels"),
            self._rule(fields.get("enter"), f"{at}.enter"),
            tuple(self._list(fields.get("clocks", []), f"{at}.clocks", self._clock, empty=True)),
        )

    def _exit(self, data: Any, at: str) -> Exit:
        fields = self._object(data, at, {"key", "labels"}, {"enter", "return"})
        return Exit(
            self._key(fields.get("key"), f"{at}.key"),
            self._labels(fields.get("labels"), f"{at}.labels"),
            self._matcher(fields["enter"], f"{at}.enter") if "enter" in fields else None,
            self._return(fields["return"], f"{at}.return") if "return" in fields else None,
        )

    def _rule(self, data: Any, at: str) -> Rule:
        fields = self._object(data, at, set(), {"type", "channel", "at_least", "distinct"})
        distinct = fields.get("distinct")
        if distinct not in (None, "days"):
            self._problems.append(f"{at}.distinct: is not `days`")
        at_least = self._whole(fields.get("at_least", 1), f"{at}.at_least", 1, COUNT_MAX)
        return Rule(self._match(fields, at), at_least, distinct == "days")

    def _clock(self, data: Any, at: str) -> Clock:
        fields = self._object(data, at, {"after"}, {"since", "pause", "to"})
        if ("to" in fields) == (fields.get("pause") is True):
            self._problems.append(f"{at}: needs either `to: EXIT` or `pause: true`")
        since = self._matcher(fields["since"], f"{at}.since") if "since" in fields else Matcher()
        exit_to = self._key(fields["to"], f"{at}.to") if "to" in fields else None
        return Clock(self._duration(fields.get("after"), f"{at}.after"), since, exit_to)

    def _return(self, data: Any, at: str) -> Return:
        fields = self._object(data, at, {"to", "on"}, set())
        return Return(self._matcher(fields.get("on"), f"{at}.on"), self._key(fields.get("to"), f"{at}.to"))

    def _matcher(self, data: Any, at: str) -> Matcher:
        return self._match(self._object(data, at, set(), {"type", "channel"}), at)

    def _match(self, fields: Mapping[str, Any], at: str) -> Matcher:
        types = self._names(fields.get("type"), f"{at}.type", lambda name: bool(_TYPE.fullmatch(name)))
        channels = self._names(fields.get("channel"), f"{at}.channel", lambda name: name in CHANNELS)
        return Matcher(types, channels)

    def _check_places(self, stages: Sequence[Stage], exits: Sequence[Exit]) -> None:
        stage_keys = [stage.key for stage in stages]
        exit_keys = [exit_.key for exit_ in exits]
        for key in sorted({key for key in stage_keys + exit_keys if (stage_keys + exit_keys).count(key) > 1}):
            self._problems.append(f"two stages or exits are called {key!r}")
        for i, stage in enumerate(stages):
            for j, clock in enumerate(stage.clocks):
                if clock.exit_to is not None and clock.exit_to not in exit_keys:
                    self._problems.append(f"stages[{i}].clocks[{j}].to: there is no exit {clock.exit_to!r}")
        for i, exit_ in enumerate(exits):
            if exit_.back is not None and exit_.back.to not in stage_keys:
                self._problems.append(f"exits[{i}].return.to: there is no stage {exit_.back.to!r}")

    def _object(self, data: Any, at: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
        if not isinstance(data, dict):
            self._problems.append(f"{at or 'the file'}: is no mapping")
            return {}
        prefix = f"{at}." if at else ""
        for name in sorted(required - data.keys()):
            self._problems.append(f"{prefix}{name}: is missing")
        for name in sorted(str(name) for name in data.keys() - required - optional):
            self._problems.append(f"{prefix}{name}: is not known here")
        return data

    def _list(
        self, data: Any, at: str, read: Callable[[Any, str], Item], *, empty: bool = False
    ) -> list[Item]:
        if not isinstance(data, list) or not (data or empty):
            self._problems.append(f"{at}: is no list" if not isinstance(data, list) else f"{at}: is empty")
            return []
        return [read(item, f"{at}[{index}]") for index, item in enumerate(data)]

    def _labels(self, data: Any, at: str) -> Mapping[str, str]:
        fields = self._object(data, at, set(LANGUAGES), set())
        for language, label in fields.items():
            if not isinstance(label, str) or not label.strip():
                self._problems.append(f"{at}.{language}: is no text")
        return dict(fields)

    def _names(self, data: Any, at: str, known: Callable[[str], bool]) -> frozenset[str]:
        if data is None:
            return frozenset()
        names = data if isinstance(data, list) and data else [data]
        for name in names:
            if not isinstance(name, str) or not known(name):
                self._problems.append(f"{at}: {name!r} is not allowed here")
        return frozenset(str(name) for name in names)

    def _key(self, data: Any, at: str) -> str:
        if not isinstance(data, str) or not _KEY.fullmatch(data) or len(data) > 64:
            self._problems.append(f"{at}: is no key of lower-case words")
            return ""
        return data

    def _whole(self, data: Any, at: str, low: int, high: int) -> int:
        if not isinstance(data, int) or isinstance(data, bool) or not low <= data <= high:
            self._problems.append(f"{at}: is no whole number from {low} to {high}")
            return low
        return data

    def _duration(self, data: Any, at: str) -> timedelta:
        match = _DURATION.fullmatch(data) if isinstance(data, str) else None
        length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
        if not timedelta() < length <= timedelta(days=36_500):
            self._problems.append(f"{at}: is no duration such as 90s, 30m, 12h, 180d or 4w")
            return timedelta(days=1)
        return length
