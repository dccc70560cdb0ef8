"""A journey definition as validated, immutable data. `language` reads it from YAML.

Wherever a rule names places to start from and names none, it starts from any stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from shared.journey.rules import ANY_TOUCHPOINT, Matcher, Rule

Labels = Mapping[str, str]
Market = Literal["b2c", "b2b"]
OverlayKind = Literal["interruption", "detour"]

LANGUAGES = ("en", "da", "sv")
START = "start"
"""How `from` calls the place of a customer whose journey has not begun."""


@dataclass(frozen=True, slots=True)
class Article:
    """Where a journey comes from: the article's number, the language that it is in, and as far as they are
    known its title and who published it."""

    number: str
    language: str
    title: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Persona:
    """A kind of customer, told by what is known of them."""

    key: str
    labels: Labels
    when: Rule


@dataclass(frozen=True, slots=True)
class Audience:
    """Whom a journey is for. It begins only for those of whom `when` is met and who have one of the
    `personas`, where these are given; once begun, it goes on."""

    market: Market | None = None
    group: Labels | None = None
    when: Rule | None = None
    personas: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subject:
    """What one run of the journey is about: the customer, the account that they act for, or the thing that
    the property `property_name` names."""

    kind: Literal["customer", "account", "property"] = "customer"
    property_name: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Pauses the stage `after` so long without a touchpoint that `since` matches. With `patience` such a
    silence is what the stage is for, and no drop-off."""

    after: timedelta
    since: Matcher = ANY_TOUCHPOINT
    patience: bool = False


@dataclass(frozen=True, slots=True)
class Substage:
    """A part of a stage. One without a rule is entered with the stage."""

    key: str
    labels: Labels
    enter: Rule | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What fits a customer in a stage: soft content informs, hard content sells."""

    soft: tuple[str, ...] = ()
    hard: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the journey. `enter` enters it from an earlier stage or the start, if that is one of
    `sources`; a gate has no length, and moves the customer on to the next stage at once.

    `inside` says what the customer needs, thinks, feels and does there.
    """

    key: str
    labels: Labels
    enter: Rule | None = None
    gate: bool = False
    sources: frozenset[str] = frozenset()
    pause: Pause | None = None
    substages: tuple[Substage, ...] = ()
    measures: tuple[str, ...] = ()
    content: Content = Content()
    inside: Mapping[str, Labels] | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """A way into an exit: a rule, or so long `after` entering the stage or the last touchpoint in it that
    `since` matches."""

    sources: frozenset[str] = frozenset()
    on: Rule | None = None
    after: timedelta | None = None
    since: Matcher = ANY_TOUCHPOINT


@dataclass(frozen=True, slots=True)
class Return:
    """The way back from an exit, into a stage; with `new_lap` the journey begins anew there."""

    to: str
    on: Rule
    new_lap: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """A named end of the journey: lost, churned, a "no"."""

    key: str
    labels: Labels
    ways: tuple[Way, ...]
    returns: tuple[Return, ...] = ()


@dataclass(frozen=True, slots=True)
class Jump:
    """A way from stages to another one that isn't forward: back within a lap, or into the next lap."""

    to: str
    on: Rule
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Overlay:
    """What a stage can't say: an interruption (something bad is open) or a detour (off the path, and back).

    While it is open, the stages that it `blocks` can't be entered.
    """

    key: str
    kind: OverlayKind
    labels: Labels
    open: Rule
    close: Rule
    close_after: timedelta | None = None
    blocks: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Signal:
    """Stands beside the stage, on or off: sales ready, slow tracker. `off` or time is its way back."""

    key: str
    labels: Labels
    on: Rule
    off: Rule | None = None
    off_after: timedelta | None = None
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tally:
    """How many touchpoints there were in a lap that a matcher is about, `until` a rule held: touches before
    purchase."""

    key: str
    labels: Labels
    of: tuple[Matcher, ...]
    until: Rule | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Lets another journey begin, in its first stage."""

    journey: str
    on: Rule


@dataclass(frozen=True, slots=True)
class Started:
    """How another journey starts this one. `rule` names its rule, as a transition's cause does."""

    rule: str
    on: Rule


@dataclass(frozen=True, slots=True)
class Definition:
    """One version of a journey. `hash` tells two texts of one key and version apart, and two ways to fold
    them; `links` is the text, in JSON, of what `started_by` holds."""

    key: str
    version: int
    labels: Labels
    stages: tuple[Stage, ...]
    source: str
    hash: str
    article: Article | None = None
    audience: Audience = Audience()
    personas: tuple[Persona, ...] = ()
    subject: Subject = Subject()
    exits: tuple[Exit, ...] = ()
    regresses: tuple[Jump, ...] = ()
    laps: tuple[Jump, ...] = ()
    overlays: tuple[Overlay, ...] = ()
    signals: tuple[Signal, ...] = ()
    tallies: tuple[Tally, ...] = ()
    starts: tuple[Start, ...] = ()
    started_by: tuple[Started, ...] = ()
    links: str = "[]"
    measures: tuple[str, ...] = ()

    @property
    def places(self) -> tuple[str, ...]:
        """The keys of the stages in order, then of the exits."""
        stages = tuple(stage.key for stage in self.stages)
        return stages + tuple(exit_.key for exit_ in self.exits)
