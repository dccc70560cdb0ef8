"""`python -m tests.faults.oracle load|judge FILE`: the oracle's processes.

`load` sends requests until SIGTERM and books them; `judge` looks at everything that was kept and prints its
verdict as JSON. FILE holds the `Places` as JSON.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import msgspec

from tests.faults.judge import judge
from tests.faults.load import Load
from tests.faults.places import Places


def main(arguments: list[str]) -> int:
    """Do one of the two."""
    role, file = arguments
    places = msgspec.json.decode(Path(file).read_bytes(), type=Places)
    if role == "judge":
        sys.stdout.write(msgspec.json.encode(asyncio.run(judge(places))).decode())
        return 0
    asyncio.run(_load(places))
    return 0


async def _load(places: Places) -> None:
    load = Load(places)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stop.set)
    await load.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
