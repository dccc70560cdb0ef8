"""All moves between the places of a journey up to a time, from as few rows as there are.

They are kept as sums by month, day and hour. Up to a time that is: the months before its own, the days of its
month before its own, the hours of its day before its own, and the standing transitions of its hour, one by
one. So the answer is exact to the instant, and it costs the same whatever the history and its customers.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.api.views.active import ActiveJourney

MOVES = """
    SELECT f.from_stage, f.from_paused, f.to_stage, f.to_paused, f.count
    FROM (
        VALUES ('month', '-infinity', $3::timestamptz), ('day', $3, $4::timestamptz),
            ('hour', $4, $5::timestamptz)
    ) AS spans (span, begins_at, ends_at)
    CROSS JOIN LATERAL (
        SELECT from_stage, from_paused, to_stage, to_paused, sum(count) AS count FROM stage_flows
        WHERE journey_key = $1 AND version = $2 AND stage_flows.span = spans.span
            AND since >= spans.begins_at AND since < spans.ends_at
        GROUP BY from_stage, from_paused, to_stage, to_paused
    ) AS f
    UNION ALL
    SELECT coalesce(from_stage, ''), from_paused, to_stage, to_paused, 1 FROM stage_transitions
    WHERE journey_key = $1 AND version = $2 AND superseded_at IS NULL AND at >= $5 AND at <= $6
"""
"""A table of moves: from_stage (empty: the journey began), from_paused, to_stage, to_paused and count."""


def moves_until(active: ActiveJourney, at: datetime) -> tuple[Any, ...]:
    """The parameters of a query over MOVES, for all that happened until `at` (UTC), that instant included."""
    definition = active.definition
    hour = at.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    return definition.key, definition.version, day.replace(day=1), day, hour, at
