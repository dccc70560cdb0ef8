"""Flows are summed up by hours, days and months, so that a past time is read from few rows."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_STEPS = """
ALTER TABLE stage_flows RENAME COLUMN hour TO since;
ALTER TABLE stage_flows ADD COLUMN span text NOT NULL DEFAULT 'hour';
ALTER TABLE stage_flows ALTER COLUMN span DROP DEFAULT;
ALTER TABLE stage_flows DROP CONSTRAINT stage_flows_pkey;
INSERT INTO stage_flows (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused,
    shard, count)
SELECT journey_key, version, larger.span, date_trunc(larger.span, since, 'UTC'), from_stage, from_paused,
    to_stage, to_paused, shard, sum(count)
FROM stage_flows CROSS JOIN (VALUES ('day'), ('month')) AS larger (span)
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;
ALTER TABLE stage_flows ADD PRIMARY KEY
    (journey_key, version, span, since, from_stage, from_paused, to_stage, to_paused, shard)
"""


def upgrade() -> None:
    for statement in _STEPS.split(";\n"):
        op.execute(statement)
