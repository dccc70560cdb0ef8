"""`python -m services.supervisor.tether FD MODULE`: runs a module as the main program, tied to its parent.

FD is the reading end of a pipe whose other end only the parent holds, and never writes to. However the
parent ends, SIGKILL included, the system closes that end; then the module is asked to stop, and if it has
not within a grace, is ended. Works on every POSIX system, without asking who the parent is.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

GRACE_S = 5.0


def main() -> None:
    """Tie, then run."""
    threading.Thread(target=_watch, args=(int(sys.argv[1]),), name="tether", daemon=True).start()
    module = sys.argv[2]
    del sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _watch(parent: int) -> None:
    os.read(parent, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    main()
