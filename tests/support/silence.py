"""No failure is silent: an ERROR in the log that a test didn't announce fails that test.

Unhandled exceptions of an event loop are seen too: asyncio's own handler, and uvloop's, log them as errors
of the logger `asyncio`. Records are seen where they are made: handlers come and go with the code tested.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class ErrorWatch:
    """Collects the ERROR records made between `begin` and `end`, as `logger: message`."""

    seen: list[str] = field(default_factory=list)
    _make: Callable[..., logging.LogRecord] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        self._make = logging.getLogRecordFactory()
        logging.setLogRecordFactory(self._watching)

    def end(self) -> None:
        """Watch no longer."""
        if self._make is not None:
            logging.setLogRecordFactory(self._make)
            self._make = None

    def verdict(self, expected: Sequence[str], allowed: Sequence[str]) -> str:
        """Say what was wrong, or nothing.

        Args:
            expected: patterns of errors that had to appear, and may appear often.
            allowed: patterns of errors that might appear.
        """
        surprises = [line for line in self.seen if not _matches_any(line, [*expected, *allowed])]
        missing = [pattern for pattern in expected if not _found(pattern, self.seen)]
        return "\n".join(
            [f"logged as an error: {line}" for line in surprises]
            + [f"expected in the log as an error: {pattern}" for pattern in missing]
        )

    def _watching(self, *args: object, **kwargs: object) -> logging.LogRecord:
        assert self._make is not None
        record = self._make(*args, **kwargs)
        if record.levelno >= logging.ERROR:
            self.seen.append(_told(record))
        return record


def _told(record: logging.LogRecord) -> str:
    reason = f" ({record.exc_info[1]!r})" if record.exc_info and record.exc_info[1] else ""
    return f"{record.name}: {record.getMessage()}{reason}"


def _matches_any(line: str, patterns: Sequence[str]) -> bool:
    return any(re.search(pattern, line) for pattern in patterns)


def _found(pattern: str, lines: Sequence[str]) -> bool:
    return any(re.search(pattern, line) for line in lines)
