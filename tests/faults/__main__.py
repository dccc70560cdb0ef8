"""`make faults`, or `make faults PART=campaign`: break things, check the promises, print the report."""

from __future__ import annotations

import argparse
import importlib
import secrets
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.faults.report import Report, rendered
from tests.faults.scale import Scale
from tests.support.home import new_home

PARTS = ("sockets", "hostile", "overload", "recovery", "campaign")
FULL_PARTS = (*PARTS, "planted", "soak")
"""Each is a module here with `run(scale, home)`, which returns its report."""
_LOGS = Path(".cache/faults")


def main(arguments: Sequence[str]) -> int:
    """Run the parts asked for, or all. The exit code: 0 every promise held, 1 one was broken."""
    asked = _asked(arguments)
    scale = Scale(full=asked.full, seed=asked.seed)
    reports: list[Report] = []
    held = True
    for name in asked.parts or (FULL_PARTS if scale.full else PARTS):
        for left in range(asked.again, -1, -1):
            reports.append(_run(name, scale))
            if not reports[-1].was_late:
                break
            print(f"{name}: late, {left} more times to try", file=sys.stderr, flush=True)
        held = held and reports[-1].held
    print(rendered(reports))
    return 0 if held else 1


def _run(name: str, scale: Scale) -> Report:
    began_s = time.monotonic()
    with new_home() as home:
        report: Report = importlib.import_module(f"tests.faults.{name}").run(scale, home)
        if not report.held:
            _keep_logs(home, _LOGS / f"{name}-{scale.seed}")
    print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return report


def _keep_logs(home: Path, folder: Path) -> None:
    """Keep what the processes of a run said that broke a promise."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in home.rglob("*.log"):
        kept = folder / file.relative_to(home)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, kept)
    print(f"logs: {folder}", file=sys.stderr, flush=True)


def _asked(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(FULL_PARTS))
    parser.add_argument("--full", action="store_true", help="as much as a release shows")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="repeat a run")
    parser.add_argument(
        "--again",
        type=int,
        default=0,
        metavar="N",
        help="run a part up to N more times of which nothing broke but promises of how fast something is: "
        "for a machine that others use too",
    )
    asked = parser.parse_args(arguments)
    if unknown := set(asked.parts) - set(FULL_PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(FULL_PARTS)}")
    return asked


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
