"""`make bench`, or `make bench PART=ingest`: measure and print the table."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.bench.table import Breakdown, Section, rendered
from tests.support.home import new_home

PARTS = ("ingest", "stager", "journeys", "freshness", "api", "counts", "start")
ON_DEMAND = ("profile", "merging", "takeover", "late", "each")


def main(wanted: Sequence[str]) -> int:
    """Run the parts asked for, or all but those on demand.

    The exit code: 0 measured, 1 a part failed, 2 there is no such part.
    """
    known = (*PARTS, *ON_DEMAND)
    unknown = set(wanted) - set(known)
    if unknown:
        print(
            f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(known)}",
            file=sys.stderr,
        )
        return 2
    sections: list[Section | Breakdown] = []
    failed = False
    for name in wanted or PARTS:
        began_s = time.monotonic()
        try:
            with new_home() as home:
                sections += importlib.import_module(f"tests.bench.{name}").measure(home)
        except Exception:
            # What the others have measured is not lost.
            traceback.print_exc()
            failed = True
        print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    print(_machine(), "", rendered(sections), sep="\n")
    return 1 if failed else 0


def _machine() -> str:
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text().splitlines() if cpus.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    load_1, load_5, _ = os.getloadavg()
    return (
        f"{os.cpu_count()} cores ({model or platform.machine()}), {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}. "
        f"Load average at the end: {load_1:.1f} (1 min), {load_5:.1f} (5 min). "
        "Median of three interleaved runs where nothing else is said; *spread* is their range."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
