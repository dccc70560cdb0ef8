"""Why a rule hasn't moved a customer: each kind of rule, with its exact reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.misses import Seen
from shared.journey.nearness import Nearness
from shared.journey.reasons import NearRule
from tests.support.stories import Happening, day, on, touches

LABELS = "{en: A, da: B, sv: C}"

VIEW, VIEWS = on(1, "view"), [on(1, "view"), on(2, "view")]
PLAN = "property plan of change"


def near(rule: str, *happenings: Happening, until: float, more: str = "", to: str = "two") -> NearRule:
    """What keeps `two` from being entered by a rule, after a beginning at day 0."""
    stages = [("one", "enter: {type: begin}"), ("two", f"enter: {rule}"), ("three", "enter: {type: buy}")]
    lines = [f"key: edges\nversion: 1\nlabels: {LABELS}\nstages:"]
    lines += [f"  - {{key: {key}, labels: {LABELS}, {enter}}}" for key, enter in stages]
    journey = Journey(parse("\n".join([*lines, more]), "edges.yaml"))
    timeline = touches(journey, [on(0, "begin"), *happenings])
    state, _ = fold(journey, timeline, day(until))
    assert state.place == "one"
    found = Nearness(journey, state, Seen(timeline[::-1]), day(until)).rules()
    return next(one for one in found if one.to == to)


@pytest.mark.parametrize(
    ("rule", "happenings", "until", "progress", "reasons"),
    [
        pytest.param(
            "{type: view, at_least: 3, within: 14d}",
            VIEWS,
            5,
            2 / 3,
            [
                {
                    "code": "count",
                    "says": "2 of 3 view within 14 d; the oldest counts until 2026-01-16 00:00:00Z",
                    "have": 2,
                    "need": 3,
                    "more": 1,
                    "unit": "touchpoints",
                    "within": "14 d",
                    "in_stage": False,
                    "counted_until": "2026-01-16T00:00:00Z",
                }
            ],
            id="a window counts",
        ),
        pytest.param(
            "{type: view, at_least: 3, within: 14d}",
            VIEWS,
            15,
            2 / 3,
            [{"have": 2, "more": 1, "counted_until": "2026-01-16T00:00:00Z"}],
            id="a window takes in its own length",
        ),
        pytest.param(
            "{type: view, at_least: 3, within: 14d}",
            VIEWS,
            15.5,
            1 / 3,
            [{"have": 1, "more": 2, "counted_until": "2026-01-17T00:00:00Z"}],
            id="a window drops the oldest",
        ),
        pytest.param(
            "{type: view, at_least: 3, distinct: days}",
            [on(1, "view"), on(2, "view"), on(2.1, "view")],
            2.2,
            2 / 3,
            [{"says": "2 of 3 days with view; today counts already", "unit": "days", "counted_until": None}],
            id="days count once",
        ),
        pytest.param(
            "{type: view, at_least: 2, in_stage: true}",
            [VIEW],
            3,
            1 / 2,
            [{"says": "1 of 2 view since entering the stage", "in_stage": True}],
            id="a stage counts its own",
        ),
        pytest.param(
            "{type: [call, view], channel: store}",
            [VIEW],
            3,
            1 / 2,
            [
                {"says": "waits for call or view in store", "have": 0, "need": 1},
                {"code": "value", "says": "channel of view is web, not store", "source": "channel"},
            ],
            id="another channel",
        ),
        pytest.param(
            "{type: view, owner: [partner, third_party]}",
            [VIEW],
            3,
            1 / 2,
            [{"code": "count"}, {"says": "owner of view is own, not partner or third_party", "value": "own"}],
            id="another owner",
        ),
        pytest.param(
            "{type: change, property: {plan: basic}}",
            [on(1, "change", properties={"plan": "trial"}), on(2, "change", properties={"plan": "premium"})],
            3,
            1 / 2,
            [
                {"says": "waits for change with property plan basic"},
                {
                    "code": "value",
                    "says": f"{PLAN} is premium, not basic",
                    "source": "property",
                    "name": "plan",
                    "operator": "is",
                    "operands": ["basic"],
                    "value": "premium",
                    "touchpoint": {
                        "id": "00000000-0000-0000-0000-000000000003",
                        "at": "2026-01-03T00:00:00Z",
                        "type": "change",
                        "channel": "web",
                    },
                },
            ],
            id="another property, of the latest",
        ),
        pytest.param(
            "{type: change, property: {plan: {exists: true}, seats: {above: 9}}}",
            [on(1, "change", properties={"seats": 9})],
            3,
            1 / 3,
            [
                {"code": "count"},
                {"says": f"{PLAN} is nothing, not anything", "value": None},
                {"says": "property seats of change is 9, not above 9", "operator": "above", "value": 9},
            ],
            id="nothing there, and too little",
        ),
        pytest.param(
            "{type: view, context: {campaign.name: {contains: spring}}}",
            [on(1, "view", context={"campaign": {"name": "Autumn"}})],
            3,
            1 / 2,
            [
                {"code": "count"},
                {"says": "context campaign.name of view is Autumn, not a text with 'spring' in it"},
            ],
            id="another context",
        ),
        pytest.param(
            "{type: review, sentiment: {above: 0}}",
            [on(1, "review", sentiment=-0.5)],
            3,
            1 / 2,
            [{"code": "count"}, {"says": "sentiment of review is -0.5, not above 0", "source": "sentiment"}],
            id="another feeling",
        ),
        pytest.param(
            "{type: call, trait: {size: {at_least: 10}}}",
            [on(1, "view", traits={"size": 4})],
            3,
            0,
            [{"code": "count"}, {"says": "trait size is 4, not at least 10", "value": 4, "touchpoint": None}],
            id="another trait",
        ),
        pytest.param(
            "{all: [{type: view, at_least: 2}, {trait: {vip: true}}]}",
            VIEWS,
            3,
            1 / 2,
            [{"code": "value", "says": "trait vip is nothing, not true"}],
            id="one part of all lacks",
        ),
        pytest.param(
            "{all: [{type: view}, {type: call}]}",
            [VIEW],
            3,
            1 / 2,
            [{"says": "waits for call"}],
            id="the other part of all",
        ),
        pytest.param(
            "{type: call, none: [{type: view, within: 10d}]}",
            VIEWS,
            3,
            0,
            [
                {"says": "waits for call"},
                {"code": "forbidden", "what": "view within 10 d", "until": "2026-01-13T00:00:00Z"},
            ],
            id="what must not have been, for some time",
        ),
        pytest.param(
            "{type: call, none: [{type: view}]}",
            [VIEW],
            3,
            0,
            [{"code": "count"}, {"code": "forbidden", "until": None}],
            id="what must not have been, ever",
        ),
        pytest.param(
            "{all: [{type: view, ago: 7d}, {type: call}]}",
            [VIEW],
            3,
            0,
            [
                {
                    "code": "too_soon",
                    "first_at": "2026-01-02T00:00:00Z",
                    "holds_from": "2026-01-09T00:00:00Z",
                },
                {"code": "count"},
            ],
            id="not long enough ago",
        ),
        pytest.param(
            "{all: [{type: view, ago: 7d}, {type: call}]}",
            [],
            3,
            0,
            [{"code": "too_soon", "first_at": None, "says": "no view yet: it has to lie 7 d back"}, {}],
            id="never yet",
        ),
        pytest.param(
            "{any: [{type: call}, {type: view, at_least: 3}]}",
            VIEWS,
            3,
            2 / 3,
            [
                {
                    "code": "any",
                    "says": "none of 2 ways is there",
                    "ways": [
                        {"rule": "call", "progress": 0.0},
                        {"rule": "3 × view", "progress": 0.667},
                    ],
                }
            ],
            id="none of any",
        ),
        pytest.param(
            "{all: [{type: view}, {type: call}], none: [{type: complaint}]}",
            [VIEW, on(1.5, "complaint"), on(2, "call")],
            3,
            2 / 3,
            [{"code": "awaited", "says": "waits for view or call"}, {"code": "forbidden"}],
            id="all met, and restricted",
        ),
    ],
)
def test_a_rule_names_what_it_lacks(
    rule: str, happenings: list[Happening], until: float, progress: float, reasons: list[Mapping[str, Any]]
) -> None:
    """The code, the fields and the sentence; and how much of it is there."""
    found = near(rule, *happenings, until=until)

    assert (found.change, found.rule) == ("enter", "two.enter")
    assert found.progress == pytest.approx(progress, abs=0.001)
    said = plain(found.reasons)
    assert len(said) == len(reasons)
    for one, expected in zip(said, reasons, strict=True):
        assert agrees(one, expected), (one, expected)


def plain(said: object) -> Any:
    """As the API says it."""
    return msgspec.json.decode(msgspec.json.encode(said))


def agrees(said: Any, expected: Any) -> bool:
    """Whether what is expected stands in what is said."""
    if isinstance(expected, dict):
        return all(name in said and agrees(said[name], value) for name, value in expected.items())
    if isinstance(expected, list) and expected and isinstance(expected[0], dict):
        return all(agrees(one, wanted) for one, wanted in zip(said, expected, strict=True))
    return bool(said == expected)


def test_an_open_overlay_is_what_stands_in_the_way() -> None:
    """The touchpoint that would have done it is named too: it has to happen again."""
    complaint = (
        f"overlays: [{{key: complaint, kind: interruption, labels: {LABELS}, open: {{type: complaint}}, "
        "close: {type: resolved}, blocks: two}]"
    )
    blocked = near("{type: call}", on(1, "complaint"), on(2, "call"), until=3, more=complaint)
    closed = near(
        "{type: call}", on(1, "complaint"), on(2, "call"), on(3, "resolved"), until=4, more=complaint
    )

    assert [one.says for one in blocked.reasons] == [
        "blocked by the open interruption complaint, since 2026-01-02 00:00:00Z",
        "waits for call",
        "call at 2026-01-03 00:00:00Z was one, and something stood in the way",
    ]
    assert blocked.progress == 1
    assert [one.says for one in closed.reasons] == [one.says for one in blocked.reasons[1:]]


def test_a_rule_of_other_places_says_which() -> None:
    """A jump from elsewhere is told with the places that it starts from, however much of it is there."""
    laps = "laps: [{from: [three, two], to: one, on: {type: view, at_least: 3}}]"
    found = near("{type: call}", *VIEWS, until=3, more=laps, to="one")

    assert found.change == "lap"
    assert [one.says for one in found.reasons] == [
        "only from two or three, and the customer is in one",
        "2 of 3 view",
    ]


def test_whom_a_journey_is_not_for_is_told() -> None:
    """Before the beginning, with what the customer is and what they would have to be."""
    text = f"""
