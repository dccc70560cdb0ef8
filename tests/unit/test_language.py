"""The language: what a file may say, that every error of it is named with its line, and its JSON Schema."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import strict_yaml
from shared.errors import ConfigError
from shared.journey.catalog import all_definitions, load_definitions
from shared.journey.definition import Pause, Subject, Way
from shared.journey.definition_shapes import DEFINITION
from shared.journey.language import linked, parse, schema
from shared.journey.rules import AllOf, AnyOf, Count, Matcher, NoneOf, ValueTest
from shared.journey.shape import Reading
from tests.docs.journey_schema import FILE, text
from tests.support.child import inherited_env
from tests.support.journeys import WHOLE

_ROOT = Path(__file__).parents[2]
_BROKEN = Path(__file__).parent / "broken_journeys"
_REFUSED = "# refused: "
LABELS = "{en: A, da: B, sv: C}"
GOOD = f"""
key: tiny
version: 1
labels: {LABELS}
stages:
  - {{key: one, labels: {LABELS}, enter: {{type: visit}}}}
exits:
  - {{key: gone, labels: {LABELS}, enter: {{after: 36h}}, return: {{to: one, on: {{type: visit}}}}}}
"""


def refusals(text: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        parse(text, "broken.yaml")
    lines = str(refused.value).splitlines()
    assert all(line.startswith("broken.yaml: ") for line in lines)
    return [line.removeprefix("broken.yaml: ") for line in lines]


@pytest.mark.parametrize("file", sorted(_BROKEN.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_broken_file_is_refused_for_all_of_its_stated_reasons(file: Path) -> None:
    """Each file says with which lines, places and reasons it is refused: these, and no others."""
    broken = file.read_text()
    stated = [line.removeprefix(_REFUSED) for line in broken.splitlines() if line.startswith(_REFUSED)]

    assert stated
    assert sorted(refusals(broken)) == sorted(stated)


def test_files_that_are_not_even_yaml_are_refused() -> None:
    """Nesting without an end and files without a bound are no danger."""
    assert refusals("x: " + "[" * 5_000) == ["is no YAML (RecursionError)"]
    assert refusals("#" * 300_000) == ["is larger than 262144 bytes"]
    assert refusals("") == ["line 1: the file: is no mapping"]


def test_a_definition_says_what_its_file_says() -> None:
    """Durations, matchers and places arrive as data; `on` is a word, as in YAML 1.2."""
    definition = parse(GOOD, "tiny.yaml")

    assert definition.places == ("one", "gone")
    assert definition.exits[0].ways == (Way(after=timedelta(hours=36)),)
    assert definition.exits[0].returns[0].on == Count(Matcher(frozenset({"visit"})))
    assert definition.subject == Subject()


def test_the_parts_of_a_rule_all_have_to_hold() -> None:
    """What is said side by side is said together; `any` and `none` are what they are called."""
    said = "{type: buy, at_least: 2, within: 2d, property: {total: {above: 5}}, none: [{channel: web}]}"
    definition = parse(GOOD.replace("{type: visit}}", said + "}"), "tiny.yaml")

    test = ValueTest("property", "total", "above", (5.0,))
    buy = Count(Matcher(frozenset({"buy"}), tests=(test,)), at_least=2, within=timedelta(days=2))
    web = Count(Matcher(channels=frozenset({"web"})))
    assert definition.stages[0].enter == AllOf((buy, NoneOf((web,))))
    either = parse(GOOD.replace("{type: visit}}", "{any: [{}, {channel: web}]}}"), "tiny.yaml")
    assert either.stages[0].enter == AnyOf((Count(), web))


def test_everything_that_the_language_can_say_is_read() -> None:
    """One file uses every word of the language; nothing of it is lost."""
    whole = parse(WHOLE, "whole.yaml")

    assert whole.article is not None
    assert whole.stages[1].pause == Pause(timedelta(days=5), patience=True)
    assert [one.key for one in whole.stages[1].substages] == ["general", "shortlist"]
    assert whole.stages[0].inside is not None
    assert whole.stages[0].inside["feelings"] == {"en": "Curious", "da": "Nysgerrig", "sv": "Nyfiken"}
    assert whole.exits[0].returns[1].new_lap
    assert whole.overlays[0].blocks == {"bought", "loyal"}
    assert _words(schema()) <= set(re.findall(r"[a-z_]+", WHOLE)) | {"at_most", "exists"}


def _words(part: Any) -> set[str]:
    """All names of members in a schema."""
    if isinstance(part, list):
        return set().union(*map(_words, part)) if part else set()
    if not isinstance(part, dict):
        return set()
    found = set().union(*map(_words, part.values())) if part else set()
    return found | set(part["properties"]) if isinstance(part.get("properties"), dict) else found


def test_the_hash_tells_two_texts_of_one_version_apart() -> None:
    """Any change of the text changes the hash, and so does another journey that starts this one."""
    one, other = parse(GOOD, "a"), parse(GOOD + "# changed\n", "a")
    starter = parse(
        GOOD.replace("key: tiny", "key: starter") + "starts: [{journey: tiny, on: {type: x}}]\n", "starter"
    )

    assert one.hash != other.hash
    assert linked([one]) == (one,)
    (_, started) = linked([starter, one])
    assert started.hash != one.hash
    assert [start.rule for start in started.started_by] == ["starter.starts[0]"]


def test_a_hash_is_the_same_in_every_process() -> None:
    """Sets have another order in each; a stager that starts again must find its versions unchanged."""
    program = "from shared.journey.catalog import all_definitions as a; print([d.hash for d, _ in a(None)])"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=inherited_env(PYTHONHASHSEED=seed),
            cwd=_ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(hashes) == 1


def test_whatever_is_said_a_state_can_hold_it() -> None:
    """Stages and tests of traits have a bit of a 64-bit number each, and windows a bound."""
    stages = "".join(f"  - {{key: s{n}, labels: {LABELS}, enter: {{type: a}}}}\n" for n in range(61))
    many = GOOD.replace("exits:\n", stages + "exits:\n")
    traits = ", ".join(f"t{n}: 1" for n in range(61))
    window = GOOD.replace("{type: visit}}", "{at_least: 101, within: 1d}}", 1)

    assert refusals(many) == ["line 5: stages: has more than 60 items"]
    assert refusals(GOOD.replace("{type: visit}}", f"{{trait: {{{traits}}}}}}}", 1)) == [
        "line 2: the file: has more than 60 tests of traits"
    ]
    assert refusals(window) == ["line 6: stages[0].enter: `within` counts no further than 100"]


def test_patience_may_be_denied() -> None:
    """`patience: false` says what saying nothing says."""
    text = GOOD.replace("{type: visit}}\n", "{type: visit}, pause: {after: 2d, patience: false}}\n", 1)

    assert parse(text, "tiny.yaml").stages[0].pause == Pause(timedelta(days=2))


def test_the_published_schema_is_the_parsers() -> None:
    """Editors read what Rejse reads by; run python -m tests.docs.journey_schema where it differs."""
    jsonschema.Draft202012Validator.check_schema(schema())
    assert FILE.read_text() == text()


@pytest.mark.parametrize("definition", [one for one, _ in all_definitions(None)], ids=lambda one: one.key)
def test_editors_accept_the_built_in_definitions(definition: Any) -> None:
    """Each is valid under the schema, and names it for its reader's editor."""
    jsonschema.validate(strict_yaml.load(definition.source, []), schema())
    assert definition.source.startswith("# yaml-language-server: $schema=../schema.json\n")


