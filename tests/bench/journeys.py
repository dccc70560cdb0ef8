"""What journeys cost: the fold with few and with many of them, and the stager with all built-in ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from uuid import UUID

from services.stager.assign import carry
from shared.journey.catalog import BUILT_IN_AND_ACTIVE, all_definitions
from shared.journey.definition import Definition
from shared.journey.fold import Journey
from shared.journey.state import NOWHERE, State
from shared.journey.touch import Lens
from tests.bench import staging
from tests.bench.measure import Measure, interleaved
from tests.bench.processes import SERVER_CORE, apart
from tests.bench.rig import postgres
from tests.bench.table import Section, Target, ratio

ACTIVE = (1, 7, 50)
FOLDED, FOLDED_CUSTOMERS, FOLD_ROUNDS = 3_000, 750, 3
TOUCHPOINTS = 40_000
CUSTOMERS = {"purchases": 13_500, "mixed": 6_700}
REPEATS = 3

Folds = Mapping[tuple[str, int], Measure]


def measure(home: Path) -> Sequence[Section]:
    """The fold alone, pinned to a core; then the batch transaction on a PostgreSQL, in turns."""
    folds: Folds = apart(of_fold, core=SERVER_CORE)
    fold_rows = {f"{name}, {number} active": measured for (name, number), measured in folds.items()}
    with postgres(core=None) as store:
        runs: dict[str, Callable[[], Measure]] = {}
        for name in CUSTOMERS:
            runs[f"{name}, one journey"] = staging.run(
                store, name, TOUCHPOINTS, CUSTOMERS[name], sorted(BUILT_IN_AND_ACTIVE)
            )
            runs[_all(name)] = staging.run(
                store, name, TOUCHPOINTS, CUSTOMERS[name], [one.key for one in _built_in()]
            )
        rows = interleaved(runs, REPEATS)
    return [_fold_section(fold_rows), _stager_section(rows)]


def of_fold() -> Folds:
    """What a touchpoint costs in each of so many journeys."""
    return {
        (name, number): _folded(name, [*islice(_varied(), number)]) for name in CUSTOMERS for number in ACTIVE
    }


def _varied() -> Iterator[Journey]:
    """The built-in definitions, again and again, under other keys: the one that is active by itself first."""
    first_ones = sorted(_built_in(), key=lambda one: one.key not in BUILT_IN_AND_ACTIVE)
    for number, definition in enumerate(cycle(first_ones)):
        yield Journey(replace(definition, key=f"{definition.key}-{number}"))


def _built_in() -> Sequence[Definition]:
    return [definition for definition, _ in all_definitions(None)]


def _folded(name: str, journeys: Sequence[Journey]) -> Measure:
    """The median round, of touchpoints and journeys whether or not they concern each other."""
    us = median(_fold_round_us(name, journeys) for _ in range(FOLD_ROUNDS))
    return Measure(cpu_us=us / FOLDED / len(journeys))


def _fold_round_us(name: str, journeys: Sequence[Journey]) -> float:
    lens = Lens(journey.asks for journey in journeys)
    found = staging.DATA_SETS[name](FOLDED, FOLDED_CUSTOMERS, datetime(2026, 1, 1, tzinfo=UTC))
    touches = [(one.identities[0], lens.touch(UUID(int=n), one)) for n, one in enumerate(found, 1)]
    held: dict[tuple[str, Journey], State] = {}
    began_ns = time.process_time_ns()
    for customer, touch in touches:
        for journey in journeys:
            if journey.concerns(touch.type):
                before = held.get((customer, journey), NOWHERE)
                held[customer, journey] = carry(journey, before, (touch,))[0]
    return (time.process_time_ns() - began_ns) / 1_000


def _all(name: str) -> str:
    return f"{name}, all {len(_built_in())} built-in journeys"


def _fold_section(rows: Mapping[str, Measure]) -> Section:
    return Section(
        "The fold, by touchpoint and journey",
        rows,
        notes=(
            f"{FOLDED:,} touchpoints of {FOLDED_CUSTOMERS:,} customers, one at a time onto the held state; "
            f"the median of {FOLD_ROUNDS} rounds. The journeys are the built-in ones under other keys, "
            "`purchase-lifecycle` first.",
            "*purchases*: orders alone, like CDNOW. *mixed*: those of the stager's benchmark, nine in ten "
            "of which don't concern `purchase-lifecycle`, and count nevertheless.",
        ),
    )


def _stager_section(rows: Mapping[str, Measure]) -> Section:
    return Section(
        "Stager, one journey and all",
        rows,
        unit="touchpoints",
        notes=(
            f"{TOUCHPOINTS:,} touchpoints of {CUSTOMERS['purchases']:,} customers (purchases) and of "
            f"{CUSTOMERS['mixed']:,} (mixed), in batches of {staging.BATCH_RECORDS:,}, two at once, without "
            "a log. PostgreSQL 18 with fsync; its CPU is of all its processes. Nothing is pinned.",
            "One journey is `purchase-lifecycle`.",
        ),
        targets=[
            Target(
                f"stager, all built-in journeys, touchpoints/s, of one: {name}",
                ratio(rows[_all(name)].rate_s, rows[f"{name}, one journey"].rate_s),
                0.5,
                "at least",
            )
            for name in CUSTOMERS
        ],
    )
