"""The members of an account, in the order in which they are listed."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("CREATE INDEX account_members_account_id_idx ON account_members (account_id, customer_id)")
