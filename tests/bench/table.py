"""The table that a run prints: what was measured, beside its baselines, and the targets it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.bench.measure import Measure


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a number of this run. `actual` is None where it could not be measured."""

    what: str
    actual: float | None
    bound: float
    sense: Literal["at least", "at most"]

    @property
    def met(self) -> bool:
        """Whether the bound holds."""
        if self.actual is None:
            return False
        return self.actual >= self.bound if self.sense == "at least" else self.actual <= self.bound


@dataclass(frozen=True, slots=True)
class Section:
    """The rows of one question. The ratio of each row is to `baseline`, per CPU-second."""

    title: str
    rows: Mapping[str, Measure]
    baseline: str | None = None
    unit: str = "events"
    notes: Sequence[str] = ()
    targets: Sequence[Target] = field(default_factory=tuple)

    def grid(self) -> list[str]:
        """A row for each measure."""
        columns = [column for column in _columns(self) if any(map(column.cell, self.rows.values()))]
        rows = ((name, *(column.cell(row) or "–" for column in columns)) for name, row in self.rows.items())
        return _grid(("", *(column.head for column in columns)), rows)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where the microseconds of one event, or whatever the unit is, go.

    `parts` make up the `whole_us`; `beside` is for comparison, and is in none of them.
    """

    title: str
    whole_us: float
    parts: Mapping[str, float]
    beside: Mapping[str, float] = field(default_factory=dict)
    unit: str = "event"
    notes: Sequence[str] = ()
    targets: Sequence[Target] = ()

    def grid(self) -> list[str]:
        """A row for each part, the whole, and what stands beside it."""
        parts = [(name, f"{us:.2f}", f"{us / self.whole_us:.0%}") for name, us in self.parts.items()]
        beside = [(name, f"{us:.2f}", "") for name, us in self.beside.items()]
        whole = ("**all of it**", f"{self.whole_us:.2f}", "100%")
        return _grid(("", f"µs per {self.unit}", "share"), [*parts, whole, *beside])


@dataclass(frozen=True, slots=True)
class _Column:
    head: str
    cell: Callable[[Measure], str]


def ratio(part: float | None, whole: float | None) -> float | None:
    """One number as a multiple of another, if there are both."""
    return part / whole if part is not None and whole else None


def rendered(sections: Sequence[Section | Breakdown]) -> str:
    """All sections, then all targets, as Markdown."""
    lines: list[str] = []
    for section in sections:
        lines += [
            f"### {section.title}",
            "",
            *section.grid(),
            "",
            *(f"{note}  " for note in section.notes),
            "",
        ]
    targets = [target for section in sections for target in section.targets]
    if targets:
        lines += [
            "### Targets",
            "",
            *_grid(("what", "target", "measured", "met"), map(_target_cells, targets)),
        ]
    return "\n".join(lines)


def _columns(section: Section) -> Iterable[_Column]:
    yield _Column(f"{section.unit}/s", lambda row: _whole(row.rate_s))
    yield _Column(f"{section.unit} per CPU-second", lambda row: _whole(row.per_cpu_s))
    yield _Column("µs of CPU", lambda row: _fine(row.cpu_us))
    yield _Column("µs of PostgreSQL's CPU", lambda row: _fine(row.store_cpu_us))
    yield _Column("p50 ms", lambda row: _fine(row.p50_ms))
    yield _Column("p99 ms", lambda row: _fine(row.p99_ms))
    yield _Column("RSS MiB", lambda row: _whole(row.rss_mib))
    yield _Column("seconds", lambda row: _fine(row.seconds))
    yield _Column("run again, by batch", lambda row: _times(row.again))
    yield _Column("spread", lambda row: "" if row.spread is None else f"{row.spread:.0%}")
    if section.baseline is not None:
        base = section.rows.get(section.baseline, Measure())
        yield _Column(f"of {section.baseline}", lambda row: _times(ratio(row.per_cpu_s, base.per_cpu_s)))


def _target_cells(target: Target) -> tuple[str, ...]:
    sign = "≥" if target.sense == "at least" else "≤"
    actual = "–" if target.actual is None else f"{target.actual:.3g}"
    return target.what, f"{sign} {target.bound:g}", actual, "yes" if target.met else "**no**"


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_line(head), _line(["---"] * len(head)), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _whole(number: float | None) -> str:
    return "" if number is None else f"{number:,.0f}"


def _fine(number: float | None) -> str:
    return "" if number is None else f"{number:.1f}"


def _times(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"
