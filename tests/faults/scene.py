"""What a fault is, and what it has to work with."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.faults.rig import Rig
from tests.support import plain_http
from tests.support.child import RigError
from tests.support.eventually import eventually

_PATIENCE_S = 300.0
"""How long a fault waits for what has to happen: other faults may be in the way of it, and in a release's
campaign the broker alone is away for a minute, again and again."""
ANY_STAGER = "a stager"


@dataclass(frozen=True, slots=True)
class Scene:
    """A rig under load, and the chance that decides. `stager` is the one to break, if one is to be."""

    rig: Rig
    chance: random.Random
    full: bool
    stager: str

    def lasts(self, seconds: float, full_s: float | None = None) -> None:
        """Let the fault go on for so long; a release's campaign may let it go on for longer."""
        self.rig.dead.wait(full_s if self.full and full_s is not None else seconds)

    def wait_for(self, what: Callable[[], object], timeout_s: float = _PATIENCE_S) -> Any:
        """Wait until something holds, or the campaign is over because something broke, and return it. An
        answer that doesn't come means not yet."""
        away = (httpx.HTTPError, OSError, RigError)
        return eventually(lambda: self.rig.diary.broken or what(), timeout_s, tolerate=away)

    def metric(self, part: str, name: str) -> float:
        """The sum of a service's samples of a metric."""
        text = plain_http.get(f"{self.rig.url(part)}/metrics", timeout=5).text
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return sum(float(value) for sample, _, value in samples if sample.partition("{")[0] == name)

    def checks(self, part: str) -> dict[str, Any]:
        """What a service says of its readiness."""
        answer = plain_http.get(f"{self.rig.url(part)}/readyz", timeout=5)
        found: dict[str, Any] = answer.json()["checks"]
        return found


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break something.

    `row` is its row in the catalogue of faults, `parts` are those of the rig that it breaks, and `run` breaks
    them, checks what has to hold meanwhile, and heals them. `lacks` names what this machine lacks for it.
    """

    name: str
    row: int
    parts: tuple[str, ...]
    run: Callable[[Scene], None]
    lacks: Callable[[Rig], str | None] = lambda _: None
