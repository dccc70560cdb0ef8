"""What is built, linted and offered is what the project says it is."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PYPROJECT = (_ROOT / "pyproject.toml").read_text()
_FLOORS = {
    "aiokafka": (0, 14, 0),  # consumers that stayed silent after a broker's death
    "asyncpg": (0, 32, 0),  # connections lost on cancellation
    "starlette": (0, 49, 1),  # CVE-2024-47874, CVE-2025-54121, CVE-2025-62727
}
"""Below these, faults are known that Rejse's promises break on."""


def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    """Models, SQL, templates and pages travel with the code that reads them."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        capture_output=True,
        check=True,
        cwd=_ROOT,
        timeout=60,
    )

    (wheel,) = tmp_path.glob("*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == _files_of("services") | _files_of("shared")


def test_every_exception_to_a_rule_has_its_reason() -> None:
    """A rule is switched off only with the reason on the same line."""
    lint = tomllib.loads(_PYPROJECT)["tool"]["ruff"]["lint"]
    switched_off = [*lint["ignore"], *lint["per-file-ignores"]]

    bare = [rule for rule in switched_off if not re.search(rf'"{re.escape(rule)}".*  # \S', _PYPROJECT)]
    assert not bare


def test_every_door_tells_what_it_is_for() -> None:
    """`make` alone lists each target that a person calls."""
    listed = subprocess.run(
        ["make"], capture_output=True, check=True, cwd=_ROOT, text=True, timeout=10
    ).stdout

    for door in ("run", "test", "check", "bench", "lock", "clean"):
        assert re.search(rf"^  make {door} +\w", listed, re.MULTILINE), listed


def test_no_library_is_older_than_its_known_faults() -> None:
    """A lock that went back to a version with such a fault would bring it back unnoticed."""
    lock = (_ROOT / "requirements/run.txt").read_text()
    locked = dict(re.findall(r"^([a-z]+)==([\d.]+)", lock, re.MULTILINE))
    versions = {name: tuple(int(part) for part in locked[name].split(".")) for name in _FLOORS}

    assert not [name for name, floor in _FLOORS.items() if versions[name] < floor]


def _files_of(package: str) -> set[str]:
    paths = (path for path in (_ROOT / package).rglob("*") if path.is_file())
    return {str(path.relative_to(_ROOT)) for path in paths if "__pycache__" not in path.parts}
