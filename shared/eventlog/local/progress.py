"""How far the reader of a local log has come, in a file beside it, for the writer that makes room.

It says nothing that anybody's correctness hangs on: lost, torn or of another log it counts as not there, and
then nothing is trimmed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

FILE_NAME = "progress.json"


class Progress(msgspec.Struct, frozen=True):
    """Up to which offset each partition of a log was done with, durably."""

    log_id: str
    next_offsets: dict[int, int]


_READ = msgspec.json.Decoder(Progress)


def write_progress(folder: Path, log_id: str, next_offsets: Mapping[int, int]) -> None:
    """Replace what was noted before. A disk that fails or is full loses this and no more."""
    new = folder / f"{FILE_NAME}.{os.getpid()}.new"
    with contextlib.suppress(OSError):
        new.write_bytes(msgspec.json.encode(Progress(log_id, dict(next_offsets))))
        new.replace(folder / FILE_NAME)


def read_progress(folder: Path, log_id: str) -> Mapping[int, int]:
    """What was noted last; empty if nothing was that is of this log."""
    try:
        progress = _READ.decode((folder / FILE_NAME).read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return progress.next_offsets if progress.log_id == log_id else {}
