"""Which definitions there are: the built-in ones, and those of a folder of the user's own."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from shared.errors import ConfigError
from shared.journey.definition import Definition, parse


def load_definitions(journeys_dir: Path | None) -> tuple[Definition, ...]:
    """The built-in definitions and all `*.yaml` of a folder, by key. The folder's own replace built-in
    ones of the same key.

    Raises:
        ConfigError: lists every error of every file, or says that the folder is not there.
    """
    built_in = _read_built_in()
    own = _read_folder(journeys_dir) if journeys_dir is not None else []
    problems: list[str] = []
    found: dict[str, Definition] = {}
    for texts in (built_in, own):
        for definition in _unique(texts, problems):
            found[definition.key] = definition
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(found[key] for key in sorted(found))


def _read_built_in() -> list[tuple[str, str]]:
    # Beside the definitions lie what makes their folder a package, and its compiled form.
    found = (file for file in files("shared.journey.models").iterdir() if file.name.endswith(".yaml"))
    return [(file.name, file.read_text("utf-8")) for file in found]


def _read_folder(folder: Path) -> list[tuple[str, str]]:
    if not folder.is_dir():
        raise ConfigError(f"REJSE_JOURNEYS_DIR: {folder} is no folder")
    return [(str(path), path.read_text("utf-8")) for path in sorted(folder.glob("*.yaml"))]


def _unique(texts: list[tuple[str, str]], problems: list[str]) -> list[Definition]:
    found: dict[str, Definition] = {}
    for name, text in texts:
        try:
            definition = parse(text, name)
        except ConfigError as error:
            problems.append(str(error))
            continue
        if definition.key in found:
            problems.append(f"{name}: another file of the folder has the key {definition.key!r} too")
        found[definition.key] = definition
    return list(found.values())
