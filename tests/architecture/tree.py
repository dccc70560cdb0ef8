"""The source tree, for the tests that hold its shape."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest", "stager", "api")


def modules(*folders: str) -> list[Path]:
    """All Python files below some folders of the checkout, relative to it."""
    return sorted(file.relative_to(ROOT) for folder in folders for file in (ROOT / folder).rglob("*.py"))


def parsed(module: Path) -> ast.Module:
    """A module's syntax tree."""
    return ast.parse((ROOT / module).read_text(), str(module))
