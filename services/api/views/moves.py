"""All moves between the places of a journey up to a time, from as few rows as there are.

They are kept as sums by month, day and hour. Up to a time that is: the months before its own, the days of its
month before its own, the hours of its day before its own, and the standing transitions of its hour, one by
one. So the answer is exact to the instant, and it costs the same whatever the history and its customers.

The sums are of what is known now. As known at a past time, what was recorded since is taken away from them,
and what was superseded since is given back. Of what happened up to then, all that was recorded since came
late: by less than an hour, then it happened in the last hour before; or by more, then an index has it. What
lies ahead of the known time was recorded ahead of its own, again by less or by more than an hour.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.api.views.active import ActiveJourney

_OF_NOW = """
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

_ONE_BY_ONE = """
    UNION ALL
    SELECT coalesce(from_stage, ''), from_paused, to_stage, to_paused, {count} FROM stage_transitions
    WHERE journey_key = $1 AND version = $2 AND {which}
"""
# $6 is the earlier one of $7, when it was true, and $8, when it was known. The indexes have these conditions.
_LATE = "recorded_at - at > interval '1 hour'"
_EARLY = "at - recorded_at > interval '1 hour'"
_SINCE = (
    (-1, f"superseded_at IS NULL AND recorded_at > $8 AND at <= $6 AND {_LATE}"),
    (
        -1,
        "superseded_at IS NULL AND recorded_at > $8 AND at <= $6 "
        f"AND at > $8::timestamptz - interval '1 hour' AND NOT {_LATE}",
    ),
    (1, "superseded_at > $8 AND recorded_at <= $8 AND at <= $7"),
    (1, f"superseded_at IS NULL AND recorded_at <= $8 AND at > $6 AND at <= $7 AND {_EARLY}"),
    (
        1,
        "superseded_at IS NULL AND recorded_at <= $8 AND at > $6 AND at <= $7 "
        f"AND at <= $8::timestamptz + interval '1 hour' AND NOT {_EARLY}",
    ),
)
_AS_KNOWN = _OF_NOW + "".join(_ONE_BY_ONE.format(count=count, which=which) for count, which in _SINCE)


def moves_until(
    active: ActiveJourney, at: datetime, known_at: datetime | None = None
) -> tuple[str, tuple[Any, ...]]:
    """A table of all moves until `at`, that instant included, as SQL with its parameters: from_stage (empty:
    the journey began), from_paused, to_stage, to_paused and count. They are those that are known now, or that
    were known at `known_at`, that instant included. Both are UTC."""
    definition = active.definition
    until = at if known_at is None else min(at, known_at)
    hour = until.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    parameters = definition.key, definition.version, day.replace(day=1), day, hour, until
    return (_OF_NOW, parameters) if known_at is None else (_AS_KNOWN, (*parameters, at, known_at))
