"""Why a partition stands still, and who let it go on."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_RESUMPTIONS = """
CREATE TABLE partition_resumptions (
    log_id text,
    topic text,
    partition integer,
    epoch bigint,
    stood_at bigint NOT NULL,
    halted text NOT NULL,
    next_offset bigint NOT NULL,
    resumed_by text NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (log_id, topic, partition, epoch)
)
"""


def upgrade() -> None:
    op.execute("ALTER TABLE stager_offsets ADD COLUMN halted text")
    op.execute(_RESUMPTIONS)
