"""What a report says of itself."""

from __future__ import annotations

import pytest

from tests.faults.report import Line, Report


@pytest.mark.parametrize(
    ("lines", "late"),
    [
        ([], False),
        ([Line("lost", "0", "0", True)], False),
        ([Line("lost", "0", "0", True), Line("p99", "1 s", "2 s", False, timed=True)], True),
        ([Line("lost", "0", "1", False), Line("p99", "1 s", "2 s", False, timed=True)], False),
    ],
)
def test_only_who_broke_nothing_but_promises_of_speed_was_late(lines: list[Line], late: bool) -> None:
    """What was lost is lost, however often a part is run."""
    assert Report("a part", lines).was_late is late
