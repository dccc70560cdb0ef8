"""Since when a retired version of a journey has no states any more; and what is told to all consumers."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0012"


def upgrade() -> None:
    op.execute("ALTER TABLE journey_definitions ADD COLUMN cleared_at timestamptz")
    op.execute("ALTER TABLE outbox ADD COLUMN to_all boolean NOT NULL DEFAULT false")
