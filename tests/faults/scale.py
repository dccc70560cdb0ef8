"""How much of everything a run does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """`full` runs what a release shows and takes an hour or more; otherwise it is what every change shows
    within ten minutes. The same seed chooses the same faults at the same places of the load."""

    full: bool
    seed: int
