"""Customers that were erased: how far that is, their ids, and digests of the identities that they had.

Whoever writes what touchpoints say asks `last_erasure` first. It holds erasures off until the transaction
ends, and its answer is as of after the wait for one: it is volatile, so each of its statements sees what has
been committed by then.
"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"

_STATEMENTS = (
    """
    CREATE TABLE erasures (
        id uuid PRIMARY KEY, erased_at timestamptz NOT NULL UNIQUE, waits_since timestamptz,
        carried_out_at timestamptz, touchpoints bigint NOT NULL, named_by uuid[] NOT NULL
    )
    """,
    "CREATE INDEX erasures_waits_since_idx ON erasures (waits_since, id) WHERE waits_since IS NOT NULL",
    "CREATE TABLE erased_aliases (id uuid PRIMARY KEY, erasure_id uuid NOT NULL)",
    """
    CREATE TABLE erased_identities (
        erasure_id uuid, digest bytea, begin_at timestamptz, begin_id uuid, end_at timestamptz NOT NULL,
        end_id uuid NOT NULL, shared bool NOT NULL, PRIMARY KEY (erasure_id, digest, begin_at, begin_id)
    )
    """,
    "CREATE INDEX erased_identities_digest_idx ON erased_identities (digest)",
    "ALTER TABLE customers ADD COLUMN erased_at timestamptz",
    "CREATE INDEX identity_conflicts_identity_idx ON identity_conflicts (identity)",
    """
    CREATE FUNCTION last_erasure() RETURNS timestamptz LANGUAGE plpgsql VOLATILE AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock_shared(hashtext('rejse.erasures'));
        RETURN (SELECT max(erased_at) FROM erasures);
    END
    $$
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
