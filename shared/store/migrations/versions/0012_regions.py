"""Whose phone numbers a source writes without a country code."""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("ALTER TABLE sources ADD COLUMN region text")