key: edges
version: 1
labels: {LABELS}
for: {{personas: [private], when: {{none: [{{trait: {{employees: {{above: 9}}}}}}]}}}}
personas:
  - {{key: business, labels: {LABELS}, when: {{trait: {{kind: business}}}}}}
  - {{key: private, labels: {LABELS}, when: {{trait: {{kind: private}}}}}}
stages: [{{key: one, labels: {LABELS}, enter: {{type: begin}}}}]
"""
    journey = Journey(parse(text, "edges.yaml"))
    timeline = touches(journey, [on(0, "begin", traits={"kind": "business", "employees": 50})])
    state, _ = fold(journey, timeline, day(1))

    (found,) = Nearness(journey, state, Seen(timeline), day(1)).rules()

    reason = plain(found.reasons[0])
    assert (reason["code"], reason["persona"], reason["personas"]) == ("audience", "business", ["private"])
    assert reason["says"] == (
        "the journey begins only for private, and the customer is business and "
        "for whom this has been met: none of (trait employees above 9)"
    )
    assert [one["code"] for one in reason["reasons"]] == ["forbidden"]


def test_a_trait_that_was_told_too_far_back_is_said_to_be_another_one() -> None:
    """Of a value that nobody read no proof makes up what it is."""
    rule = f"{{key: two, labels: {LABELS}, enter: {{type: call, trait: {{vip: true}}}}}}"
    first = f"{{key: one, labels: {LABELS}, enter: {{}}}}"
    text = f"key: edges\nversion: 1\nlabels: {LABELS}\nstages: [{first}, {rule}]"
    journey = Journey(parse(text, "edges.yaml"))
    timeline = touches(journey, [on(0, "view", traits={"vip": False}), on(1, "view")])
    state, _ = fold(journey, timeline, day(2))

    (found,) = Nearness(journey, state, Seen(timeline[-1:], whole=False), day(2)).rules()

    reason = plain(found.reasons[1])
    assert reason["says"] == "trait vip is another value, not true"
    assert "value" not in reason


BESIDE = f"""
key: edges
version: 1
labels: {LABELS}
stages:
  - {{key: one, labels: {LABELS}, enter: {{type: begin}}}}
  - key: two
    labels: {LABELS}
    enter: {{type: move}}
    substages:
      - {{key: new, labels: {LABELS}}}
      - {{key: used, labels: {LABELS}, enter: {{type: view, at_least: 2, in_stage: true}}}}
