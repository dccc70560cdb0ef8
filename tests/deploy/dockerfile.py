"""deploy/Dockerfile and .dockerignore as data."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.tools import ROOT

FILE = ROOT / "deploy/Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, and the number of the stage that it belongs to; 0 comes before any stage."""

    stage: int
    name: str
    value: str


def instructions() -> list[Instruction]:
    """The instructions in order, continued lines joined."""
    lines = [line for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    found, stage = [], 0
    for line in re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).splitlines():
        name, value = line.split(maxsplit=1)
        stage += name == "FROM"
        found.append(Instruction(stage, name, value))
    return found


def of(name: str, stage: int | None = None) -> list[str]:
    """The values of the instructions of a name, of one stage or of all."""
    return [one.value for one in instructions() if one.name == name and stage in (None, one.stage)]


def copied() -> list[tuple[str, str]]:
    """What is copied out of the build's context, each as source and target."""
    pairs = []
    for value in of("COPY"):
        if not value.startswith("--from"):
            *sources, target = value.split()
            pairs += [(source, target) for source in sources]
    return pairs


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file into the build's context: the last pattern that matches decides."""
    let_in = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if pattern and not pattern.startswith("#") and _matches(pattern.lstrip("!").strip("/"), path):
            let_in = pattern.startswith("!")
    return let_in


def files(source: str) -> Iterator[Path]:
    """The files below a source that are in the build's context, relative to the checkout."""
    path = ROOT / source
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        relative = file.relative_to(ROOT)
        if file.is_file() and in_context(str(relative)):
            yield relative


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern names a path or a folder above it."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    expression = re.sub(
        r"\*\*/|\*\*|\*|\?|[^*?]+", lambda found: parts.get(found[0], re.escape(found[0])), pattern
    )
    return re.fullmatch(f"{expression}(?:/.*)?", path) is not None
