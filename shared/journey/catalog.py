"""Which definitions there are: the built-in ones and those of a folder of the user's own; and which of them
customers are staged in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from shared.errors import ConfigError
from shared.journey.definition import Definition
from shared.journey.language import linked, parse

BUILT_IN_AND_ACTIVE = frozenset({"purchase-lifecycle"})
"""The built-in definitions that are active where nobody says which are to be."""


def load_definitions(
    journeys_dir: Path | None, keys: Collection[str] | None = None
) -> tuple[Definition, ...]:
    """The active definitions, by key: those of the keys, or by default all of the folder, and of the
    built-in ones `purchase-lifecycle`.

    Raises:
        ConfigError: lists every error of every file, or says that the folder or a key is not there.
    """
    known = all_definitions(journeys_dir)
    own = {definition.key for definition, built_in in known if not built_in}
    wanted = own | BUILT_IN_AND_ACTIVE if keys is None else set(keys)
    problems = [
        f"REJSE_JOURNEYS: there is no journey {key!r}"
        for key in sorted(wanted - {definition.key for definition, _ in known})
    ]
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(definition for definition, _ in known if definition.key in wanted)


def all_definitions(journeys_dir: Path | None) -> tuple[tuple[Definition, bool], ...]:
    """The built-in definitions and all `*.yaml` of a folder, by key, and whether each is built in. The
    folder's own replace built-in ones of the same key.

    Raises:
        ConfigError: lists every error of every file, or says that the folder is not there.
    """
    found = {definition.key: (definition, True) for definition in _built_in()}
    if journeys_dir is not None:
        found |= {definition.key: (definition, False) for definition in _parsed(_read_folder(journeys_dir))}
    ordered = [found[key] for key in sorted(found)]
    return tuple(zip(linked([one for one, _ in ordered]), (built_in for _, built_in in ordered), strict=True))


@cache
def _built_in() -> Sequence[Definition]:
    # Beside the definitions lie what makes their folder a package, and its compiled form.
    found = (file for file in files("shared.journey.models").iterdir() if file.name.endswith(".yaml"))
    return _parsed([(file.name, file.read_text("utf-8")) for file in found])


def _read_folder(folder: Path) -> Sequence[tuple[str, str]]:
    if not folder.is_dir():
        raise ConfigError(f"REJSE_JOURNEYS_DIR: {folder} is no folder")
    return [(str(path), path.read_text("utf-8")) for path in sorted(folder.glob("*.yaml"))]


def _parsed(texts: Sequence[tuple[str, str]]) -> Sequence[Definition]:
    found: dict[str, Definition] = {}
    problems: list[str] = []
    for name, text in texts:
        try:
            definition = parse(text, name)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if definition.key in found:
            problems.append(f"{name}: another file of the folder has the key {definition.key!r} too")
        found[definition.key] = definition
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(found.values())
