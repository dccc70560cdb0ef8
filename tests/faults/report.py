"""What a part of the run promises, what was seen, and whether it held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Line:
    """One promise: what is promised, in which measure, and what was seen of it. `timed`: the measure is how
    fast something is, which depends on whoever else uses the machine."""

    what: str
    promised: str
    seen: str
    held: bool
    timed: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What one part of the run found. `notes` say how it was done, the seed among them."""

    title: str
    lines: Sequence[Line]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def held(self) -> bool:
        """Whether every promise held; a part that promises nothing has shown nothing."""
        return bool(self.lines) and all(line.held for line in self.lines)

    @property
    def was_late(self) -> bool:
        """Whether promises broke, and all of them are about how fast something is."""
        broken = [line for line in self.lines if not line.held]
        return bool(broken) and all(line.timed for line in broken)


def rendered(reports: Iterable[Report]) -> str:
    """All reports as Markdown."""
    return "\n".join(line for report in reports for line in (*_table(report), ""))


def _table(report: Report) -> Iterable[str]:
    yield f"### {report.title}"
    yield ""
    yield "| what | promised | seen | held |"
    yield "| --- | --- | --- | --- |"
    for line in report.lines:
        yield f"| {line.what} | {line.promised} | {line.seen} | {'yes' if line.held else '**no**'} |"
    yield ""
    yield from (f"{note}  " for note in report.notes)
