"""The first SIGTERM or SIGINT asks for an orderly end, the second for a quick one."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """`stop` is set by the first signal; the second calls `hurry`, if somebody has set it."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurried = False
        self.hurry: Callable[[], None] | None = None

    def receive(self) -> None:
        """A signal has come."""
        if not self.stop.is_set():
            self.stop.set()
        else:
            self.hurried = True
            if self.hurry is not None:
                self.hurry()


@contextlib.contextmanager
def receiving() -> Iterator[Signals]:
    """Take the signals of this process."""
    signals = Signals()
    loop = asyncio.get_running_loop()
    for number in _NUMBERS:
        loop.add_signal_handler(number, signals.receive)
    try:
        yield signals
    finally:
        for number in _NUMBERS:
            loop.remove_signal_handler(number)
