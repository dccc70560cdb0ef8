"""Random definitions over a small vocabulary, and random timelines that speak it.

A definition is made of a seed: drawing its hundreds of choices one by one takes a hundred times as long, and
what fails is made small by hand anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from shared.journey.checks import check
from shared.journey.definition import Definition
from shared.journey.definition_shapes import DEFINITION
from shared.journey.shape import Reading
from shared.journey.touch import Touch
from tests.support.journeys import EPOCH

Data = dict[str, Any]

TYPES = ("order_completed", "product_viewed", "call_ended", "offer_declined", "page_viewed")
CHANNELS = ("web", "store", "phone")
OWNERS = ("own", "third_party")
_LABELS = {"en": "A", "da": "B", "sv": "C"}
_DURATIONS = ("6h", "1d", "36h", "3d", "8d", "20d")
_TESTS: tuple[Data, ...] = (
    {"property": {"total": {"at_least": 100}}},
    {"property": {"page": ["returns", "prices"]}},
    {"property": {"page": ["returns", "news"], "total": {"below": 50}}},
    {"context": {"campaign.name": {"exists": True}}},
    {"context": {"campaign.name": {"contains": "SPRING"}}},
    {"sentiment": {"below": 0}},
    {"sentiment": {"at_least": 0, "at_most": 0.5}},
    {"trait": {"vip": True}},
    {"trait": {"employees": {"above": 9, "at_most": 100}}},
    {"trait": {"vip": {"exists": False}}},
    {"owner": "third_party"},
)


class _Writer:
    """Writes the parts of a definition by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.stages = [f"s{number}" for number in range(self.chance.randint(1, 4))]

    def one_in(self, number: int) -> bool:
        return not self.chance.randrange(number)

    def some(self, words: Sequence[str]) -> list[str]:
        return self.chance.sample(words, min(len(words), self.chance.randint(1, 2)))

    def duration(self) -> str:
        return self.chance.choice(_DURATIONS)

    def matcher(self) -> Data:
        found: Data = {}
        if not self.one_in(5):
            found["type"] = self.some(TYPES)
        if self.one_in(5):
            found["channel"] = self.some(CHANNELS)
        if self.one_in(4):
            found |= self.chance.choice(_TESTS)
        return found

    def count(self) -> Data:
        found = self.matcher()
        kind = self.chance.randrange(7)
        if kind in (1, 2, 3):
            found["at_least"] = self.chance.randint(1, 4)
        if kind in (2, 4):
            found["within"] = self.duration()
        if kind in (3, 4):
            found["distinct"] = "days"
        if kind == 5:
            found["ago"] = self.duration()
        if self.one_in(5):
            found["in_stage"] = True
        return found

    def rule(self, depth: int = 2) -> Data:
        if not depth or not self.one_in(3):
            return self.count()
        names = self.chance.choice([("any",), ("all",), ("any", "none"), ("all", "none"), ("none",)])
        found = {name: [self.rule(depth - 1) for _ in range(self.chance.randint(1, 2))] for name in names}
        return {**self.count(), **found} if names == ("none",) else found

    def definition(self) -> Data:
        chance = self.chance
        found: Data = {
            "key": "random",
            "version": 1,
            "labels": _LABELS,
            "stages": [self.stage(number) for number in range(len(self.stages))],
            "exits": self.parts("x", self.exit),
            "personas": self.parts("p", lambda key: self.named(key, when=self.rule())),
            "regress": [self.jump()],
            "laps": [self.jump()],
            "overlays": self.parts("o", self.overlay),
            "signals": self.parts("g", self.signal),
            "tallies": self.parts("t", self.tally),
        }
        if self.one_in(2):
            found["for"] = chance.choice([{"personas": ["p0"]}, {"when": self.rule()}])
        for name in ("exits", "regress", "laps", "overlays", "signals", "tallies"):
            if self.one_in(4):
                del found[name]
        return found

    def parts(self, prefix: str, write: Callable[[str], Data]) -> list[Data]:
        return [write(f"{prefix}{number}") for number in range(self.chance.randint(1, 2))]

    def named(self, key: str, **more: Any) -> Data:
        return {"key": key, "labels": _LABELS, **more}

    def tally(self, key: str) -> Data:
        of = self.matcher() if self.one_in(2) else [self.matcher(), self.matcher()]
        return self.named(key, of=of, until=self.rule())

    def stage(self, number: int) -> Data:
        key = self.stages[number]
        found = self.named(key, enter=self.rule())
        if number and self.one_in(4):
            found["from"] = self.some(["start", *self.stages[:number]])
        if number + 1 < len(self.stages) and self.one_in(5):
            return {**found, "gate": True}
        if self.one_in(2):
            found["pause"] = {"after": self.duration(), "since": self.matcher()}
        if self.one_in(3):
            found["substages"] = [self.named(f"{key}a"), self.named(f"{key}b", enter=self.rule())]
        return found

    def exit(self, key: str) -> Data:
        ways: list[Data] = [
            {"after": self.duration(), "since": self.matcher()} if self.one_in(2) else {"on": self.rule()}
            for _ in range(self.chance.randint(1, 2))
        ]
        if self.one_in(2):
            ways[0]["from"] = self.some(self.stages)
        found = self.named(key, enter=ways)
        if self.one_in(2):
            to = self.chance.choice(self.stages)
            found["return"] = {"to": to, "on": self.rule(), "new_lap": self.one_in(2)}
        return found

    def jump(self) -> Data:
        return {"from": self.some(self.stages), "to": self.chance.choice(self.stages), "on": self.rule()}

    def overlay(self, key: str) -> Data:
        found = self.named(key, kind="detour", open=self.rule(), close=self.rule())
        if self.one_in(2):
            found["close_after"] = self.duration()
        if self.one_in(2):
            found["blocks"] = self.some(self.stages)
        if self.one_in(2):
            found["from"] = self.some(self.stages)
        return found

    def signal(self, key: str) -> Data:
        found = self.named(key, on=self.rule())
        if self.one_in(2):
            found["off"] = self.rule()
        if self.one_in(2):
            found["off_after"] = self.duration()
        if self.one_in(2):
            found["from"] = self.some(self.stages)
        return found


