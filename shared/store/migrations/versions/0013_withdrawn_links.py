"""Links that are withdrawn, and by which identity each customer that was merged away had begun."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"

_STATEMENTS = (
    """
    ALTER TABLE identity_links ADD COLUMN withdrawn_at timestamptz, ADD COLUMN unsettled_at timestamptz,
        ADD COLUMN parted uuid[]
    """,
    """
    CREATE INDEX identity_links_withheld_idx ON identity_links (identity, other)
    WHERE withdrawn_at IS NOT NULL OR unsettled_at IS NOT NULL
    """,
    """
    CREATE INDEX identity_links_unsettled_at_idx ON identity_links (unsettled_at, identity, other)
    WHERE unsettled_at IS NOT NULL
    """,
    "ALTER TABLE customer_aliases ADD COLUMN founded_by text, ADD COLUMN created_at timestamptz",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