exits: [{{key: gone, labels: {LABELS}, enter: {{on: {{type: leave}}}}}}]
overlays:
  - {{key: complaint, kind: interruption, labels: {LABELS}, from: two, open: {{type: complaint}},
      close: {{type: answer, property: {{solved: true}}}}}}
signals:
  - {{key: ready, labels: {LABELS}, on: {{type: view, at_least: 3, within: 14d}}, off: {{type: refuse}}}}
"""
WITHIN = "view within 14 d; the oldest counts until"


@pytest.mark.parametrize(
    ("happenings", "expected"),
    [
        pytest.param(
            [on(1, "complaint"), on(2, "view")],
            {
                "complaint.open": [
                    "only in two, and the customer is in start",
                    "waits for complaint",
                    "complaint at 2026-01-02 00:00:00Z was one, and something stood in the way",
                ],
                "ready.on": [
                    "only once the journey has begun, and the customer is in start",
                    f"1 of 3 {WITHIN} 2026-01-17 00:00:00Z",
                ],
            },
            id="before the beginning",
        ),
        pytest.param(
            [on(0, "begin"), on(1, "move"), on(2, "view"), on(3, "complaint"), on(4, "answer")],
            {
                "two.used.enter": ["1 of 2 view since entering the stage"],
                "complaint.open": [
                    "the interruption complaint is open already, since 2026-01-04 00:00:00Z",
                    "waits for complaint",
                ],
                "complaint.close": [
                    "waits for answer with property solved true",
                    "property solved of answer is nothing, not true",
                ],
                "ready.on": [f"1 of 3 {WITHIN} 2026-01-17 00:00:00Z"],
            },
            id="an open overlay, and an answer that did not close it",
        ),
        pytest.param(
            [
                on(0, "begin"),
                on(1, "move"),
                on(2, "complaint"),
                on(3, "answer", properties={"solved": True}),
                *(on(number, "view") for number in (4, 5, 6)),
            ],
            {
                # It did open the overlay, which has closed since: nothing stood in its way.
                "complaint.open": ["waits for complaint"],
                "ready.on": [
                    "the signal ready is on already, since 2026-01-07 00:00:00Z",
                    "3 of 3 view within 14 d, and waits for the next one",
                ],
                "ready.off": ["waits for refuse"],
            },
            id="closed again, the last substage, and a signal that is on",
        ),
        pytest.param(
            [on(0, "begin"), on(1, "move"), on(2, "complaint"), on(3, "leave")],
            {
                "complaint.open": [
                    "the interruption complaint is open already, since 2026-01-03 00:00:00Z",
                    "only in two, and the customer is in gone",
                    "waits for complaint",
                ],
                "complaint.close": ["waits for answer with property solved true"],
                "ready.on": ["0 of 3 view within 14 d"],
            },
            id="in an exit signals still go on, and what is open still closes",
        ),
    ],
)
def test_what_stands_beside_the_stage_names_what_it_lacks(
    happenings: list[Happening], expected: Mapping[str, list[str]]
) -> None:
    """Each rule that could open, close, go on or off, or enter a later substage: what stands in its way, and
    what is missing. What is not there has nothing that could end it."""
    journey = Journey(parse(BESIDE, "edges.yaml"))
    timeline = touches(journey, happenings)
    state, _ = fold(journey, timeline, day(8))

    found = Nearness(journey, state, Seen(timeline[::-1]), day(8)).beside()

    assert {one.rule: [reason.says for reason in one.reasons] for one in found} == expected
    assert [one.progress for one in found] == sorted((one.progress for one in found), reverse=True)


def test_windows_say_when_they_end_and_what_ripens() -> None:
    """Time alone takes touchpoints out of windows and lets others lie far enough back, at its instant."""
    text = f"""
