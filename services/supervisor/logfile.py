"""Log files of bounded size."""

from __future__ import annotations

from collections import deque
from pathlib import Path

BYTES_MAX = 10 << 20
OLDER_MAX = 3
_LAST_LINES = 5


class RotatingLog:
    """Takes what a process writes; `x.log` is the newest file, `x.log.1` the one before it, and so on.

    A disk that is full or gone loses log lines and nothing else: writing never raises.
    """

    def __init__(self, path: Path, bytes_max: int = BYTES_MAX, older_max: int = OLDER_MAX) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = path
        self._bytes_max = bytes_max
        self._older_max = older_max
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._last: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._part = b""

    @property
    def last_lines(self) -> list[str]:
        """The latest lines that were written."""
        return [line.decode("utf-8", "replace") for line in (*self._last, self._part) if line]

    def write(self, data: bytes) -> None:
        """Append; a file that is full makes room at the end of a line."""
        *lines, part = (self._part + data).split(b"\n")
        self._last.extend(lines)
        self._part = part[-4096:]
        try:
            self._file.write(data)
            self._size += len(data)
            if self._size >= self._bytes_max and data.endswith(b"\n"):
                self._rotate()
        except OSError:
            return

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _rotate(self) -> None:
        for age in range(self._older_max - 1, 0, -1):
            older = self._named(age)
            if older.exists():
                older.rename(self._named(age + 1))
        self.path.rename(self._named(1))
        self._file.close()
        self._file = self.path.open("ab", buffering=0)
        self._size = 0

    def _named(self, age: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{age}")
