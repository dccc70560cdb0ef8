"""Pairs of identities that are linked already: whoever is logged in comes with the same two all the time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from services.stager.identity import Pair

PAIRS_MAX = 50_000
"""About 4 MiB. Beyond that all are forgotten; each then costs one insert that changes nothing."""


class KnownPairs:
    """Pairs that a committed batch has kept. They are told apart by a hash of 64 bits: of two that have the
    same, the second would be linked and lack its evidence."""

    def __init__(self, most: int = PAIRS_MAX) -> None:
        self._most = most
        self._hashes: set[int] = set()
        self._last_erasure: datetime | None = None

    def as_of(self, last_erasure: datetime | None) -> None:
        """Forget all if somebody was erased since: pairs that the store has no more are to be kept again."""
        if last_erasure != self._last_erasure:
            self._last_erasure = last_erasure
            self._hashes.clear()

    def new_of(self, pairs: Iterable[Pair]) -> Sequence[Pair]:
        """Those that are not known, in order, each by its first touchpoint."""
        first: dict[tuple[str, str], Pair] = {}
        for pair in pairs:
            names = (pair.identity, pair.other)
            if hash(names) not in self._hashes:
                first.setdefault(names, pair)
        return [first[names] for names in sorted(first)]

    def keep(self, pairs: Iterable[Pair], last_erasure: datetime | None) -> None:
        """Remember pairs whose batch has been committed, unless somebody was erased since."""
        if last_erasure != self._last_erasure:
            return
        self._hashes.update(hash((pair.identity, pair.other)) for pair in pairs)
        if len(self._hashes) > self._most:
            self._hashes.clear()
