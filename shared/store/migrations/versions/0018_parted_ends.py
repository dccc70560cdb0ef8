"""Whose identities were when their link was withdrawn, a row each, so that they follow whoever parts later.
What was kept on the link before is taken over as it stands.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"

_STATEMENTS = (
    """
    CREATE TABLE parted_ends (
        identity text, other text, place integer, name text, customer_id uuid NOT NULL,
        PRIMARY KEY (identity, other, place, name),
        FOREIGN KEY (identity, other) REFERENCES identity_links ON DELETE CASCADE
    )
    """,
    "CREATE INDEX parted_ends_customer_id_idx ON parted_ends (customer_id)",
    """
    INSERT INTO parted_ends
    SELECT l.identity, l.other, (p.number - 1) / 2,
        CASE p.number % 2 WHEN 1 THEN l.identity ELSE l.other END, p.id
    FROM identity_links AS l CROSS JOIN LATERAL unnest(l.parted) WITH ORDINALITY AS p (id, number)
    """,
    "ALTER TABLE identity_links DROP COLUMN parted",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
