"""The oracle's own book: what it meant to send, and what it was answered, on disk before it goes on.

One line an entry, its fields separated by blanks:

- `intent N`: request N is about to be sent for the first time;
- `answer N STATUS INDEXES`: an answer to request N; of a 2xx the refused events' indexes, or `-`;
- `probe N STATUS`: the same for a fresh event;
- `word WORD IDENTITY`: of all links of an identity it is about to be said that they are withdrawn (`unlink`)
  or taken back (`relink`);
- `said WORD IDENTITY PAIRS`: that is taken, of those that there are, as `identity|other`, or `-`;
- `erase NUMBER NAMES`: it is about to be asked that the traffic's customer of a number be erased, who has
  these identities by now, separated by commas;
- `erased NUMBER ID TIME`: that is taken, of the customer of an id, at a time;
- `return NAME MICROS STATUS`: an answer to an event after an erasure; `sent`: it is about to be sent;
- `broken TEXT`: a promise was seen broken while the load ran;
- `log TOPIC-NUMBER`: an operator has made the log anew.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from tests.support.people import Pair


class Ledger:
    """Appends entries; several processes may have one file open."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def enter(self, *fields: object) -> None:
        """Write an entry and wait until it is on disk."""
        os.write(self._file, (" ".join(map(str, fields)) + "\n").encode())
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)


@dataclass(slots=True)
class Asked:
    """That a customer be erased: the traffic's number, and the identities that they had by then; once it is
    acked the customer's id and the time of the erasure."""

    number: int
    names: frozenset[str]
    acked: tuple[UUID, datetime] | None = None


@dataclass(slots=True)
class Account:
    """What a ledger comes to. Only an answered 2xx makes an obligation; `taken` has the refused indexes of
    each 2xx."""

    intended: set[int] = field(default_factory=set)
    taken: dict[int, list[frozenset[int]]] = field(default_factory=dict)
    probed: set[int] = field(default_factory=set)
    probes_taken: set[int] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    withdrawn: dict[Pair, bool] = field(default_factory=dict)
    """By link, what was said of it last."""
    unsure: set[str] = field(default_factory=set)
    """Identities of whose links something may or may not have been said last."""
    erasures: list[Asked] = field(default_factory=list)
    returns: dict[tuple[str, int], bool] = field(default_factory=dict)
    """By name and time the events after erasures, and whether each was taken."""
    broken: list[str] = field(default_factory=list)
    logs: int = 1

    def enter(self, line: str) -> None:
        """Count one entry."""
        kind, _, rest = line.partition(" ")
        match kind, rest.split():
            case "intent", [number]:
                self.intended.add(int(number))
            case "answer", [number, status, refused]:
                self._answer(int(number), status, refused)
            case "probe", [number, status]:
                self.probed.add(int(number))
                if status.startswith("2"):
                    self.probes_taken.add(int(number))
            case "word", [_, identity]:
                self.unsure.add(identity)
            case "said", [word, identity, pairs]:
                self.unsure.discard(identity)
                self._say(pairs.split(",") if pairs != "-" else [], withdrawn=word == "unlink")
            case "erase", [number, names]:
                self.erasures.append(Asked(int(number), frozenset(names.split(","))))
            case "erased", [number, customer, at]:
                # Nobody asks for the next one before.
                assert self.erasures[-1].number == int(number)
                self.erasures[-1].acked = UUID(customer), datetime.fromisoformat(at)
            case "return", [name, micros, status]:
                event = (name, int(micros))
                self.returns[event] = status.startswith("2") or self.returns.get(event, False)
            case "broken", _:
                self.broken.append(rest)
            case "log", _:
                self.logs += 1
            case _:
                raise ValueError(f"no entry of a ledger: {line!r}")

    def _say(self, pairs: Iterable[str], *, withdrawn: bool) -> None:
        for pair in pairs:
            identity, _, other = pair.partition("|")
            self.withdrawn[identity, other] = withdrawn

    def _answer(self, number: int, status: str, refused: str) -> None:
        self.statuses[status] += 1
        if status.startswith("2"):
            indexes = frozenset(map(int, refused.split(","))) if refused != "-" else frozenset[int]()
            self.taken.setdefault(number, []).append(indexes)


def read(path: Path) -> Account:
    """The account of a whole ledger."""
    account = Account()
    for line in path.read_text().splitlines():
        account.enter(line)
    return account


class Tail:
    """Follows a ledger that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def entries(self) -> Iterator[str]:
        """The entries that are new since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        yield from whole.decode().splitlines()
