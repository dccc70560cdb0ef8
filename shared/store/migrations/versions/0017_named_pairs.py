"""Pairs of identities that a touchpoint named together and that were not linked: they tell whose touchpoints
name somebody who is to be erased.

Of what was refused before it is only known to which customer: it may have been by any identity of theirs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.tombstones import digest_of

revision = "0017"
down_revision = "0016"

_STATEMENTS = (
    "CREATE TABLE named_pairs (identity text, digest bytea, PRIMARY KEY (identity, digest))",
    "CREATE INDEX named_pairs_digest_idx ON named_pairs (digest)",
)
_REFUSED = """
SELECT i.identity, c.identity AS other FROM identity_conflicts AS c JOIN (
    SELECT identity, customer_id FROM identities UNION SELECT identity, customer_id FROM identity_holders
) AS i USING (customer_id) GROUP BY 1, 2
"""
_KEEP = "INSERT INTO named_pairs (identity, digest) VALUES (:identity, :digest)"


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
    connection = op.get_bind()
    pairs = connection.execute(sa.text(_REFUSED)).all()
    if pairs:
        rows = [{"identity": one, "digest": digest_of(other)} for one, other in pairs]
        connection.execute(sa.text(_KEEP), rows)
