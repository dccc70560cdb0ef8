"""What was answered so far: the progress file, and the file of refused rows, always in step.

Requests are answered in any order; the journal advances over those that follow one another from the start.
Refusals are written when it passes them, and the progress file tells how long the file of refusals was
then: what a crash leaves behind that is cut off, as its rows are sent again.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import msgspec

from services.importer.batches import Batch
from services.importer.rows import Place
from shared.clock import Clock
from shared.errors import ConfigError

SAVE_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must be the same for an import to go on: the file's head, the map and the address."""

    head_bytes: int
    head_sha256: str
    map_sha256: str
    url: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress file."""

    fingerprint: Fingerprint
    place: Place = field(default_factory=Place)
    refused: int = 0
    refused_bytes: int = 0
    finished: bool = False


def load(path: Path) -> Progress | None:
    """The progress that was saved, if any.

    Raises:
        ConfigError: the file is no progress file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        raise ConfigError(
            f"{path} is no progress file; remove it, or name another one with --state"
        ) from None


class Journal:
    """Advances over answered batches. Not for several tasks at the same moment."""

    def __init__(self, progress: Progress, state_file: Path, refused_file: Path, clock: Clock) -> None:
        """Go on from a progress; cuts the file of refusals to its length then.

        Raises:
            ConfigError: a file can't be written.
        """
        self.progress = progress
        self._state_file = state_file
        self._refused_file = refused_file
        self._clock = clock
        self._next = 0
        self._waiting: dict[int, Batch] = {}
        self._saved_s = clock.monotonic_s()
        try:
            self._cut_refused()
            self._save()
        except OSError as error:
            raise ConfigError(f"{error.filename}: {error.strerror}; see --state and --refused") from None

    def answered(self, batch: Batch) -> None:
        """Note that every row of a batch has its answer."""
        self._waiting[batch.number] = batch
        while (ready := self._waiting.pop(self._next, None)) is not None:
            self._pass(ready)
            self._next += 1
        if self._clock.monotonic_s() - self._saved_s >= SAVE_EVERY_S:
            self.save()

    def finish(self) -> None:
        """Note that the file's end was reached, and everything answered."""
        self.progress = replace(self.progress, finished=True)
        self.save()

    def save(self) -> None:
        """Write down how far it has come; the refusals first."""
        if self._refused_file.exists():
            with self._refused_file.open("rb") as file:
                os.fsync(file.fileno())
        self._save()

    def _pass(self, batch: Batch) -> None:
        self.progress = replace(
            self.progress,
            place=batch.end,
            refused=self.progress.refused + len(batch.refused),
            refused_bytes=self.progress.refused_bytes + self._write_refused(batch),
        )

    def _write_refused(self, batch: Batch) -> int:
        if not batch.refused:
            return 0
        in_order = sorted(batch.refused, key=lambda refused: refused.row)
        lines = b"".join(msgspec.json.encode(asdict(refused)) + b"\n" for refused in in_order)
        # Its rows are people's data: for the owner alone.
        descriptor = os.open(self._refused_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as file:
            file.write(lines)
        return len(lines)

    def _cut_refused(self) -> None:
        if not self.progress.refused_bytes:
            self._refused_file.unlink(missing_ok=True)
            return
        if self._refused_file.stat().st_size < self.progress.refused_bytes:
            raise ConfigError(f"{self._refused_file} was cut since; begin anew with --restart")
        os.truncate(self._refused_file, self.progress.refused_bytes)

    def _save(self) -> None:
        unfinished = self._state_file.with_name(f"{self._state_file.name}.new")
        with unfinished.open("wb") as file:
            file.write(msgspec.json.encode(self.progress) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(self._state_file)
        self._saved_s = self._clock.monotonic_s()