_JUNK = st.sampled_from(
    [[], {}, "", "x", "web", "12d", "X y", 0, -1, 2.5, True, None, ["a"], {"type": "x"}, {"a": 1}, "0d", " "]
)


@given(st.data())
def test_what_the_schema_accepts_is_what_the_parser_reads(data: st.DataObject) -> None:
    """However a definition is spoilt, the two agree, but for what one part says of another."""
    spoilt = deepcopy(_WHOLE)
    for _ in range(data.draw(st.integers(1, 2))):
        holder, key = data.draw(st.sampled_from(list(_places(spoilt))))
        how = data.draw(st.sampled_from(["drop", "junk", "add"]))
        if how == "junk":
            holder[key] = data.draw(_JUNK)
        elif how == "drop" and key in holder:
            del holder[key]
        elif isinstance(holder, dict):
            holder["zeal"] = data.draw(_JUNK)
    reading = Reading({})
    DEFINITION.read(spoilt, "", reading)

    errors = [error.message for error in _VALIDATOR.iter_errors(spoilt)]
    assert bool(errors) == bool(reading.problems), (errors, reading.problems)


_WHOLE = strict_yaml.load(WHOLE, [])
_VALIDATOR = jsonschema.Draft202012Validator(schema())


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a definition, as what holds it and its key or index."""
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


def test_a_folder_adds_definitions_and_replaces_built_in_ones(tmp_path: Path) -> None:
    """An own definition of a built-in key takes its place; all of the folder are active."""
    (tmp_path / "tiny.yaml").write_text(GOOD)
    (tmp_path / "own.yaml").write_text(GOOD.replace("key: tiny", "key: purchase-lifecycle"))

    found = {one.key: one for one in load_definitions(tmp_path)}

    assert found["purchase-lifecycle"].places == ("one", "gone")
    assert found["tiny"].version == 1


def test_only_the_journeys_that_are_named_are_active(tmp_path: Path) -> None:
    """By default that is one built-in journey; a list is all there is, and each of it must exist."""
    (tmp_path / "tiny.yaml").write_text(GOOD)

    assert [one.key for one in load_definitions(None)] == ["purchase-lifecycle"]
    assert [one.key for one in load_definitions(tmp_path, ["tiny"])] == ["tiny"]
    with pytest.raises(ConfigError, match="REJSE_JOURNEYS: there is no journey 'huge'"):
        load_definitions(tmp_path, ["tiny", "huge"])


def test_all_broken_files_of_a_folder_are_named_at_once(tmp_path: Path) -> None:
    """One run of the checks shows everything there is to mend."""
    (tmp_path / "a.yaml").write_text("[]")
    (tmp_path / "b.yaml").write_text("key: 1")

    with pytest.raises(ConfigError) as refused:
        load_definitions(tmp_path)

    assert "a.yaml" in str(refused.value)
    assert "b.yaml" in str(refused.value)


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A mistyped folder is not an empty one."""
    with pytest.raises(ConfigError):
        load_definitions(tmp_path / "missing")
