"""All faults, and how they are dealt out over the legs of a campaign."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tests.faults import breaking_broker, breaking_ingest, breaking_stager, breaking_store
from tests.faults.breaking_everything import POWER_CUTS
from tests.faults.scene import Fault

FAULTS: tuple[Fault, ...] = (
    *breaking_ingest.FAULTS,
    *breaking_broker.FAULTS,
    *breaking_stager.FAULTS,
    *breaking_store.FAULTS,
)
BY_THE_LOAD: Mapping[int, str] = {
    10: "events sent again, at the same time, under one id with another body",
    11: "events late, out of order, at equal instants, at impossible ones",
    26: "customers shared by partitions, whose batches meet",
}
"""Rows that need no fault: the load does this all the time."""
BY_THE_END: Mapping[int, str] = {28: "the log made anew"}
"""Rows that a campaign ends with."""
DISKS = "disks that can lose their power"
MAY_BE_MISSING = frozenset(
    {DISKS, "ingest out of memory", "a stager out of memory", "a day forward", "a day back"}
)
"""What a run may leave out where a machine lacks what it needs, and says so: the name of a fault, for a
container may control no memory and have no libfaketime; or the disks, and the whole campaign with them.
Naming one here is a decision."""

ALWAYS = frozenset(
    {
        "a sender over its rate",
        "a stager frozen inside a transaction",
        "a stager frozen with a batch read",
        "a stager's session silent in a copy",
        "poison on the log",
        "the broker killed and started",
        "the spool reaches its bound",
    }
)
"""Without these, what has to happen sometimes might not."""

_DEATHS = 3

Leg = tuple[Sequence[Fault], Fault]
"""Faults that overlap, and the power cut that ends them."""


def chosen(faults: Sequence[Fault], count: int, chance: random.Random) -> list[Fault]:
    """So many faults: those that are needed always, one of each row, and others that chance chooses.

    A stager that dies costs its group a session, so unless all are wanted it dies at a few points only.
    """
    if count >= len(faults):
        return list(faults)
    deaths = [fault for fault in faults if fault.name.startswith("a stager killed")]
    needed = [fault for fault in faults if fault.name in ALWAYS] + chance.sample(deaths, _DEATHS)
    for row in sorted({fault.row for fault in faults} - {fault.row for fault in needed}):
        needed.append(chance.choice([fault for fault in faults if fault.row == row]))
    others = [fault for fault in faults if fault not in needed and fault not in deaths]
    return needed + chance.sample(others, count - len(needed))


def dealt(faults: Sequence[Fault], legs: int, rounds: int, chance: random.Random) -> list[Leg]:
    """Each fault once a round, in an order that chance chooses; the rounds share the legs."""
    found: list[Leg] = []
    for number in range(rounds):
        share = legs // rounds + (number < legs % rounds)
        shuffled = chance.sample(faults, len(faults))
        found += [
            (shuffled[begin::share], POWER_CUTS[(len(found) + begin) % len(POWER_CUTS)])
            for begin in range(share)
        ]
    return found
