"""What a proof says of rules, clocks and times, held against the fold and against the plain fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.journey import clocks
from shared.journey.beside import rules_beside
from shared.journey.catalog import all_definitions
from shared.journey.definition import Definition
from shared.journey.fold import Journey, fold
from shared.journey.language import parse
from shared.journey.memory import Memory
from shared.journey.misses import Seen
from shared.journey.nearness import Nearness
from shared.journey.plan import ways_out
from shared.journey.proof import Prover
from shared.journey.reasons import (
    Blocked,
    Elsewhere,
    Forbidden,
    NearBeside,
    NearRule,
    NotForThem,
    NoWay,
    OtherValue,
    Passed,
    Reason,
    Stands,
    TooFew,
    TooSoon,
)
from shared.journey.rules import Count, counts_in
from shared.journey.state import NOWHERE
from shared.journey.touch import Touch
from tests.support.journeys import EPOCH, WHOLE
from tests.support.plain_fold import PlainFold, matches
from tests.support.random_journeys import definitions, random_definition, rich_touches
from tests.support.stories import day, on, touches

INSTANTS = st.integers(0, 70 * 4).map(lambda quarters: EPOCH + timedelta(hours=quarters * 6))
KNOWN = [definition for definition, _ in all_definitions(None)] + [parse(WHOLE, "whole.yaml")]
TYPES = {one.key: tuple(sorted(type_ for type_ in Journey(one).asks if type_)) for one in KNOWN}
INSTANT = timedelta(microseconds=1)


@settings(max_examples=60)
@given(definition=definitions, timeline=rich_touches(), now=INSTANTS)
def test_what_comes_next_is_what_time_then_does(
    definition: Definition, timeline: list[Touch], now: datetime
) -> None:
    """The clocks are the fold's, `next` is when and what a sweeper will do, and so is all that follows it."""
    tells_the_times(definition, timeline, now)


@settings(max_examples=60)
@given(definition=definitions, timeline=rich_touches(20), now=INSTANTS)
def test_what_counts_is_what_the_timeline_holds(
    definition: Definition, timeline: list[Touch], now: datetime
) -> None:
    """The number and the oldest that a rule counts are those of looking at all touchpoints."""
    counts_right(definition, timeline, now)


@settings(max_examples=100)
@given(definition=definitions, timeline=rich_touches(20).filter(bool))
@example(
    definition=random_definition(7549),
    timeline=[
        Touch(EPOCH, UUID(int=1), "product_viewed", "web"),
        Touch(EPOCH, UUID(int=2), "page_viewed", "web"),
    ],
)
def test_a_touchpoint_moves_a_customer_only_by_a_rule_that_nothing_stood_in_the_way_of(
    definition: Definition, timeline: list[Touch]
) -> None:
    """What a proof says to be in the way of a rule keeps it from winning at the next touchpoint, and a rule
    of one part that lacks one touchpoint holds at it."""
    says_what_keeps_a_rule(definition, timeline)


@pytest.mark.parametrize("definition", KNOWN, ids=lambda one: one.key)
@settings(max_examples=15)
@given(data=st.data(), now=INSTANTS)
def test_every_built_in_definition_keeps_the_laws(
    definition: Definition, data: st.DataObject, now: datetime
) -> None:
    """All of the above, told in the types of touchpoints that the definition is about."""
    timeline = data.draw(rich_touches(types=TYPES[definition.key]).filter(bool))

    tells_the_times(definition, timeline, now)
    counts_right(definition, timeline, now)
    says_what_keeps_a_rule(definition, timeline)


def test_a_proof_of_nobody_says_how_to_begin() -> None:
    """Before the first touchpoint there is no history and no clock, and every beginning is named."""
    for definition in KNOWN:
        proof = Prover(Journey(definition)).prove(NOWHERE, [], Seen(), EPOCH)

        assert (proof.stage, proof.transitions, proof.clocks, proof.next, proof.then) == (
            None,
            [],
            [],
            None,
            [],
        )
        starts = {f"{stage.key}.enter" for stage in definition.stages if stage.enter is not None}
        assert {one.rule for one in proof.near} == starts | {one.rule for one in definition.started_by}


