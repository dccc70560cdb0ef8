"""Definitions: what a file may say, and that every error of it is named at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.journey.catalog import load_definitions
from shared.journey.definition import Clock, Matcher, parse

LABELS = "{en: A, da: B, sv: C}"
GOOD = f"""
key: tiny
version: 1
labels: {LABELS}
stages:
  - {{key: one, labels: {LABELS}, enter: {{type: visit}}, clocks: [{{after: 36h, to: gone}}]}}
exits:
  - {{key: gone, labels: {LABELS}, return: {{to: one, on: {{type: visit}}}}}}
"""

BROKEN = {
    "stages: {}": ["key: is missing", "labels: is missing", "stages: is no list", "version: is missing"],
    "- a list": ["the file: is no mapping"],
    "key: [": ["line 1: expected the node content, but found '<stream end>'"],
    "a: &x 1\nb: *x": ["line 2: aliases are not allowed"],
    "key: a\nkey: b": ["line 2: repeats the key 'key'"],
    "!!python/object/apply:os.getcwd []": ["line 1: could not determine a constructor for the tag"],
    GOOD.replace("version: 1", "version: yes"): ["version: is no whole number from 1 to 1000000"],
    GOOD.replace("36h", "36 hours"): ["stages[0].clocks[0].after: is no duration such as"],
    GOOD.replace("to: gone", "to: nowhere"): ["stages[0].clocks[0].to: there is no exit 'nowhere'"],
    GOOD.replace("to: one", "to: two"): ["exits[0].return.to: there is no stage 'two'"],
    GOOD.replace("type: visit", "typ: visit"): [
        "stages[0].enter.typ: is not known here",
        "exits[0].return.on.typ: is not known here",
    ],
    GOOD.replace("to: gone", "pause: true, to: gone"): ["needs either `to: EXIT` or `pause: true`"],
    GOOD.replace("key: gone", "key: one"): ["two stages or exits are called 'one'"],
    GOOD.replace("{type: visit}", "{type: visit, at_least: 0}"): [
        "stages[0].enter.at_least: is no whole number",
        "exits[0].return.on.at_least: is not known here",
    ],
    GOOD.replace("{type: visit}", "{channel: pigeon}"): [
        "stages[0].enter.channel: 'pigeon' is not allowed here"
    ],
    GOOD.replace("key: tiny", "key: Tiny Journey"): ["key: is no key of lower-case words"],
    GOOD.replace("sv: C", "sv: ''"): ["labels.sv: is no text"],
    GOOD.replace(", sv: C", ""): ["labels.sv: is missing", "stages[0].labels.sv: is missing"],
    "x: " + "[" * 5_000: ["is no YAML"],
    "#" * 300_000: ["is larger than 262144 bytes"],
}


@pytest.mark.parametrize(("text", "problems"), BROKEN.items(), ids=range(len(BROKEN)))
def test_a_broken_file_is_refused_for_the_stated_reasons(text: str, problems: list[str]) -> None:
    """Every problem of a file is named, with its place, in one error."""
    with pytest.raises(ConfigError) as refused:
        parse(text, "broken.yaml")

    lines = str(refused.value).splitlines()
    assert all(line.startswith("broken.yaml: ") for line in lines)
    for problem in problems:
        assert any(problem in line for line in lines), lines


def test_a_definition_says_what_its_file_says() -> None:
    """Durations, matchers and places arrive as data; `on` is a word, as in YAML 1.2."""
    definition = parse(GOOD, "tiny.yaml")

    assert definition.places == ("one", "gone")
    assert definition.stages[0].clocks == (Clock(timedelta(hours=36), Matcher(), "gone"),)
    assert definition.exits[0].back is not None
    assert definition.exits[0].back.matcher == Matcher(frozenset({"visit"}))


def test_the_hash_tells_two_texts_of_one_version_apart() -> None:
    """Any change of the text changes the hash."""
    assert parse(GOOD, "a").hash != parse(GOOD + "# changed\n", "a").hash


def test_the_built_in_definitions_are_valid() -> None:
    """Every shipped definition loads."""
    assert "purchase-lifecycle" in {one.key for one in load_definitions(None)}


def test_a_folder_adds_definitions_and_replaces_built_in_ones(tmp_path: Path) -> None:
    """An own definition of a built-in key takes its place."""
    (tmp_path / "tiny.yaml").write_text(GOOD)
    (tmp_path / "own.yaml").write_text(GOOD.replace("key: tiny", "key: purchase-lifecycle"))

    found = {one.key: one for one in load_definitions(tmp_path)}

    assert found["purchase-lifecycle"].places == ("one", "gone")
    assert found["tiny"].version == 1


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
