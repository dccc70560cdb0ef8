"""What a process takes of the machine while something is done to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psutil

from tests.support.eventually import eventually

_EVERY_S = 0.2
_SETTLED_S = 20.0


class Watch:
    """The most that a process had: resident memory, and open files and sockets."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.first_fds = self.peak_fds = self._process.num_fds()
        self.first_rss_mib = self.peak_rss_mib = self._rss_mib()
        self._stop = threading.Event()

    def look(self) -> None:
        """Look until told to stop, or until the process is gone."""
        with contextlib.suppress(psutil.NoSuchProcess):
            while not self._stop.wait(_EVERY_S):
                self.peak_fds = max(self.peak_fds, self._process.num_fds())
                self.peak_rss_mib = max(self.peak_rss_mib, self._rss_mib())

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def settled_fds(self) -> int:
        """How many files are open once they are as few as at first, or have had the time for it."""
        with contextlib.suppress(AssertionError):
            eventually(self._process.num_fds, _SETTLED_S, until=lambda fds: fds <= self.first_fds)
        return self._process.num_fds()

    def _rss_mib(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Watch]:
    """Watch a process meanwhile."""
    watch = Watch(pid)
    thread = threading.Thread(target=watch.look, name="watch", daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()
