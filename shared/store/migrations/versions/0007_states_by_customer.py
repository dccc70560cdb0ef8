"""The states of a customer, an account or a thing in all journeys are one row."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

# A row is rewritten at every touchpoint: the free space of a page keeps the new one beside the old, and one
# that has many journeys isn't compressed and moved aside.
_STEPS = """
ALTER TABLE journey_states RENAME TO old_states;
ALTER INDEX journey_states_pkey RENAME TO old_states_pkey;
ALTER INDEX journey_states_due_at_idx RENAME TO old_states_due_at_idx;
CREATE TABLE journey_states (
    customer_id uuid,
    run text COLLATE "C",
    due_at timestamptz,
    states bytea NOT NULL,
    entered_at timestamptz,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, run)
) WITH (fillfactor = 60, toast_tuple_target = 8160);
INSERT INTO journey_states (customer_id, run, due_at, states, entered_at, updated_at)
SELECT customer_id, run, min(due_at),
    pg_temp.array_of(count(*)) || string_agg(pg_temp.kept(journey_key, version, revision, due_at, state),
        ''::bytea ORDER BY journey_key, version),
    CASE WHEN run <> '' THEN max(entered_at) END, max(updated_at)
FROM old_states GROUP BY customer_id, run;
CREATE INDEX journey_states_due_at_idx ON journey_states (due_at) WHERE due_at IS NOT NULL;
DROP TABLE old_states
"""

# MessagePack, as `shared.journey.state.Kept` is written.
_FUNCTIONS = """
CREATE FUNCTION pg_temp.number(value int) RETURNS bytea LANGUAGE sql AS $$
    SELECT CASE WHEN value < 128 THEN substring(int4send(value) FROM 4)
        WHEN value < 256 THEN '\\xcc'::bytea || substring(int4send(value) FROM 4)
        WHEN value < 65536 THEN '\\xcd'::bytea || substring(int4send(value) FROM 3)
        ELSE '\\xce'::bytea || int4send(value) END
$$;
CREATE FUNCTION pg_temp.array_of(size bigint) RETURNS bytea LANGUAGE sql AS $$
    SELECT '\\xdd'::bytea || int4send(size::int)
$$;
CREATE FUNCTION pg_temp.string(value text) RETURNS bytea LANGUAGE sql AS $$
    SELECT CASE WHEN octet_length(value) < 32 THEN substring(int4send(160 + octet_length(value)) FROM 4)
        ELSE '\\xd9'::bytea || substring(int4send(octet_length(value)) FROM 4) END
        || convert_to(value, 'UTF8')
$$;
CREATE FUNCTION pg_temp.instant(value timestamptz) RETURNS bytea LANGUAGE sql AS $$
    SELECT coalesce('\\xc70cff'::bytea
        || int4send((extract(microseconds FROM value)::bigint % 1000000 * 1000)::int)
        || int8send(floor(extract(epoch FROM value))::bigint), '\\xc0')
$$;
CREATE FUNCTION pg_temp.kept(key text, version int, revision int, due_at timestamptz, state bytea)
RETURNS bytea LANGUAGE sql AS $$
    SELECT '\\x95'::bytea || pg_temp.string(key) || pg_temp.number(version) || pg_temp.number(revision)
        || pg_temp.instant(due_at) || state
$$
"""


def upgrade() -> None:
    for statement in (*_FUNCTIONS.split(";\n"), *_STEPS.split(";\n")):
        op.execute(statement)
