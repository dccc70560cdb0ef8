"""Looks at what the services take of the machine, once a second."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

import psutil

from tests.faults.report import Line
from tests.faults.rig import SPOOL_BYTES_MAX, STAGERS, Rig

_EVERY_S = 1.0
_RSS_MIB_MAX = 300
_FDS_MAX = 200
_SPOOL_MIB_MAX = SPOOL_BYTES_MAX * 2 / 2**20 + 32
"""The spool's bound, free pages in its file, and its write-ahead log."""


class Watch:
    """The most that each service was seen to take (I8)."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._rss_mib: dict[str, float] = defaultdict(float)
        self._fds: dict[str, float] = defaultdict(float)
        self._spool_mib = 0.0
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def lines(self) -> Iterator[Line]:
        """What was seen, against its bounds."""
        for part, most in sorted(self._rss_mib.items()):
            yield Line(f"I8 memory of {part}", f"{_RSS_MIB_MAX} MiB", f"{most:.0f} MiB", most <= _RSS_MIB_MAX)
        for part, most in sorted(self._fds.items()):
            yield Line(f"I8 open files of {part}", f"{_FDS_MAX}", f"{most:.0f}", most <= _FDS_MAX)
        held = self._spool_mib <= _SPOOL_MIB_MAX
        yield Line("I8 files of the spool", f"{_SPOOL_MIB_MAX:.0f} MiB", f"{self._spool_mib:.0f} MiB", held)

    def _run(self) -> None:
        while not self._rig.dead.wait(_EVERY_S):
            for part in ("ingest", "api", *STAGERS):
                self._look(part)
            self._spool_mib = max(self._spool_mib, self._spool_bytes() / 2**20)

    def _look(self, part: str) -> None:
        try:
            process = psutil.Process(self._rig.service(part).pid)
            rss, fds = process.memory_info().rss, process.num_fds()
        except psutil.Error:
            return
        self._rss_mib[part] = max(self._rss_mib[part], rss / 2**20)
        self._fds[part] = max(self._fds[part], fds)

    def _spool_bytes(self) -> int:
        try:
            return sum(
                path.stat().st_size for path in self._rig.disks["spool"].mount_point.rglob("*.sqlite3*")
            )
        except OSError:
            return 0
