"""Touchpoints that name no account and are about those that their customers act for; members who leave.

What is there names its accounts. Those who are members already are marked: the stager tells their timelines
anew, which needs a fold.
"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"

_STATEMENTS = (
    "ALTER TABLE account_touchpoints ADD COLUMN leaves bool DEFAULT false",
    """
    CREATE INDEX account_touchpoints_customer_id_idx
        ON account_touchpoints (customer_id, leaves, occurred_at, id)
    """,
    "ALTER TABLE account_members ADD COLUMN since timestamptz, ADD COLUMN until timestamptz",
    """
    UPDATE account_members AS m SET since = f.occurred_at, touchpoint_id = f.id FROM (
        SELECT DISTINCT ON (customer_id, account_id) customer_id, account_id, occurred_at, id
        FROM account_touchpoints ORDER BY customer_id, account_id, occurred_at, id
    ) AS f WHERE f.customer_id = m.customer_id AND f.account_id = m.account_id
    """,
    "ALTER TABLE customers ADD COLUMN is_member bool DEFAULT false",
    "UPDATE customers SET is_member = NULL WHERE id IN (SELECT customer_id FROM account_members)",
    "CREATE INDEX customers_outdated_idx ON customers (id) WHERE is_member IS NULL",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
