"""How many touchpoints came of each type that the catalogue doesn't have."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_UNKNOWN_TYPES = """
CREATE TABLE unknown_types (
    shard smallint,
    type text,
    count bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (shard, type)
)
"""


def upgrade() -> None:
    op.execute(_UNKNOWN_TYPES)
