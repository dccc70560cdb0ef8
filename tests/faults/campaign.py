"""The campaign: everything around Rejse breaks while a load goes on, and nothing that was acked may be lost.

A leg is a handful of faults, several at once on different parts, and a power cut at its end. After the last
leg the load ends, the log is made anew under stopped stagers, everything is restarted once more, and the
oracle judges what was kept.
"""

from __future__ import annotations

from pathlib import Path

from tests.faults.catalogue import DISKS, FAULTS, MAY_BE_MISSING, chosen, dealt
from tests.faults.disks import lacking
from tests.faults.play import Play, Size
from tests.faults.report import Line, Report
from tests.faults.rig import Rig
from tests.faults.scale import Scale

_CHANGE = Size(acked=200_000, faults_min=40, faults=34, legs=5, rounds=1, events_s=1_200)
_RELEASE = Size(acked=2_000_000, faults_min=500, faults=100, legs=50, rounds=10, events_s=1_200)


def run(scale: Scale, home: Path) -> Report:
    """Run it."""
    if lack := lacking(home):
        return Report("Fault campaign", [Line(DISKS, "possible", lack, DISKS in MAY_BE_MISSING)])
    size = _RELEASE if scale.full else _CHANGE
    with Rig(home) as rig:
        play = Play(rig, size, scale.seed, full=scale.full)
        able = [fault for fault in FAULTS if fault.lacks(rig) is None]
        play.leave_out([fault for fault in FAULTS if fault not in able], MAY_BE_MISSING)
        with play.loaded():
            faults = chosen(able, size.faults, play.chance)
            for some, power_cut in dealt(faults, size.legs, size.rounds, play.chance):
                play.leg(some, power_cut)
            play.go_on_to(size.acked)
        play.replace_log()
        play.restart_servers()
        return play.report()
