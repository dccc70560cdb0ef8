"""Thirteen planted bugs, each of which a short campaign must find: who watches the watchman.

Each is a patch to a copy of the services. A patch that no longer applies is a failure: the bug that it plants
has to be planted anew where the code has gone. The services as they are go first, through every fault that
aims at a bug: what found something there would find it everywhere.
"""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.breaking_everything import POWER_CUTS
from tests.faults.catalogue import FAULTS
from tests.faults.play import Play, Size
from tests.faults.report import Line, Report
from tests.faults.rig import Rig, copied_code
from tests.faults.scale import Scale
from tests.faults.scene import Fault

_PATCHES = Path(__file__).with_name("patches")
_SIZE = Size(acked=6_000, faults_min=0, faults=1, legs=1, rounds=1, events_s=2_500)
_NOT_A_PROMISE = ("sometimes:", "acked events", "faults", "row ")
_POWER_CUT, _POWER_CUT_ON_SPOOL = (cut.name for cut in POWER_CUTS)


@dataclass(frozen=True, slots=True)
class Bug:
    """A patch by its name, what it does, and the faults that aim at it."""

    patch: str
    what: str
    faults: Sequence[str] = ()
    power_cut: str | None = None


BUGS = (
    Bug("ack-before-fsync", "the spool acks before it syncs", power_cut=_POWER_CUT_ON_SPOOL),
    Bug(
        "offset-before-rows",
        "the offset is committed before the rows",
        ("a stager killed at stager.before_commit",),
    ),
    Bug(
        "epoch-predicate-off",
        "the fence lets everybody through",
        ("a stager frozen with a batch read",),
    ),
    Bug("on-conflict-off", "an id that is known is inserted again"),
    Bug("next-offset-plus-one", "the offset is one too far", ("a stager drains at SIGTERM",)),
    Bug("reset-to-latest", "a claimed partition is read from its end", ("a stager killed at any moment",)),
    Bug("unordered-locks", "customers are locked in any order", ("a stager comes and goes",)),
    Bug(
        "retry-after-fsync-error",
        "what a failed sync should have kept is taken for kept",
        ("the spool's disk fails to sync",),
    ),
    Bug(
        "spool-deleted-on-lazy-ack",
        "the log acks what isn't on its disk",
        ("the broker away for a while",),
        _POWER_CUT,
    ),
    Bug("batch-internal-duplicates", "an id twice in one batch counts twice"),
    # A fault for which the load goes on: somebody has to be erased, and more of theirs to come.
    Bug(
        "erased-come-back",
        "what comes late of who was erased is taken",
        ("a stager drains at SIGTERM",),
    ),
    Bug("fold-by-arrival", "touchpoints are folded as they arrive"),
    Bug(
        "dead-letter-on-40P01",
        "the victims of a deadlock are dead letters",
        ("a rival locks customers in reverse order",),
    ),
)


def run(scale: Scale, home: Path) -> Report:
    """Look for a bug where none is, then plant each by itself and look for it."""
    lines = [_control(scale.seed, _place(home, "control"))]
    lines += [_hunt(bug, scale.seed, _place(home, bug.patch)) for bug in BUGS]
    return Report("Planted bugs", lines, [f"seed {scale.seed}"])


def _place(home: Path, name: str) -> Path:
    place = home / name
    place.mkdir(mode=0o711)
    (place / "code").mkdir()
    return place


def _control(seed: int, home: Path) -> Line:
    copied_code(home / "code")
    all_faults = [fault for bug in BUGS for fault in bug.faults]
    return _line(Bug("no bug", "the services as they are", all_faults, _POWER_CUT), seed, home, found=False)


def _hunt(bug: Bug, seed: int, home: Path) -> Line:
    if refused := planted(bug.patch, copied_code(home / "code")):
        return Line(f"{bug.patch}: {bug.what}", "found", f"the patch doesn't apply: {refused}", False)
    return _line(bug, seed, home, found=True)


def _line(bug: Bug, seed: int, home: Path, *, found: bool) -> Line:
    began_s = time.monotonic()
    try:
        caught = _caught(bug, seed, home, home / "code")
    except Exception as error:
        traceback.print_exc()
        caught = [f"{type(error).__name__}: {error}"[:300]]
    seen = f"{caught[0] if caught else 'nothing'} ({time.monotonic() - began_s:.0f} s)"
    promised = "found" if found else "nothing found"
    return Line(f"{bug.patch}: {bug.what}", promised, seen, bool(caught) is found)


def _caught(bug: Bug, seed: int, home: Path, code: Path) -> list[str]:
    """The promises that don't hold any more."""
    with Rig(home, code) as rig:
        play = Play(rig, _SIZE, seed, full=False, drain_s=30)
        with play.loaded():
            play.go_on_to(_SIZE.acked)
            play.leg([_fault(name) for name in bug.faults])
            if bug.power_cut is not None:
                play.leg([], _fault(bug.power_cut))
        report = play.report()
    broken = [line for line in report.lines if not line.held and not line.what.startswith(_NOT_A_PROMISE)]
    # An invariant says more than that a fault could not be gone through with.
    broken.sort(key=lambda line: not line.what.startswith("I"))
    return [f"{line.what}: {line.seen}"[:300] for line in broken]


def _fault(name: str) -> Fault:
    return next(fault for fault in (*FAULTS, *POWER_CUTS) if fault.name == name)


def planted(name: str, code: Path) -> str:
    """Apply a patch to a copy of the services; what git says if it doesn't apply exactly."""
    command = ["git", "apply", "-p1", str(_PATCHES / f"{name}.patch")]
    done = subprocess.run(command, cwd=code, capture_output=True, text=True, timeout=30, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip()
