"""A fold of five stages in plain code: the work that the stager's baselines do for each event.

It needs the standard library alone, so that a baseline in an environment of its own can run it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeVar

_Time = TypeVar("_Time", datetime, str)

_STAGE_OF = {
    "page_viewed": 1,
    "product_viewed": 2,
    "checkout_begun": 3,
    "order_completed": 4,
    "review_written": 5,
}


def moved(before: tuple[int, _Time, int] | None, type_: str, at: _Time) -> tuple[int, _Time, int]:
    """Let an event move a customer's stage forward: the stage, when it was entered, and the events seen."""
    stage, entered_at, seen = before or (0, at, 0)
    reached = _STAGE_OF.get(type_, 0)
    if reached > stage:
        stage, entered_at = reached, at
    return stage, entered_at, seen + 1
