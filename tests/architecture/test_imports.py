"""The import contracts hold, and would not if somebody broke them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_TREE = ("services", "shared", "tests")

_PLANTED = {
    "services/stager/loop.py": ["aiokafka", "tests.support.ports"],
    "services/stager/identity.py": ["asyncpg", "services.stager.loop"],
    "services/stager/assign.py": ["random", "services.ingest.settings"],
    "services/ingest/accept.py": ["os", "services.api.settings"],
    "shared/touchpoint.py": ["time", "services.ingest.settings"],
    "shared/journey/fold.py": ["asyncio"],
    "tests/unit/test_planted.py": ["sqlalchemy"],
    "tests/e2e/test_planted.py": ["shared.touchpoint"],
}
_WITHOUT_A_PLACE = ["services/ingest/drawer.py", "services/stager/drawer.py", "services/drawer.py"]


def test_every_planted_violation_is_caught(tmp_path: Path) -> None:
    """With these imports and modules in the tree, import-linter names each of them."""
    for folder in _TREE:
        shutil.copytree(_ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path, modules in _PLANTED.items():
        with (tmp_path / path).open("a") as source:
            source.writelines(f"\nimport {module}" for module in modules)
    for path in _WITHOUT_A_PLACE:
        (tmp_path / path).touch()

    told = _lint_imports(tmp_path)

    missed = [
        f"{path}: {module}"
        for path, modules in _PLANTED.items()
        for module in modules
        if f"{_module(path)} -> {module} " not in told
    ]
    missed += [path for path in _WITHOUT_A_PLACE if f"- {_module(path)}" not in told]
    assert not missed, told


def _lint_imports(tree: Path) -> str:
    config = str(_ROOT / "pyproject.toml")
    command = [str(Path(sys.executable).with_name("lint-imports")), "--config", config, "--no-cache"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=tree, text=True, timeout=60)
    if done.returncode != 1:
        pytest.fail(f"import-linter ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def _module(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")
