"""Points at which a test can make this process die or freeze, to prove what a crash leaves behind.

`REJSE_FAILPOINTS=stager.before_commit:kill:3,ingest.after_append:stop` ends the process with SIGKILL the
third time that it reaches the first point, and freezes it with SIGSTOP the first time it reaches the second.
Unset, a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

from shared.errors import ConfigError

_SIGNALS: Mapping[str, signal.Signals] = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Failpoints:
    """The armed points of one process."""

    def __init__(self, armed: str = "") -> None:
        """Read `NAME:kill|stop[:NTH]`, separated by commas.

        Raises:
            ConfigError: a point is not of that form.
        """
        self._armed = dict(_read(point) for point in armed.split(",") if point)

    def reach(self, name: str) -> None:
        """Say that the process is at a point now."""
        if self._armed and name in self._armed:
            self._count_down(name)

    def _count_down(self, name: str) -> None:
        number, left = self._armed[name]
        if left == 1:
            del self._armed[name]
            os.kill(os.getpid(), number)
        else:
            self._armed[name] = (number, left - 1)


def _read(point: str) -> tuple[str, tuple[signal.Signals, int]]:
    name, _, rest = point.partition(":")
    action, _, nth = rest.partition(":")
    if action not in _SIGNALS or not (nth or "1").isdigit() or (nth and int(nth) < 1):
        raise ConfigError(f"REJSE_FAILPOINTS: {point!r} is not NAME:kill or NAME:stop, with :NTH or without")
    return name, (_SIGNALS[action], int(nth or "1"))
