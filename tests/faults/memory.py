"""Taking a process's memory away, by a control group of the kernel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.eventually import eventually

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
# Less than what Python asks the system for at once: it need not be at work on much.
_LIMIT_BYTES = 256 << 10


def memory_control() -> Path | None:
    """The folder in which groups with a bound on their memory can be made, and whether they can."""
    if (_V1 / "memory.limit_in_bytes").exists() and os.access(_V1, os.W_OK):
        return _V1
    controllers = _V2 / "cgroup.subtree_control"
    if controllers.exists() and "memory" in controllers.read_text() and os.access(_V2, os.W_OK):
        return _V2
    return None


@contextlib.contextmanager
def starved(pid: int) -> Iterator[None]:
    """Let a process have hardly any more memory, so that the kernel kills it when it wants some."""
    folder = memory_control()
    assert folder is not None
    group = folder / f"rejse-{pid}"
    group.mkdir()
    try:
        (group / ("memory.limit_in_bytes" if folder == _V1 else "memory.max")).write_text(str(_LIMIT_BYTES))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        eventually(lambda: _removed(group), 10)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
