"""Which version of a journey is active, and how far the one is that takes over from it."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"

# Until now the highest version was the one that was read, and the one that was backfilled.
_STATEMENTS = (
    """
    ALTER TABLE journey_definitions ADD COLUMN links text NOT NULL DEFAULT '[]',
        ADD COLUMN wanted_at timestamptz, ADD COLUMN activated_at timestamptz,
        ADD COLUMN retired_at timestamptz, ADD COLUMN reached uuid,
        ADD COLUMN customers_done bigint, ADD COLUMN customers_total bigint
    """,
    "ALTER TABLE journey_definitions ALTER COLUMN links DROP DEFAULT",
    """
    UPDATE journey_definitions AS d SET activated_at = CASE WHEN newest THEN backfilled_at END,
        wanted_at = CASE WHEN newest AND backfilled_at IS NULL THEN recorded_at END,
        retired_at = CASE WHEN NOT newest THEN now() END
    FROM (
        SELECT key, version, version = max(version) OVER (PARTITION BY key) AS newest FROM journey_definitions
    ) AS n
    WHERE n.key = d.key AND n.version = d.version
    """,
    "ALTER TABLE journey_definitions DROP COLUMN backfilled_at",
    "CREATE UNIQUE INDEX journey_definitions_active_idx ON journey_definitions (key) "
    "WHERE activated_at IS NOT NULL",
    "CREATE UNIQUE INDEX journey_definitions_wanted_idx ON journey_definitions (key) "
    "WHERE wanted_at IS NOT NULL",
    "CREATE TABLE journeys_in_force (one boolean PRIMARY KEY CHECK (one), revision bigint NOT NULL)",
    "INSERT INTO journeys_in_force (one, revision) VALUES (true, 1)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
