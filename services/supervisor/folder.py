"""A data folder belongs to one `rejse run` at a time.

Two locks, which the system lets go of however a process ends. The supervisor's refuses a second one at
once. The services' is inherited by every one of them: when a supervisor was killed, the next one waits on it
until the last service of the old one is gone, and with it the ports and files that it holds.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from shared.clock import Clock
from shared.errors import ConfigError
from shared.lifecycle import Deadline

LEFTOVERS_TIMEOUT_S = 20.0
_POLL_S = 0.05


@contextlib.asynccontextmanager
async def claim(data_dir: Path, clock: Clock, timeout_s: float = LEFTOVERS_TIMEOUT_S) -> AsyncIterator[int]:
    """Own a data folder, made if need be; gives the descriptor that every service is to inherit.

    Raises:
        ConfigError: another `rejse run` owns it, a service of an earlier one does not end within
            `timeout_s` seconds, or the folder can't be used.
    """
    with contextlib.ExitStack() as locks:
        try:
            run_dir = data_dir / "run"
            run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            own = locks.enter_context((run_dir / "supervisor.lock").open("w"))
            services = locks.enter_context((run_dir / "services.lock").open("w"))
        except OSError as error:
            raise ConfigError(f"REJSE_DATA_DIR: {data_dir} can't be used: {error.strerror}") from None
        if not _lock(own):
            raise ConfigError(
                f"another `rejse run` uses {data_dir}; stop it, or set REJSE_DATA_DIR to another folder"
            )
        deadline = Deadline(timeout_s, clock)
        while not _lock(services):
            if not deadline.remaining_s():
                raise ConfigError(
                    f"services of an earlier `rejse run` on {data_dir} do not end; end them first"
                )
            await clock.sleep(_POLL_S)
        yield services.fileno()


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