key: edges
version: 1
labels: {LABELS}
stages:
  - {{key: one, labels: {LABELS}, enter: {{type: begin}}}}
  - {{key: two, labels: {LABELS}, enter: {{type: view, at_least: 2, within: 5d}}}}
  - {{key: three, labels: {LABELS}, enter: {{all: [{{type: begin, ago: 9d}}, {{type: call}}]}}}}
"""
    journey = Journey(parse(text, "edges.yaml"))
    timeline = touches(journey, [on(0, "begin"), on(1, "view")])
    state, _ = fold(journey, timeline, day(2))

    windows = Nearness(journey, state, Seen(timeline[::-1]), day(2)).windows()

    assert [(one.kind, one.at, one.rule) for one in windows] == [
        ("ends", day(6), "two.enter"),
        ("ripens", day(9), "three.enter"),
    ]
    for late, places in ((timedelta(), "two"), (timedelta(microseconds=1), "one")):
        again = touches(journey, [on(0, "begin"), on(1, "view"), on(6 + late / timedelta(days=1), "view")])
        assert fold(journey, again, day(7))[0].place == places
    for at, place in ((8.99, "one"), (9, "three")):
        assert fold(journey, touches(journey, [on(0, "begin"), on(at, "call")]), day(9))[0].place == place
