"""Ends what the tests started once the test process is gone, whatever ended it.

A signal upon the parent's death (prctl) hangs on the *thread* that started the child, and tests start servers
from worker threads; exit handlers don't run on SIGKILL. So a process of its own reads a pipe whose other end
only the test process holds. When that pipe closes, it kills every process that carries the test process's
mark in its environment. Children inherit the mark, so a server that has left its process group is found too.
"""

import atexit
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

import psutil

MARK = "RIG_MARK"
"""The environment variable by which the rig knows its own processes, and theirs."""


def session_mark() -> str:
    """Return the mark of this test process; from now on its end ends all that carries it."""
    return _lifeline()[0]


def remove_at_the_end(folder: Path) -> None:
    """Have `folder` removed when the test process is gone."""
    _, pipe = _lifeline()
    pipe.write(f"{folder}\n")
    pipe.flush()


def marked(mark: str) -> Iterator[psutil.Process]:
    """Yield the living processes that carry `mark` or a mark that continues it after a slash."""
    for process in psutil.process_iter():
        try:
            found = process.environ().get(MARK, "")
        except psutil.Error:
            continue  # it ended meanwhile, or is another user's, and so not ours
        if f"{found}/".startswith(f"{mark}/"):
            yield process


@cache
def _lifeline() -> tuple[str, IO[str]]:
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    # A session of its own, so that Ctrl-C in the terminal doesn't end it before the test process.
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, mark], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    atexit.register(process.communicate)
    return mark, process.stdin


def _outlive(mark: str) -> None:
    """Read folders to remove until the pipe closes, then end and remove what is left."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    folders = [line.removesuffix("\n") for line in sys.stdin]
    left = list(marked(mark))
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _outlive(sys.argv[1])
