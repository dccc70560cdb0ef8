"""The table of limits is the code's, and none of its bounds is missing there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.docs.limits_table import OPERATIONS, named, with_table

_ROOT = Path(__file__).parents[2]
_FOLDERS = ("services/ingest", "services/stager", "services/api", "shared")
_IS_A_LIMIT = re.compile(r"[A-Z][A-Z_]*(_MAX|TIMEOUT_S|TIMEOUT_MS|AFTER_S|AFTER_MAX_S|SILENT_S)")


def test_the_table_in_the_docs_has_the_codes_numbers() -> None:
    """Run python -m tests.docs.limits_table where it differs."""
    text = OPERATIONS.read_text()
    assert all(mark in text for mark in ("<!-- limits: begin -->", "<!-- limits: end -->"))
    assert text == with_table(text)


def test_every_bound_and_timeout_of_the_services_is_in_the_table() -> None:
    """Whoever adds a public one says what happens at it."""
    found = {
        f"{'.'.join(file.relative_to(_ROOT).with_suffix('').parts)}:{name}"
        for folder in _FOLDERS
        for file in (_ROOT / folder).rglob("*.py")
        for name in _constants(file)
        if _IS_A_LIMIT.fullmatch(name)
    }
    assert found
    assert not found - named()


def _constants(file: Path) -> list[str]:
    body = ast.parse(file.read_text()).body
    targets = [node.targets[0] for node in body if isinstance(node, ast.Assign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
