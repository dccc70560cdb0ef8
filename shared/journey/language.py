"""The language of journeys: what a YAML file says, read into a `Definition`, and the same as JSON Schema.

Every problem of a file is reported at once, each with its line, its place and its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import msgspec

from shared import strict_yaml
from shared.errors import ConfigError
from shared.journey.checks import check
from shared.journey.definition import Definition, Started
from shared.journey.definition_shapes import DEFINITION, LABELS
from shared.journey.rule_shapes import MATCHER, RULE, VALUE_TESTS
from shared.journey.shape import Named, Reading, Schema

FOLDING = 2
"""Raised with every change of the fold or of how its states are stored: it is part of a definition's hash,
so that a version's states are never carried on by another fold than the one that made them."""

_NAMED: tuple[Named[Any], ...] = (RULE, MATCHER, VALUE_TESTS, LABELS)


def parse(text: str, name: str) -> Definition:
    """Read a definition from YAML. `name` stands in the errors.

    Raises:
        ConfigError: lists every error of the text, each with its line and its place.
    """
    problems: list[str] = []
    data, lines = strict_yaml.load_with_lines(text, problems)
    if not problems:
        reading = Reading(lines)
        try:
            definition = DEFINITION.read(data, "", reading)
            check(definition, reading)
        except RecursionError:
            raise ConfigError(f"{name}: rules nest too deep") from None
        problems = reading.problems
        if not problems:
            return replace(definition, source=text, hash=_hash(text))
    raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))


def schema() -> Schema:
    """The JSON Schema of a definition, for editors. What one part says of another it can't hold."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A customer journey of Rejse",
        **DEFINITION.schema(),
        "$defs": {named.name: named.shape().schema() for named in _NAMED},
    }


def linked(definitions: Sequence[Definition]) -> tuple[Definition, ...]:
    """The definitions, each with the rules by which the others start it. Those are part of its hash: they
    change what it folds to."""
    return tuple(link(one, definitions) for one in definitions)


def link(definition: Definition, others: Iterable[Definition]) -> Definition:
    """A definition with the rules by which the others start it."""
    links = [
        {"rule": f"{other.key}.starts[{number}]", "on": start["on"]}
        for other in sorted(others, key=lambda one: one.key)
        if any(one.journey == definition.key for one in other.starts)
        for number, start in enumerate(strict_yaml.load(other.source, [])["starts"])
        if start["journey"] == definition.key
    ]
    return _with_links(definition, links) if links else definition


def restored(source: str, links: str, name: str) -> Definition:
    """A definition of before, from its text and its `links`.

    Raises:
        ConfigError: the language has changed, and this is no definition any more.
    """
    definition, found = parse(source, name), msgspec.json.decode(links)
    return _with_links(definition, found) if found else definition


def _with_links(definition: Definition, links: Sequence[Any]) -> Definition:
    reading = Reading({})
    found = tuple(Started(one["rule"], RULE.read(one["on"], one["rule"], reading)) for one in links)
    if reading.problems:
        raise ConfigError("\n".join(reading.problems))
    # Deterministic: the sets in a rule have another order in every process.
    starts = msgspec.json.encode(found, order="deterministic").decode()
    return replace(
        definition,
        started_by=found,
        links=msgspec.json.encode(links).decode(),
        hash=_hash(f"{definition.source}\n{starts}"),
    )


def _hash(text: str) -> str:
    return sha256(f"{FOLDING}\n{text}".encode()).hexdigest()
