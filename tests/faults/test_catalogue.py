"""Every row that the campaign is to show is shown, and the same seed shows it in the same order."""

from __future__ import annotations

import random

from tests.faults.breaking_everything import POWER_CUTS
from tests.faults.catalogue import ALWAYS, BY_THE_END, BY_THE_LOAD, FAULTS, chosen, dealt

_ROWS = {*range(1, 13), *range(19, 29), 30}


def test_every_row_of_the_catalogue_has_a_fault() -> None:
    """By a fault with a name, by the load itself, or at the campaign's end."""
    rows = {fault.row for fault in (*FAULTS, *POWER_CUTS)} | BY_THE_LOAD.keys() | BY_THE_END.keys()
    assert rows == _ROWS


def test_no_two_faults_have_one_name() -> None:
    """A report counts them by name."""
    names = [fault.name for fault in (*FAULTS, *POWER_CUTS)]
    assert len(names) == len(set(names))


def test_what_is_needed_is_always_chosen() -> None:
    """A change's campaign has a choice of the faults, with one of each row, the same for the same seed; a
    release's has all."""
    names = {fault.name for fault in FAULTS}
    assert names >= ALWAYS
    some = chosen(FAULTS, 30, random.Random(5))
    assert len(some) == 30
    assert {fault.name for fault in some} >= ALWAYS
    assert {fault.row for fault in some} == {fault.row for fault in FAULTS}
    assert some == chosen(FAULTS, 30, random.Random(5))
    assert len(chosen(FAULTS, 1_000, random.Random(5))) == len(FAULTS)


def test_each_fault_is_dealt_once_a_round() -> None:
    """And the seed alone decides in which order."""
    legs = dealt(FAULTS, 5, 1, random.Random(3))
    assert len(legs) == 5
    assert sorted(fault.name for leg, _ in legs for fault in leg) == sorted(fault.name for fault in FAULTS)
    assert {cut.name for _, cut in legs} == {cut.name for cut in POWER_CUTS}
    assert legs == dealt(FAULTS, 5, 1, random.Random(3))
    assert len([fault for leg, _ in dealt(FAULTS, 50, 10, random.Random(3)) for fault in leg]) == 10 * len(
        FAULTS
    )
