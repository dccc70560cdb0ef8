"""The shapes of a definition's YAML, but for its rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.journey import definition as model
from shared.journey.definition import Definition
from shared.journey.rule_shapes import KEY, KEYS, MATCHER, RULE
from shared.journey.rules import ANY_TOUCHPOINT
from shared.journey.shape import (
    Choice,
    Duration,
    Either,
    Flag,
    ListOf,
    Member,
    Named,
    Reading,
    Record,
    Schema,
    Shape,
    Whole,
    Word,
)

_LABEL = Word(r"[\s\S]*\S[\s\S]*", "text")
_IN_LANGUAGES: Record[Mapping[str, str]] = Record(
    dict, {language: Member(_LABEL, f"in {language}", required=True) for language in model.LANGUAGES}
)
LABELS: Named[Mapping[str, str]] = Named("labels", lambda: _IN_LANGUAGES)
_FROM = Member(KEYS, "the stages from which; absent: any")
_LABELS = Member(LABELS, "how people call it", required=True)
_KEY = Member(KEY, "how everything else calls it", required=True)
_MEASURES = Member(KEYS, "what to measure, by names of your own")


def _from(found: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(found.get("from", ()))


def _jumps(meaning: str) -> Member:
    jump = Record(
        lambda found: model.Jump(found["to"], found["on"], _from(found)),
        {
            "from": _FROM,
            "to": Member(KEY, "the stage that is entered", required=True),
            "on": Member(RULE, "when", required=True),
        },
    )
    return Member(ListOf(jump), meaning)


_ARTICLE = Record(
    lambda found: model.Article(**found),
    {
        "number": Member(Word(r"\d{3}", "number of three digits"), "the article's number", required=True),
        "title": Member(_LABEL, "the article's title"),
        "by": Member(_LABEL, "who published it"),
        "language": Member(Choice(model.LANGUAGES), "the language that it is in", required=True),
    },
)
_PERSONA = Record(
    lambda found: model.Persona(found["key"], found["labels"], found["when"]),
    {"key": _KEY, "labels": _LABELS, "when": Member(RULE, "what is known of such a customer", required=True)},
)
_AUDIENCE = Record(
    lambda found: model.Audience(
        found.get("market"), found.get("group"), found.get("when"), found.get("personas", ())
    ),
    {
        "market": Member(Choice(("b2c", "b2b")), "consumers or companies"),
        "group": Member(LABELS, "the target group"),
        "when": Member(RULE, "the journey begins only for whom this has been met"),
        "personas": Member(KEYS, "the journey begins only for these personas"),
    },
)


@dataclass(frozen=True)
class _Party:
    """The customer, or the account that they act for."""

    fallback: model.Subject = field(default_factory=model.Subject)
    words = Choice(("customer", "account"))

    def read(self, data: Any, at: str, reading: Reading) -> model.Subject:
        account = self.words.read(data, at, reading) == "account"
        return model.Subject("account" if account else "customer")

    def schema(self) -> Schema:
        return self.words.schema()


_SUBJECT: Shape[model.Subject] = Either(
    lambda data: isinstance(data, dict),
    Record(
        lambda found: model.Subject("property", found["property"]),
        {
            "property": Member(
                Word(r"[^.\s]+", "name of a property"),
                "the property that names the thing, such as order_id",
                required=True,
            )
        },
    ),
    _Party(),
)
_PAUSE = Record(
    lambda found: model.Pause(
        found["after"], found.get("since", ANY_TOUCHPOINT), found.get("patience", False)
    ),
    {
        "after": Member(Duration(), "so long without a touchpoint", required=True),
        "since": Member(MATCHER, "only these touchpoints count; absent: every one"),
        "patience": Member(Flag(), "such a silence is what the stage is for, and no drop-off"),
    },
)
_SUBSTAGE = Record(
    lambda found: model.Substage(found["key"], found["labels"], found.get("enter")),
    {"key": _KEY, "labels": _LABELS, "enter": Member(RULE, "when; absent: together with the stage")},
)
_CONTENT = Record(
    lambda found: model.Content(found.get("soft", ()), found.get("hard", ())),
    {"soft": Member(KEYS, "content that informs"), "hard": Member(KEYS, "content that sells")},
)
_INSIDE: Record[Mapping[str, Mapping[str, str]]] = Record(
    dict,
    {
        name: Member(LABELS, f"the customer's {name} in this stage")
        for name in ("needs", "thoughts", "feelings", "actions")
    },
)
_STAGE = Record(
    lambda found: model.Stage(
        found["key"],
        found["labels"],
        found.get("enter"),
        found.get("gate", False),
        _from(found),
        found.get("pause"),
        found.get("substages", ()),
        found.get("measures", ()),
        found.get("content", model.Content()),
        found.get("inside"),
    ),
    {
        "key": _KEY,
        "labels": _LABELS,
        "enter": Member(RULE, "when it is entered, from an earlier stage or the start"),
        "gate": Member(Flag(), "a moment without length: the customer moves on to the next stage at once"),
        "from": Member(KEYS, "the earlier stages from which, or `start`; absent: any of them"),
        "pause": Member(_PAUSE, "when the stage is paused"),
        "substages": Member(ListOf(_SUBSTAGE), "parts of the stage, in order"),
        "measures": _MEASURES,
        "content": Member(_CONTENT, "the content that fits a customer here"),
        "inside": Member(_INSIDE, "what the customer needs, thinks, feels and does here"),
    },
)
_WAY = Record(
    lambda found: model.Way(
        _from(found), found.get("on"), found.get("after"), found.get("since", ANY_TOUCHPOINT)
    ),
    {
        "from": _FROM,
        "on": Member(RULE, "when; or else `after`"),
        "after": Member(Duration(), "so long after entering the stage, or the last touchpoint in it"),
        "since": Member(MATCHER, "only these touchpoints count for `after`; absent: every one"),
    },
)
_RETURN = Record(
    lambda found: model.Return(found["to"], found["on"], found.get("new_lap", False)),
    {
        "to": Member(KEY, "the stage that is entered", required=True),
        "on": Member(RULE, "when", required=True),
        "new_lap": Member(Flag(), "the journey begins anew there"),
    },
)
_EXIT = Record(
    lambda found: model.Exit(found["key"], found["labels"], found["enter"], found.get("return", ())),
    {
        "key": _KEY,
        "labels": _LABELS,
        "enter": Member(ListOf(_WAY, or_one=True), "the ways into it: by a rule, or by time", required=True),
        "return": Member(ListOf(_RETURN, or_one=True), "the ways back; absent: none"),
    },
)
_OVERLAY = Record(
    lambda found: model.Overlay(
        found["key"],
        found["kind"],
        found["labels"],
        found["open"],
        found["close"],
        found.get("close_after"),
        frozenset(found.get("blocks", ())),
        _from(found),
    ),
    {
        "key": _KEY,
        "kind": Member(
            Choice(("interruption", "detour")),
            "something bad is open; or off the path, and back",
            required=True,
        ),
        "labels": _LABELS,
        "from": _FROM,
        "open": Member(RULE, "when it begins", required=True),
        "close": Member(RULE, "when it ends", required=True),
        "close_after": Member(Duration(), "when it ends by itself"),
        "blocks": Member(KEYS, "the stages that can't be entered meanwhile"),
    },
)
_SIGNAL = Record(
    lambda found: model.Signal(
        found["key"],
        found["labels"],
        found["on"],
        found.get("off"),
        found.get("off_after"),
        _from(found),
    ),
    {
        "key": _KEY,
        "labels": _LABELS,
        "from": _FROM,
        "on": Member(RULE, "when it goes on", required=True),
        "off": Member(RULE, "when it goes off: the way back"),
        "off_after": Member(Duration(), "when it goes off by itself"),
    },
)
_TALLY = Record(
    lambda found: model.Tally(found["key"], found["labels"], found["of"], found.get("until")),
    {
        "key": _KEY,
        "labels": _LABELS,
        "of": Member(
            ListOf(MATCHER, or_one=True),
            "which touchpoints are counted, in each lap: a matcher, or several of which one is enough",
            required=True,
        ),
        "until": Member(RULE, "when counting ends"),
    },
)
_START = Record(
    lambda found: model.Start(found["journey"], found["on"]),
    {
        "journey": Member(KEY, "the journey that begins, in its first stage", required=True),
        "on": Member(RULE, "when", required=True),
    },
)
_MEMBERS = {
    "key": _KEY,
    "version": Member(Whole(1, 1_000_000), "raise it with every change of the file", required=True),
    "labels": _LABELS,
    "article": Member(_ARTICLE, "the article that the journey is from"),
    "for": Member(_AUDIENCE, "whom it is for; absent: everybody"),
    "personas": Member(ListOf(_PERSONA), "kinds of customers; the first whose rule is met is a customer's"),
    "subject": Member(_SUBJECT, "what one run is about: customer (the default), account or a property"),
    "stages": Member(ListOf(_STAGE), "the stages in order", required=True),
    "exits": Member(ListOf(_EXIT), "the ends of the journey"),
    "regress": _jumps("the ways back, to an earlier stage"),
    "laps": _jumps("the ways into a new lap, in which everything is counted anew"),
    "overlays": Member(ListOf(_OVERLAY), "interruptions and detours"),
    "signals": Member(ListOf(_SIGNAL), "what stands beside the stage, on or off"),
    "tallies": Member(ListOf(_TALLY), "numbers of touchpoints"),
    "starts": Member(ListOf(_START), "the journeys that this one starts"),
    "measures": _MEASURES,
}


def _definition(found: Mapping[str, Any]) -> Definition:
    return Definition(
        found["key"],
        found["version"],
        found["labels"],
        found["stages"],
        source="",
        hash="",
        article=found.get("article"),
        audience=found.get("for", model.Audience()),
        personas=found.get("personas", ()),
        subject=found.get("subject", model.Subject()),
        exits=found.get("exits", ()),
        regresses=found.get("regress", ()),
        laps=found.get("laps", ()),
        overlays=found.get("overlays", ()),
        signals=found.get("signals", ()),
        tallies=found.get("tallies", ()),
        starts=found.get("starts", ()),
        measures=found.get("measures", ()),
    )


DEFINITION: Record[Definition] = Record(_definition, _MEMBERS)
