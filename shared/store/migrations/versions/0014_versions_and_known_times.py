"""Since when a retired version of a journey has no states any more; what is told to all consumers; and what
counts of now have to be corrected by to be those of a past known time."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"

_INDEXES = (
    """
    CREATE INDEX stage_transitions_late_idx ON stage_transitions (journey_key, version, recorded_at, at)
    WHERE superseded_at IS NULL AND recorded_at - at > interval '1 hour'
    """,
    """
    CREATE INDEX stage_transitions_early_idx ON stage_transitions (journey_key, version, at)
    WHERE superseded_at IS NULL AND at - recorded_at > interval '1 hour'
    """,
    """
    CREATE INDEX stage_transitions_superseded_idx ON stage_transitions (journey_key, version, superseded_at)
    WHERE superseded_at IS NOT NULL
    """,
)


def upgrade() -> None:
    op.execute("ALTER TABLE journey_definitions ADD COLUMN cleared_at timestamptz")
    op.execute("ALTER TABLE outbox ADD COLUMN to_all boolean NOT NULL DEFAULT false")
    for statement in _INDEXES:
        op.execute(statement)
