"""What a campaign has done, and what was seen happen because of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Diary:
    """What was done, in order, and how often; and what was seen happen because of it."""

    done: list[str] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    longest_s: dict[str, float] = field(default_factory=dict)

    def saw(self, what: str) -> None:
        """Note that something happened that has to happen sometimes."""
        self.seen[what] += 1

    def took(self, what: str, seconds: float) -> None:
        """Note how long something took, if it never took longer."""
        self.longest_s[what] = max(seconds, self.longest_s.get(what, 0.0))