def test_a_pause_and_its_end_are_told_apart() -> None:
    """Both are by one clock: a pause by the silence that it waits for, its end by what broke the silence."""
    gym = Path(__file__).parents[2] / "docs/examples/gym.yaml"
    journey = Journey(parse(gym.read_text(), gym.name))
    timeline = touches(
        journey, [on(0, "subscription_started"), on(30, "store_visited", "store"), on(31, "page_viewed")]
    )
    state, transitions = fold(journey, timeline, day(31))
    proof = Prover(journey).prove(state, [(one, None) for one in transitions], Seen(timeline[::-1]), day(31))

    assert [(one.change, one.cause.says) for one in proof.transitions] == [
        ("enter", "subscription_started"),
        ("pause", "21 d in the stage without store_visited"),
        ("resume", "store_visited, which the pause waited for"),
    ]


def tells_the_times(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    journey = Journey(definition)
    state, _ = fold(journey, timeline, now)
    proof = Prover(journey).prove(state, [], Seen(timeline[::-1]), now)

    first = proof.clocks[0] if proof.clocks else None
    assert (first and first.at) == journey.due_at(state) == (proof.next and proof.next.at)
    ahead = clocks.ahead(journey, state)
    for number, coming in enumerate([*([proof.next] if proof.next else []), *proof.then]):
        assert first is not None
        assert number or coming.rule == first.rule
        so_far = [one for one in ahead if one.at <= coming.at]
        before = [one for one in ahead if one.at < coming.at]
        assert journey.advance(state, coming.at)[1] == so_far
        assert journey.advance(state, coming.at - INSTANT)[1] == before
        done = ahead[number]
        assert (done.at, done.kind, done.to_place, done.to_paused, done.rule) == (
            (coming.at, coming.change, coming.to, coming.to_paused, coming.rule)
        )
    assert journey.due_at(journey.advance(state, datetime.max.replace(tzinfo=now.tzinfo))[0]) is None


def counts_right(definition: Definition, timeline: list[Touch], now: datetime) -> None:
    now = max([now, *(touch.at for touch in timeline)])
    journey = Journey(definition)
    state, _ = fold(journey, timeline, now)
    plain = PlainFold(definition).run(timeline, now)
    memory = Memory(journey.plans.rules, state, now)

    rules = [way.on for way in ways_out(definition, state.place)]
    rules += [one.on for one in rules_beside(definition, state)]
    for rule in rules:
        for count in counts_in(rule):
            if not memory.has(count):
                continue
            counted, times = memory.counted(count), plain.counted(count, now)
            if count.ago is not None:
                assert list(counted.times) == times[:1]
                continue
            units = {at.date() for at in times} if count.distinct_days else times
            assert counted.number == min(len(units), count.at_least)
            if count.within is not None and times:
                days = {at.date(): at for at in times}
                kept = sorted(days.values()) if count.distinct_days else times
                assert list(counted.times) == kept[-count.at_least :]


def says_what_keeps_a_rule(definition: Definition, timeline: list[Touch]) -> None:
    *before, touch = timeline
    journey = Journey(definition)
    state, _ = fold(journey, before, touch.at)
    nearness = Nearness(journey, state, Seen(before[::-1]), touch.at)
    near = {one.rule: one for one in nearness.rules()}
    beside = {one.rule: one for one in nearness.beside()}
    ways = {way.rule: way.on for way in ways_out(definition, state.place)}
    plain = PlainFold(definition).run(before, touch.at)
    refused = state.place is None and not plain.is_admitted(touch.at)
    told = len(plain.told)

    assert near.keys() == ways.keys()
    assert len(beside) == len(nearness.beside()) == len(list(rules_beside(definition, state)))
    assert beside.keys() == set(could_change_beside(plain))
    names_what_it_missed((*near.values(), *beside.values()), before)
    comes_near_behind_the_entry(near.values(), state.entered_at)
    passed_in_vain((*near.values(), *beside.values()), plain)
    for one in near.values():
        assert any(isinstance(reason, NotForThem) for reason in one.reasons) == refused
    if any(name.startswith("trait.") for name in touch.content):
        return  # what a touchpoint teaches may take away what stood in its way
    plain.meet(touch)
    told_now = plain.told[told:]
    moved_by = next((rule for _, kind, _, _, _, rule in told_now if kind in MOVES), None)
    done = {rule for *_, rule in told_now}
    if moved_by is not None:
        assert not list(in_the_way(near[moved_by].reasons, done))
        return
    for rule in done & beside.keys():
        assert not list(in_the_way(beside[rule].reasons, done, f"{beside[rule].about}.close"))
    on = ways | {one.rule: one.on for one in rules_beside(definition, state)}
    told_of: list[Near] = [*near.values(), *beside.values()]
    for rule, reasons in ((one.rule, one.reasons) for one in told_of):
        count = on[rule]
        if isinstance(count, Count) and not count.distinct_days and not count.is_condition:
            lacks = [one.more for one in reasons if isinstance(one, TooFew)]
            if matches(count.matcher, touch, plain.known):
                assert [plain.holds(count, touch)] == [more == 1 for more in lacks]


MOVES = {"enter", "regress", "lap", "exit", "return"}


def could_change_beside(plain: PlainFold) -> Iterator[str]:
    """The names of the rules of a stage's later substages, and of all that opens, goes on, or could end."""
    stage = plain.stage()
    if stage is not None:
        keys = [one.key for one in stage.substages]
        for one in stage.substages[keys.index(plain.substage) + 1 if plain.substage else 0 :]:
            if one.enter is not None:
                yield f"{stage.key}.{one.key}.enter"
    for overlay in plain.definition.overlays:
        yield f"{overlay.key}.open"
        if overlay.key in plain.open:
            yield f"{overlay.key}.close"
    for signal in plain.definition.signals:
        yield f"{signal.key}.on"
        if signal.key in plain.signals and signal.off is not None:
            yield f"{signal.key}.off"


def in_the_way(reasons: Iterable[Reason], done: Set[str], ends: str = "") -> Iterator[Reason]:
    """What one touchpoint can't take away, unless it closes an overlay: one that blocks, or, by the rule
    `ends`, the one that it opens anew."""
    for reason in reasons:
        if isinstance(reason, Blocked):
            if f"{reason.overlay}.close" not in done:
                yield reason
        elif isinstance(reason, Stands):
            if ends not in done:
                yield reason
        elif isinstance(reason, NoWay):
            if all(list(in_the_way(way.reasons, done)) for way in reason.ways):
                yield reason
        elif isinstance(reason, Forbidden):
            # One with a `none` within is taken away by what that is about.
            if "none of (" not in reason.what:
                yield reason
        elif isinstance(reason, Elsewhere | TooSoon) or (isinstance(reason, TooFew) and reason.more > 1):
            yield reason


Near = NearRule | NearBeside


def all_reasons(reasons: Iterable[Reason]) -> Iterator[Reason]:
    """The reasons, and those of each way and of whom a journey is for."""
    for reason in reasons:
        yield reason
        if isinstance(reason, NoWay):
            for way in reason.ways:
                yield from all_reasons(way.reasons)
        elif isinstance(reason, NotForThem):
            yield from all_reasons(reason.reasons)


def names_what_it_missed(near: Iterable[Near], before: list[Touch]) -> None:
    """A touchpoint that missed is one of the customer's, and carries the value that it is said to."""
    for one in near:
        for reason in all_reasons(one.reasons):
            if isinstance(reason, OtherValue) and reason.touchpoint is not None:
                (touch,) = [touch for touch in before if touch.id == reason.touchpoint.id]
                if reason.source in ("channel", "owner"):
                    assert getattr(touch, reason.source) == reason.value not in reason.operands


def comes_near_behind_the_entry(near: Iterable[NearRule], entered_at: datetime | None) -> None:
    """What the customer did before they came to where they are is no near miss of a way out."""
    for one in near:
        for reason in all_reasons(one.reasons):
            if isinstance(reason, OtherValue | Passed) and reason.touchpoint is not None:
                assert entered_at is None or reason.touchpoint.at > entered_at


def passed_in_vain(near: Iterable[Near], plain: PlainFold) -> None:
    """What is said to have been all that a rule asks for, with something in its way, did nothing by it."""
    did = {(rule, cause) for *_, cause, rule in plain.told}
    for one in near:
        for reason in all_reasons(one.reasons):
            if isinstance(reason, Passed):
                assert (one.rule, reason.touchpoint.id) not in did
