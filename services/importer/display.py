"""How far an import is: a bar at a terminal, a line now and then elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from services.importer.rows import Place
from shared.clock import Clock

LINE_EVERY_S = 5.0


class Display(Protocol):
    """Shows progress. A context manager; not for several tasks at the same moment."""

    def show(self, place: Place, refused: int) -> None:
        """Everything up to a place is answered."""
        ...

    def note(self, text: str) -> None:
        """Say something in between."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display_on(console: Console, size_bytes: int, clock: Clock) -> Display:
    """The display that suits a console."""
    return Bar(console, size_bytes) if console.is_terminal else Lines(console, size_bytes, clock)


class Bar:
    """A progress bar over the file's bytes."""

    def __init__(self, console: Console, size_bytes: int) -> None:
        self._progress = Progress(
            TextColumn("{task.percentage:>3.0f} %"),
            BarColumn(),
            TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} a second"),
            TextColumn("{task.fields[refused]:,} refused"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID = self._progress.add_task("", total=size_bytes, rows=0, rate=0.0, refused=0)
        self._began_with: int | None = None

    def show(self, place: Place, refused: int) -> None:
        task = self._progress.tasks[0]
        if self._began_with is None:
            self._began_with = place.row
        rate = (place.row - self._began_with) / task.elapsed if task.elapsed else 0.0
        self._progress.update(self._task, completed=place.offset, rows=place.row, rate=rate, refused=refused)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


class Lines:
    """A plain line every few seconds."""

    def __init__(self, console: Console, size_bytes: int, clock: Clock) -> None:
        self._console = console
        self._size_bytes = size_bytes
        self._clock = clock
        self._shown_s = clock.monotonic_s()
        self._rows: int | None = None

    def show(self, place: Place, refused: int) -> None:
        if self._rows is None:
            self._rows = place.row
        passed_s = self._clock.monotonic_s() - self._shown_s
        if passed_s < LINE_EVERY_S:
            return
        rate = (place.row - self._rows) / passed_s
        done = 100 * place.offset // max(1, self._size_bytes)
        self.note(f"{done} %, {place.row:,} rows, {rate:,.0f} a second, {refused:,} refused")
        self._shown_s, self._rows = self._shown_s + passed_s, place.row

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return
