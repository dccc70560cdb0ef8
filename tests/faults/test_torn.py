"""A torn tail is one that the owner of the file has to notice."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.faults.torn import is_torn, tear_segment, tear_wal


def test_a_torn_log_of_sqlite_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    """The frame is where the next one would be, claims to be a commit, and is not believed."""
    source, copy = tmp_path / "a.sqlite3", tmp_path / "b.sqlite3"
    connection = sqlite3.connect(source, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n INTEGER)")
    connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(100)])
    for ending in ("", "-wal"):
        Path(f"{copy}{ending}").write_bytes(Path(f"{source}{ending}").read_bytes())
    connection.close()

    whole = Path(f"{copy}-wal").stat().st_size
    tear_wal(Path(f"{copy}-wal"))
    assert is_torn(Path(f"{copy}-wal"))
    assert Path(f"{copy}-wal").stat().st_size > whole
    torn = sqlite3.connect(copy)
    assert torn.execute("SELECT count(*) FROM t").fetchone() == (100,)
    torn.close()


def test_a_torn_segment_ends_in_what_is_no_batch(tmp_path: Path) -> None:
    """The newest segment of a partition is the one that is torn."""
    for name in ("00000000000000000000.log", "00000000000000000042.log"):
        (tmp_path / name).write_bytes(b"batches")

    torn = tear_segment(tmp_path)

    assert torn == tmp_path / "00000000000000000042.log"
    assert is_torn(torn)
    assert torn.read_bytes().startswith(b"batches")
    assert not is_torn(tmp_path / "00000000000000000000.log")
