"""The programs that check the deploy files."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"


def installed(name: str) -> str:
    """The path of a program that is installed beside this Python."""
    return str(Path(sys.executable).with_name(name))


def promtool() -> str:
    """The path of Prometheus' own checker, which `deploy/prometheus/provide` provides."""
    found = shutil.which("promtool") or shutil.which(ROOT / ".cache/prometheus/usr/bin/promtool")
    assert found, "promtool is missing: run deploy/prometheus/provide .cache/prometheus"
    return found


def check(command: Sequence[str | Path], cwd: Path = ROOT) -> None:
    """Run a checker, and fail the test with what it says if it finds fault."""
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, check=False, cwd=cwd, text=True, timeout=100
    )
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
