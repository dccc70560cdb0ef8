"""What one run of a thing measures, and how several runs become one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median

REPEATS = 3


@dataclass(frozen=True, slots=True)
class Measure:
    """The numbers of one run; None where a thing has no such number.

    `rate_s` is per second of wall time and `per_cpu_s` per CPU-second of the measured process alone, of which
    `cpu_us` are the microseconds of one; `store_cpu_us` are those that PostgreSQL takes for it.
    `again` is how often a batch was run again because of others, on average.
    Latencies are in milliseconds. `spread` is the range of `per_cpu_s`, or of what there is instead, over
    the runs, as a part of its median.
    """

    rate_s: float | None = None
    per_cpu_s: float | None = None
    cpu_us: float | None = None
    store_cpu_us: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mib: float | None = None
    seconds: float | None = None
    again: float | None = None
    spread: float | None = None


Run = Callable[[], Measure]


def interleaved(runs: Mapping[str, Run], repeats: int = REPEATS) -> dict[str, Measure]:
    """Run each once, then each again: a machine that drifts does so for all. The median of each.

    A collapse under load that hits one round hits one value of three.
    """
    found: dict[str, list[Measure]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(run())
    return {name: middle(measures) for name, measures in found.items()}


def middle(measures: Sequence[Measure]) -> Measure:
    """The median of every number by itself, with the spread of the one that tells most."""
    medians = {
        field.name: _median([getattr(one, field.name) for one in measures]) for field in fields(Measure)
    }
    for name in ("per_cpu_s", "rate_s", "p99_ms", "seconds"):
        if medians[name]:
            values = [getattr(one, name) for one in measures]
            medians["spread"] = (max(values) - min(values)) / medians[name]
            break
    return Measure(**medians)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
