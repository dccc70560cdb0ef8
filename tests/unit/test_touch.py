"""Touches: of a touchpoint what some definition asks for, and nothing else."""

from __future__ import annotations

import gc
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.codec import decode
from shared.journey.fold import RUN_NAME_BYTES_MAX, Journey, subject_of
from shared.journey.language import parse
from shared.journey.touch import Lens, Touch
from shared.touchpoint import Touchpoint
from tests.support.journeys import all_journeys
from tests.support.stories import BUILT_IN

ID = UUID(int=7)
RULES = """
key: asking
version: 1
labels: {en: A, da: B, sv: C}
subject: {property: order_id}
stages:
  - key: one
    labels: {en: A, da: B, sv: C}
    enter:
      any:
        - {type: order_completed, property: {total: {above: 1}, cart.size: 3}, owner: own}
        - {type: page_viewed, context: {campaign.name: spring}}
        - {type: call_ended}
"""


def touchpoint(type_: str, **more: object) -> Touchpoint:
    said = {"id": "1", "type": type_, "channel": "web", "occurred_at": "2026-01-01T00:00:00Z"}
    said |= {"received_at": "2026-01-01T00:00:00Z", "source": "x", "identities": ["user_id:ann"], **more}  # type: ignore[dict-item]
    return decode(msgspec.json.encode(said))


def lens_of(*texts: str) -> Lens:
    return Lens([Journey(parse(text, "asking.yaml")).asks for text in texts])


def test_a_definition_that_asks_for_types_alone_gets_types_alone() -> None:
    """Nothing else of a touchpoint is even looked at."""
    lens = Lens([Journey(BUILT_IN["purchase-lifecycle"]).asks])
    one = touchpoint("order_completed", properties={"total": 5}, owner="partner")

    assert lens.types_with_content == []
    assert lens.touch(ID, one) == Touch(one.occurred_at, ID, "order_completed", "web")


def test_a_touch_carries_what_is_asked_of_its_type() -> None:
    """Values by their names, through nested objects; what was not asked for stays behind."""
    properties = {"total": 5, "cart": {"size": 3, "color": "red"}, "order_id": "o-1", "more": 1}
    one = touchpoint("order_completed", properties=properties, owner="partner", sentiment=0.5)
    touch = lens_of(RULES).touch(ID, one)

    assert touch.content == {"property.total": 5, "property.cart.size": 3, "property.order_id": "o-1"}
    assert (touch.owner, touch.sentiment) == ("partner", 0.5)


@pytest.mark.parametrize(
    ("said", "content"),
    [
        ({}, {}),
        ({"context": {"campaign": "spring"}}, {}),
        ({"context": {"campaign": {"name": None}}}, {"context.campaign.name": None}),
        ({"context": {"campaign": {"name": ["a", {}, 2]}}}, {"context.campaign.name": ("a", 2)}),
        ({"context": {"campaign": {"name": {"x": 1}}}}, {"context.campaign.name": ()}),
    ],
)
def test_whatever_shape_a_value_has_it_is_no_error(
    said: dict[str, object], content: dict[str, object]
) -> None:
    """A sender's objects are its own: what can't be compared is there, and equals nothing."""
    assert lens_of(RULES).touch(ID, touchpoint("page_viewed", **said)).content == content


@pytest.mark.parametrize("name", ["ördre", 'a"b', "a\tb", "order_id", ""])
@pytest.mark.parametrize("escaped", [True, False])
def test_a_value_is_found_however_its_name_is_written(name: str, escaped: bool) -> None:
    """JSON may write a letter as it is or by its number."""
    written = "".join(f"\\u{ord(letter):04x}" for letter in name) if escaped else json.dumps(name)[1:-1]
    if not escaped and name.isalpha():
        written = name
    one = touchpoint("order_completed")
    one = msgspec.structs.replace(one, properties=msgspec.Raw(f'{{"x": 1, "{written}": "o-1"}}'.encode()))
    lens = Lens([{None: frozenset({("property", name)})}])

    assert lens.touch(ID, one).content == {f"property.{name}": "o-1"}


_NAMES = st.sampled_from(["a", "b", "ab", "a.b", "b.a.a", 'a"', "ä"])
_MEMBERS = st.dictionaries(
    st.sampled_from(["a", "b", "ab", "x", 'a"', "ä"]),
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=2),
        lambda values: st.lists(values, max_size=2) | st.dictionaries(st.sampled_from("ab"), values),
        max_leaves=4,
    ),
)


@given(_MEMBERS, st.sets(_NAMES))
def test_what_is_asked_for_is_what_json_says(members: dict[str, Any], names: set[str]) -> None:
    """Whatever else an object has, and whichever names are asked for together."""
    touch = Lens([{None: frozenset(("trait", name) for name in names)}]).touch(
        ID, touchpoint("order_completed", traits=members)
    )

    expected = {}
    for name in names:
        value: Any = members
        for step in name.split("."):
            value = value.get(step, ...) if isinstance(value, dict) else ...
        if value is not ...:
            plain = () if isinstance(value, dict) else value
            if isinstance(value, list):
                plain = tuple(one for one in value if isinstance(one, str | int | float))
            expected[f"trait.{name}"] = plain
    assert touch.content == expected


def test_of_a_member_that_is_there_twice_the_last_counts() -> None:
    """As everybody reads JSON, and the timeline tells it."""
    one = touchpoint("order_completed")
    one = msgspec.structs.replace(one, properties=msgspec.Raw(b'{"order_id": "a", "order_id": "b"}'))

    assert lens_of(RULES).touch(ID, one).content == {"property.order_id": "b"}


def test_a_lens_that_is_made_again_leaves_nothing_behind() -> None:
    """One is made for every page of a long timeline, where garbage in circles is seldom looked for."""
    asks = [journey.asks for journey in all_journeys()]
    Lens(asks)
    gc.collect()
    Lens(asks)

    assert gc.collect() == 0


def test_a_lens_serves_several_journeys_at_once() -> None:
    """What any of them asks of a type, or of every type, is there."""
    other = RULES.replace("key: asking", "key: other").replace("type: call_ended", "trait: {vip: true}")
    lens = lens_of(RULES, other)

    assert lens.types_with_content is None
    call = lens.touch(ID, touchpoint("call_ended", traits={"vip": True}, properties={"order_id": "o"}))
    assert call.content == {"trait.vip": True, "property.order_id": "o"}


def test_a_touchpoint_belongs_to_the_run_of_the_thing_that_it_names() -> None:
    """A number and a text name things; without a name, or with one that is too long, it belongs to no run."""
    definition = parse(RULES, "asking.yaml")
    lens = lens_of(RULES)
    runs = [
        subject_of(definition, lens.touch(ID, touchpoint("order_completed", properties=properties)))
        for properties in ({"order_id": "a"}, {"order_id": 7}, {}, {"order_id": True}, {"order_id": None})
    ]
    longest = "ö" * (RUN_NAME_BYTES_MAX // 2)
    runs += [
        subject_of(definition, lens.touch(ID, touchpoint("order_completed", properties={"order_id": name})))
        for name in (longest, longest + "o", "")
    ]

    assert runs == ["a", "7", None, None, None, longest, None, None]
