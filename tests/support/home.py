"""A folder for a run that leaves nothing behind."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.lifeline import remove_at_the_end


@contextlib.contextmanager
def new_home() -> Iterator[Path]:
    """A folder on disk, not in memory, removed at the latest when this process ends."""
    with tempfile.TemporaryDirectory(prefix="rejse-", dir="/var/tmp", ignore_cleanup_errors=True) as home:
        remove_at_the_end(Path(home))
        Path(home).chmod(0o711)  # PostgreSQL runs as another user where we are root
        yield Path(home)
