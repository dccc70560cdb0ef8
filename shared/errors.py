"""Every error that Rejse raises on purpose, in one tree.

    RejseError
    ├── ConfigError        the installation is set up wrongly; the process ends with exit code 2
    ├── Transient          the same call may succeed later: retry, answer 503
    │   └── Contended      another writer got there first: run the whole transaction again
    ├── Permanent          the same input will never succeed: dead letter, answer 4xx
    ├── FencedOut          another owner has claimed the partition: drop it, write nothing
    └── LogReplaced        the event log is not the one whose offsets are stored: halt, call a person

What a driver raises is translated into this tree at the adapter's edge, by one table an adapter.
Whatever is not in the tree is a bug and ends the process.
"""

from __future__ import annotations


class RejseError(Exception):
    """The root. Its text is safe to show and to log: it never carries a secret or a person's data."""


class ConfigError(RejseError):
    """Settings, files or keys of this installation are wrong; says all that is wrong at once."""


class Transient(RejseError):
    """A part was away, slow or busy. The outcome of a write may be unknown."""


class Contended(Transient):
    """A concurrent transaction wrote the same identity first; nothing was kept, run it again at once."""


class Permanent(RejseError):
    """This input can never be processed."""


class FencedOut(RejseError):
    """The epoch or the offset of a partition has moved: somebody else owns it now."""


class LogReplaced(RejseError):
    """The log ends before the stored offset, or holds another record where the last one was.

    `partition` is the one it was noticed at, where that is known.
    """

    def __init__(self, text: str, partition: int | None = None) -> None:
        super().__init__(text)
        self.partition = partition


def set_up_wrongly(error: BaseException) -> str | None:
    """What a person has to set right, a line each, if that is all that an error says: by itself, or out of a
    task group; else None."""
    if isinstance(error, ConfigError):
        return str(error)
    if not isinstance(error, BaseExceptionGroup):
        return None
    texts = [set_up_wrongly(one) for one in error.exceptions]
    return None if None in texts else "\n".join(text for text in texts if text)
