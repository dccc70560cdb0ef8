"""How far something is over all customers: a bar at a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from shared.clock import Clock, SystemClock
from shared.store.definitions import Version

LINE_EVERY_S = 5.0
STILL_AFTER_S = 10.0


class Customers:
    """So many customers of about so many. A context manager."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        self._console = console
        self._clock = clock or SystemClock()
        self._line_s = self._clock.monotonic_s()
        self._bar = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} customers"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)

    def show(self, done: int, total: int | None) -> None:
        """Everybody up to here is done."""
        self._bar.update(self._task, completed=done, total=None if total is None else max(total, done))
        now_s = self._clock.monotonic_s()
        if not self._console.is_terminal and now_s - self._line_s >= LINE_EVERY_S:
            self._line_s = now_s
            of = "" if total is None else f" of about {max(total, done):,}"
            self.note(f"{done:,}{of} customers")

    def note(self, text: str) -> None:
        """Say something in between."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class Takeover(Customers):
    """How far a version is that is to take over, and a hint when nobody is at it."""

    def __init__(self, console: Console, clock: Clock | None = None) -> None:
        super().__init__(console, clock)
        self._moved_s = self._clock.monotonic_s()
        self._done = -1

    def show_version(self, version: Version) -> None:
        """The version stands like this."""
        self.show(version.done, version.total)
        now_s = self._clock.monotonic_s()
        if version.done != self._done:
            self._done, self._moved_s = version.done, now_s
        elif now_s - self._moved_s > STILL_AFTER_S:
            self._moved_s = now_s
            self.note("Nothing moves: is a stager at work?")
