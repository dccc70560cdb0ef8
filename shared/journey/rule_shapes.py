"""The grammar of rules in a definition's YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, get_args

from shared.journey.rules import (
    AllOf,
    AnyOf,
    Count,
    Matcher,
    NoneOf,
    Operator,
    Rule,
    Scalar,
    Source,
    ValueTest,
)
from shared.journey.shape import (
    Choice,
    Duration,
    Either,
    Flag,
    ListOf,
    MapOf,
    Member,
    Named,
    Number,
    Reading,
    Record,
    Schema,
    Whole,
    Word,
)
from shared.touchpoint import CHANNELS, Owner

COUNT_MAX = 1_000
TYPES_MAX = 250

KEY = Word(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", "key of lower-case words", 64)
KEYS = ListOf(KEY, or_one=True)
TYPE = Word(r"[a-z][a-z0-9_]*", "touchpoint type in snake_case")
_VALUE_NAME = Word(r"[^.\s]+(?:\.[^.\s]+)*", "name, nor names of nested values with dots between")
_NUMBER_MAX = 1e15
_NUMBER = Number(-_NUMBER_MAX, _NUMBER_MAX)
_TEXT_CHARACTERS_MAX = 200


@dataclass(frozen=True)
class _Plain:
    """Text, a number, true or false."""

    fallback: Scalar = ""

    def read(self, data: Any, at: str, reading: Reading) -> Scalar:
        number = isinstance(data, int | float) and abs(data) <= _NUMBER_MAX
        text = isinstance(data, str) and len(data) <= _TEXT_CHARACTERS_MAX
        if not (number or text):
            reading.refuse(at, "is neither text nor a number nor true or false")
            return self.fallback
        return data  # type: ignore[no-any-return]

    def schema(self) -> Schema:
        number = {"type": "number", "minimum": -_NUMBER_MAX, "maximum": _NUMBER_MAX}
        text = {"type": "string", "maxLength": _TEXT_CHARACTERS_MAX}
        return {"anyOf": [text, number, {"type": "boolean"}]}


Operands = tuple[tuple[Operator, tuple[Scalar, ...]], ...]
_RANGE = {
    "above": Member(_NUMBER, "a number greater than this"),
    "at_least": Member(_NUMBER, "a number no less than this"),
    "below": Member(_NUMBER, "a number less than this"),
    "at_most": Member(_NUMBER, "a number no greater than this"),
}


def _operands(found: Mapping[str, Any]) -> Operands:
    return tuple((operator, (operand,)) for operator, operand in found.items())  # type: ignore[misc]


@dataclass(frozen=True)
class _OneOf:
    """The values that pass: one, or a list of them."""

    values = ListOf(_Plain(), or_one=True)
    fallback: Operands = ()

    def read(self, data: Any, at: str, reading: Reading) -> Operands:
        return (("is", self.values.read(data, at, reading)),)

    def schema(self) -> Schema:
        return self.values.schema()


_TESTS_BY_NAME = MapOf(
    _VALUE_NAME,
    Either(
        lambda data: isinstance(data, dict),
        Record(
            _operands,
            {
                **_RANGE,
                "contains": Member(
                    Word(r".*\S.*", "text", _TEXT_CHARACTERS_MAX), "a text with this in it, in any case"
                ),
                "exists": Member(Flag(), "whether there is a value at all"),
            },
            empty=False,
        ),
        _OneOf(),
    ),
)
VALUE_TESTS: Named[Mapping[str, Operands]] = Named("values", lambda: _TESTS_BY_NAME)
_SENTIMENT = Number(-1, 1)
_MATCHER = {
    "type": Member(
        ListOf(TYPE, or_one=True, items_max=TYPES_MAX), "the touchpoint's type, or several; absent: any"
    ),
    "channel": Member(ListOf(Choice(CHANNELS), or_one=True), "its channel, or several; absent: any"),
    "owner": Member(
        ListOf(Choice(get_args(Owner)), or_one=True), "whose contact point it is; absent: anybody's"
    ),
    "property": Member(VALUE_TESTS, "tests of its properties by name; all have to pass"),
    "context": Member(VALUE_TESTS, "tests of its context, such as campaign.name; all have to pass"),
    "trait": Member(VALUE_TESTS, "tests of what is known of the customer by then; all have to pass"),
    "sentiment": Member(
        Record(
            _operands,
            {name: Member(_SENTIMENT, member.meaning) for name, member in _RANGE.items()},
            empty=False,
        ),
        "its sentiment, from -1 (bad) to 1 (good); a touchpoint without one never matches",
    ),
}
_COUNT = {
    "at_least": Member(Whole(1, COUNT_MAX), "holds from the so-manieth on; absent: 1"),
    "distinct": Member(Choice(("days",)), "count the days (UTC) on which there was one"),
    "within": Member(Duration(), "count only those that lie no longer back"),
    "in_stage": Member(Flag(), "count only those since the customer came to where they are"),
    "ago": Member(Duration(), "holds at any touchpoint once the first match lies at least so long back"),
}


def _tests(source: Source, found: Mapping[str, Operands]) -> tuple[ValueTest, ...]:
    return tuple(
        ValueTest(source, name, operator, operands)
        for name, tests in found.items()
        for operator, operands in tests
    )


def _matcher(found: Mapping[str, Any]) -> Matcher:
    sentiment: Mapping[str, Operands] = {"": found["sentiment"]} if "sentiment" in found else {}
    return Matcher(
        frozenset(found.get("type", ())),
        frozenset(found.get("channel", ())),
        frozenset(found.get("owner", ())),
        (
            *_tests("property", found.get("property", {})),
            *_tests("context", found.get("context", {})),
            *_tests("sentiment", sentiment),
        ),
        _tests("trait", found.get("trait", {})),
    )


def _rule(found: Mapping[str, Any]) -> Rule:
    """All parts that are said have to hold; nothing said is any touchpoint."""
    parts: list[Rule] = []
    combinations: Mapping[str, Callable[[tuple[Rule, ...]], Rule]]
    combinations = {"all": AllOf, "any": AnyOf, "none": NoneOf}
    if not combinations.keys() & found.keys() or found.keys() - combinations.keys():
        parts.append(
            Count(
                _matcher(found),
                found.get("at_least", 1),
                "distinct" in found,
                found.get("within"),
                found.get("ago"),
                found.get("in_stage", False),
            )
        )
    parts += [combine(found[name]) for name, combine in combinations.items() if name in found]
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


@cache
def _rule_record() -> Record[Rule]:
    rules = ListOf(RULE)
    combined = {
        "all": Member(rules, "all of them have been met, and one of them holds at this touchpoint"),
        "any": Member(rules, "one of them holds at this touchpoint"),
        "none": Member(rules, "none of them has been met"),
    }
    return Record(_rule, {**_MATCHER, **_COUNT, **combined})


RULE: Named[Rule] = Named("rule", _rule_record)
MATCHER: Named[Matcher] = Named("matcher", partial(Record[Matcher], _matcher, _MATCHER))
