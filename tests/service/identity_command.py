"""`rejse identity` and `rejse customers`, as a person runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.child import inherited_env

_ROOT = Path(__file__).parents[2]


def rejse_identity(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command on a store, to its end."""
    return rejse(database_url, "identity", *arguments)


def rejse(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run any command on a store, to its end, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env=inherited_env(REJSE_DATABASE_URL=database_url, COLUMNS="200"),
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
