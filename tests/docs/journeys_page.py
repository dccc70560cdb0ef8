"""The page of the built-in journeys. `python -m tests.docs.journeys_page` writes it anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from shared.journey.catalog import BUILT_IN_AND_ACTIVE, all_definitions
from shared.journey.definition import Definition, Exit, Stage
from shared.journey.rules import AllOf, AnyOf, Count, Matcher, Rule, ValueTest

FILE = Path(__file__).parents[2] / "docs/journeys.md"

_HEAD = """# The built-in journeys

This page is made from the definitions by `python -m tests.docs.journeys_page`. `rejse journeys show KEY`
prints a definition; [Write your own journey](writing-journeys.md) says what each part means. Only
`{active}` is active at first, unless `REJSE_JOURNEYS` says otherwise.

The stages, their order and their words are the articles'. No article names a time: those in the definitions
are ours, and marked so there. Copy a definition, give it a key of your own, and change them.
"""
_OWNERS = {"own": "the company", "partner": "a partner", "third_party": "a third party"}
_OPERATORS = {
    "is": "is",
    "above": "is above",
    "at_least": "is at least",
    "below": "is below",
    "at_most": "is at most",
    "contains": "contains",
}


def text() -> str:
    """The page's text."""
    parts = [_HEAD.format(active="`, `".join(sorted(BUILT_IN_AND_ACTIVE)))]
    parts += [_section(definition) for definition, _ in all_definitions(None)]
    return "\n".join(parts)


def diagram(definition: Definition) -> str:
    """The journey as a Mermaid state diagram: how its stages and exits follow one another."""
    lines = ["stateDiagram-v2", "    direction LR"]
    places: Sequence[Stage | Exit] = (*definition.stages, *definition.exits)
    lines += [f'    state "{place.labels["en"]}" as {_id(place.key)}' for place in places]
    return "\n".join([*lines, *(f"    {arrow}" for arrow in _arrows(definition))])


def _arrows(definition: Definition) -> Iterator[str]:
    stages = [stage.key for stage in definition.stages]
    yield f"[*] --> {_id(stages[0])}"
    for number, stage in enumerate(definition.stages):
        before = definition.stages[number - 1] if number else None
        if before is not None:
            sources = [key for key in stages if key in stage.sources] or [before.key]
            gate = "at once" if before.gate else ""
            yield from (_arrow(source, stage.key, gate if source == before.key else "") for source in sources)
    for jump in definition.regresses:
        yield from (_arrow(key, jump.to, "back") for key in _sources(jump.sources, stages))
    for jump in definition.laps:
        yield from (_arrow(key, jump.to, "next lap") for key in _sources(jump.sources, stages))
    for exit_ in definition.exits:
        for way in exit_.ways:
            why = "by rule" if way.after is None else f"after {_length(way.after)}"
            yield from (_arrow(key, exit_.key, why) for key in _sources(way.sources, stages))
        for back in exit_.returns:
            yield _arrow(exit_.key, back.to, "returns, next lap" if back.new_lap else "returns")


def _arrow(source: str, target: str, label: str) -> str:
    return f"{_id(source)} --> {_id(target)}" + (f": {label}" if label else "")


def _sources(named: frozenset[str], stages: Sequence[str]) -> list[str]:
    return [key for key in stages if not named or key in named]


def _id(key: str) -> str:
    return key.replace("-", "_")


def _section(definition: Definition) -> str:
    language = definition.article.language if definition.article else "da"
    lines = [f"## {definition.labels['en']}", "", " ".join(_about(definition)), ""]
    lines += ["```mermaid", diagram(definition), "```", ""]
    lines += [f"| stage | {language} | entered by | paused after | measures |", "|---|---|---|---|---|"]
    lines += [_row(stage, language, definition) for stage in definition.stages]
    lines += ["", *(f"- {line}" for line in _beside(definition)), ""]
    return "\n".join(lines)


def _about(definition: Definition) -> Iterator[str]:
    yield f"`{definition.key}`, version {definition.version}."
    article = definition.article
    if article is not None:
        title = f", *{article.title}*" if article.title else ""
        yield f"From article {article.number}{title}{f' ({article.by})' if article.by else ''}."
    audience, subject = definition.audience, definition.subject
    if audience.group is not None:
        yield f"For: {audience.group['en'].lower()}."
    if audience.personas:
        labels = [one.labels["en"].lower() for one in definition.personas if one.key in audience.personas]
        yield f"For whoever is: {', '.join(labels)}."
    if audience.when is not None:
        yield f"Begins if: {words(audience.when)}."
    if subject.kind != "customer":
        about = "the account" if subject.kind == "account" else f"what `{subject.property_name}` names"
        yield f"A run is about {about}."


