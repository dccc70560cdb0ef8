"""What was committed and is still to be told; and states along a timeline, for a refold to begin at."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

# Its rows live for less than a second, and a reader begins at the oldest: the dead ones must go soon.
_OUTBOX = """
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bytea NOT NULL,
    value bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000)
"""

_CHECKPOINTS = """
CREATE TABLE checkpoints (
    customer_id uuid,
    journey_key text,
    version integer,
    at timestamptz,
    id uuid,
    state bytea NOT NULL,
    PRIMARY KEY (customer_id, journey_key, version, at, id)
)
"""


def upgrade() -> None:
    op.execute(_OUTBOX)
    op.execute(_CHECKPOINTS)
