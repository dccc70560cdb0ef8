"""A power cut is a real one. Run by `make faults`, for it needs root and disks of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import PowerGrid


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder on disk, for what lies in memory is never cut off from power."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_power_cut_loses_what_was_not_synced_and_nothing_else(home: Path) -> None:
    """Where a machine lacks what that takes, this fails and names it."""
    with PowerGrid(home) as grid:
        grid.prove_itself()


def test_a_full_disk_is_full_and_can_be_emptied(home: Path) -> None:
    """Not a byte fits, and then all fits again."""
    with PowerGrid(home) as grid:
        disk = grid.disk(home / "disk", 64 << 20)
        disk.fill()
        assert not _fits(disk.mount_point / "more")
        disk.empty()
        assert _fits(disk.mount_point / "more")


def _fits(path: Path) -> bool:
    try:
        path.write_bytes(b"x" * 100_000)
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True
