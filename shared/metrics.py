"""Metrics as a catalogue: what a service counts stands in one table with its meaning.

Each service declares `CATALOGUE`; `Metrics` makes the Prometheus objects of it in a registry of its own,
so that nothing happens at import and a test can hold `/metrics`, the catalogue and the docs together.
Names follow Prometheus' naming: base units, `_total` for counters, bounded labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name as Prometheus shows it, its kind, its labels and what it means."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """The live metrics of one process."""

    def __init__(self, catalogue: Sequence[Metric]) -> None:
        self._registry = CollectorRegistry(auto_describe=True)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._made: dict[str, Counter | Gauge | Histogram] = {
            metric.name: _make(metric, self._registry) for metric in catalogue
        }

    def counter(self, name: str) -> Counter:
        """The counter of that name in the catalogue."""
        made = self._made[name]
        assert isinstance(made, Counter)
        return made

    def gauge(self, name: str) -> Gauge:
        """The gauge of that name in the catalogue."""
        made = self._made[name]
        assert isinstance(made, Gauge)
        return made

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name in the catalogue."""
        made = self._made[name]
        assert isinstance(made, Histogram)
        return made

    def exposition(self) -> bytes:
        """What `/metrics` answers, in Prometheus' text format."""
        return generate_latest(self._registry)


def _make(metric: Metric, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, metric.labels, registry=registry)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, metric.labels, registry=registry)
    return Histogram(metric.name, metric.meaning, metric.labels, registry=registry, buckets=SECONDS_BUCKETS)
