"""All built-in journeys beside each of them alone: what a journey more costs hangs on what the one does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from shared.journey.catalog import all_definitions
from tests.bench import staging
from tests.bench.journeys import CUSTOMERS, REPEATS, TOUCHPOINTS
from tests.bench.measure import Measure, interleaved
from tests.bench.rig import postgres
from tests.bench.table import Section, Target, ratio


def measure(home: Path) -> Sequence[Section]:
    """A table for each data set."""
    del home
    keys = [definition.key for definition, _ in all_definitions(None)]
    with postgres(core=None) as store:

        def run(data_set: str, active: Sequence[str]) -> Callable[[], Measure]:
            return staging.run(store, data_set, TOUCHPOINTS, CUSTOMERS[data_set], active)

        return [
            _section(
                name, interleaved({key: run(name, [key]) for key in keys} | {_ALL: run(name, keys)}, REPEATS)
            )
            for name in CUSTOMERS
        ]


_ALL = "all of them"


def _section(data_set: str, rows: dict[str, Measure]) -> Section:
    return Section(
        f"Stager, each journey and all: {data_set}",
        rows,
        unit="touchpoints",
        notes=("As in the part `journeys`.",),
        targets=[
            Target(
                f"stager, all built-in journeys, touchpoints/s, of one: {data_set}, {name}",
                ratio(rows[_ALL].rate_s, alone.rate_s),
                0.5,
                "at least",
            )
            for name, alone in rows.items()
            if name != _ALL
        ],
    )
