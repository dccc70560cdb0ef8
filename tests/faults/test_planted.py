"""Every planted bug can still be planted, and none is planted unseen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.planted import BUGS, Bug, planted
from tests.faults.rig import ROOT, copied_code

_PATCHES = Path(__file__).with_name("patches")


@pytest.mark.parametrize("bug", BUGS, ids=[bug.patch for bug in BUGS])
def test_a_patch_applies_and_gives_code_that_can_be_read(bug: Bug, tmp_path: Path) -> None:
    """Exactly where it was meant to; the bug is in what the code does, not in whether it starts."""
    assert planted(bug.patch, copied_code(tmp_path)) == ""
    assert any(
        file.read_text() != (ROOT / file.relative_to(tmp_path)).read_text() for file in _code(tmp_path)
    )
    subprocess.run([sys.executable, "-m", "compileall", "-q", "."], cwd=tmp_path, check=True, timeout=60)


def _code(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*.py") if "__pycache__" not in file.parts]


def test_there_is_a_hunt_for_every_patch() -> None:
    """And a patch for every hunt."""
    assert {path.stem for path in _PATCHES.glob("*.patch")} == {bug.patch for bug in BUGS}