def random_definition(seed: int) -> Definition:
    """A valid definition; most seeds' first try is one."""
    while True:
        reading = Reading({})
        definition = DEFINITION.read(_Writer(seed).definition(), "", reading)
        check(definition, reading)
        if not reading.problems:
            return definition
        seed += 1 << 32


definitions = st.integers(0, (1 << 32) - 1).map(random_definition)

_content = st.fixed_dictionaries(
    {},
    optional={
        "property.total": st.sampled_from([10, 75.5, 300, None, "300"]),
        "property.page": st.sampled_from(["returns", "prices", ("news", "prices"), True]),
        "context.campaign.name": st.sampled_from(["Spring 2026", "autumn", None]),
        "trait.vip": st.sampled_from([True, False, None, 1]),
        "trait.employees": st.sampled_from([1, 10, 100, 1000]),
        # What the built-in definitions ask for.
        "property.rating": st.integers(1, 5),
        "property.role": st.sampled_from(["user", "buyer", "decision_maker"]),
        "property.specific": st.booleans(),
        "property.referred_by": st.just("ann"),
        "property.vehicle_id": st.sampled_from(["AB 12 345", "CD 67 890"]),
        "context.search_term": st.sampled_from(["køb vs. privatleasing", "elbil"]),
        "trait.customer_type": st.sampled_from(["business", "private"]),
    },
)


def rich_touches(size_max: int = 12, types: Sequence[str] = TYPES) -> st.SearchStrategy[list[Touch]]:
    """Timelines in the fold's order of touches that carry everything, or nothing but type and channel, with
    equal times among them."""
    named: dict[str, st.SearchStrategy[Any]] = {
        "at": st.integers(0, 40 * 24).map(lambda hours: EPOCH + timedelta(hours=hours // 3 * 3)),
        "id": st.integers(1, 1 << 64).map(lambda number: UUID(int=number)),
        "type": st.sampled_from((*types, "never_heard_of")),
        "channel": st.sampled_from(CHANNELS),
    }
    carrying = st.builds(
        Touch,
        **named,
        owner=st.sampled_from(OWNERS),
        sentiment=st.sampled_from([None, -0.5, 0.0, 0.8]),
        content=_content,
    )
    touch = carrying | st.builds(Touch, **named)
    return st.lists(touch, max_size=size_max, unique_by=lambda one: one.id).map(
        lambda found: sorted(found, key=lambda one: (one.at, one.id))
    )