def _row(stage: Stage, language: str, definition: Definition) -> str:
    enter = _entered_otherwise(stage, definition) if stage.enter is None else words(stage.enter)
    pause = "" if stage.pause is None else _length(stage.pause.after)
    patience = ", with patience" if stage.pause is not None and stage.pause.patience else ""
    gate = " (gate)" if stage.gate else ""
    name = f"{stage.labels['en']}{gate}"
    return (
        f"| {name} | {stage.labels[language]} | {enter} | {pause}{patience} | {', '.join(stage.measures)} |"
    )


def _entered_otherwise(stage: Stage, definition: Definition) -> str:
    number = definition.stages.index(stage)
    return "the gate before it" if number and definition.stages[number - 1].gate else "another journey"


def _beside(definition: Definition) -> Iterator[str]:
    for stage in definition.stages:
        for substage in stage.substages:
            enter = "with the stage" if substage.enter is None else f"by {words(substage.enter)}"
            yield f"Part of *{stage.labels['en']}*: **{substage.labels['en']}**, entered {enter}."
    for exit_ in definition.exits:
        for way in exit_.ways:
            why = words(way.on) if way.on else f"{_length(way.after)} without {_matcher(way.since)}"
            yield f"Exit **{exit_.labels['en']}**: {why}."
    for overlay in definition.overlays:
        blocks = f"; blocks {', '.join(sorted(overlay.blocks))}" if overlay.blocks else ""
        yield (
            f"{overlay.kind.capitalize()} **{overlay.labels['en']}**: opened by {words(overlay.open)}, "
            f"closed by {words(overlay.close)}{_or_after(overlay.close_after)}{blocks}."
        )
    for signal in definition.signals:
        off = f", off by {words(signal.off)}" if signal.off else ""
        yield f"Signal **{signal.labels['en']}**: on by {words(signal.on)}{off}{_or_after(signal.off_after)}."
    for tally in definition.tallies:
        until = f", until {words(tally.until)}" if tally.until else ""
        yield f"Tally **{tally.labels['en']}**: {' or '.join(map(_matcher, tally.of))}{until}."
    for start in definition.starts:
        yield f"Starts `{start.journey}`: {words(start.on)}."
    for started in definition.started_by:
        yield f"Started by `{started.rule.partition('.')[0]}`: {words(started.on)}."


def _or_after(length: timedelta | None) -> str:
    return "" if length is None else f", or after {_length(length)}"


def words(rule: Rule) -> str:
    """A rule in words."""
    if isinstance(rule, Count):
        return _count(rule)
    joint = {AnyOf: " or ", AllOf: " and "}.get(type(rule))
    if joint is None:
        return f"not ({' or '.join(map(words, rule.rules))})"
    told = [words(part) for part in rule.rules]
    other = " or " if isinstance(rule, AllOf) else " and "
    return joint.join(f"({one})" if other in one else one for one in told)


def _count(count: Count) -> str:
    matcher = _matcher(count.matcher)
    if count.is_condition:
        return matcher
    said = [f"{count.at_least} times" if count.at_least > 1 else ""]
    said += ["on different days" if count.distinct_days else ""]
    said += [f"within {_length(count.within)}" if count.within else ""]
    said += [f"at least {_length(count.ago)} ago" if count.ago else ""]
    said += ["since the stage was entered" if count.in_stage else ""]
    return " ".join([matcher, *(one for one in said if one)])


def _matcher(matcher: Matcher) -> str:
    said = [", ".join(f"`{type_}`" for type_ in sorted(matcher.types))]
    said += [f"on {', '.join(sorted(matcher.channels))}" if matcher.channels else ""]
    said += [
        f"owned by {' or '.join(_OWNERS[one] for one in sorted(matcher.owners))}" if matcher.owners else ""
    ]
    tests = " and ".join(_test(test) for test in (*matcher.tests, *matcher.traits))
    said += [f"whose {tests}" if tests and not matcher.asks_only_what_is_known else tests]
    told = " ".join(one for one in said if one)
    return told if matcher.types or matcher.asks_only_what_is_known else f"a touchpoint {told}".strip()


def _test(test: ValueTest) -> str:
    name = test.source if test.source == "sentiment" else f"{test.source} `{test.name}`"
    values = " or ".join(
        f"{one:g}" if type(one) is float else f"`{str(one).lower() if one is True or one is False else one}`"
        for one in test.operands
    )
    if test.operator == "exists":
        return f"{name} is there" if test.operands[0] else f"{name} is not there"
    return f"{name} {_OPERATORS[test.operator]} {values}"


def _length(length: timedelta | None) -> str:
    assert length is not None
    days = length / timedelta(days=1)
    return f"{days:g} d" if days >= 1 else f"{length / timedelta(hours=1):g} h"


if __name__ == "__main__":
    FILE.write_text(text())
