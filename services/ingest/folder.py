"""Ingest's folder, which one process at a time may use."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ConfigError


@contextlib.contextmanager
def held_folder(folder: Path) -> Iterator[Path]:
    """A folder that is made when missing and held by a lock that ends with the process.

    Raises:
        ConfigError: the folder can't be made, or another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f"REJSE_DATA_DIR: {folder} can't be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    except BlockingIOError:
        raise ConfigError(f"REJSE_DATA_DIR: another ingest uses {folder}") from None
    finally:
        os.close(lock)
