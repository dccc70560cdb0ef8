"""Customers that merge, identities that are handed over, and links that are refused."""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

_STATEMENTS = (
    "ALTER TABLE customers ADD COLUMN relinked bigint",
    """
    CREATE TABLE customer_aliases (
        alias_id uuid PRIMARY KEY, customer_id uuid NOT NULL, touchpoint_id uuid NOT NULL,
        merged_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX customer_aliases_customer_id_idx ON customer_aliases (customer_id)",
    "ALTER TABLE identities ADD COLUMN since timestamptz, ADD COLUMN handed_over bool NOT NULL DEFAULT false",
    """
    CREATE TABLE identity_links (
        identity text, other text, touchpoint_id uuid NOT NULL, occurred_at timestamptz NOT NULL,
        linked_at timestamptz NOT NULL, PRIMARY KEY (identity, other)
    )
    """,
    "CREATE INDEX identity_links_other_idx ON identity_links (other)",
    """
    CREATE TABLE identity_holders (
        identity text, since timestamptz, touchpoint_id uuid, customer_id uuid NOT NULL,
        PRIMARY KEY (identity, since, touchpoint_id)
    )
    """,
    "CREATE INDEX identity_holders_customer_id_idx ON identity_holders (customer_id)",
    """
    CREATE TABLE identity_conflicts (
        customer_id uuid, identity text, kind text, other_id uuid, touchpoint_id uuid NOT NULL,
        count bigint NOT NULL, first_at timestamptz NOT NULL, last_at timestamptz NOT NULL,
        PRIMARY KEY (customer_id, identity, kind)
    )
    """,
    """
    CREATE INDEX identity_conflicts_first_at_idx ON identity_conflicts (first_at, customer_id, identity, kind)
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
