"""The first shape of the store."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE customers (
    id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL
);

CREATE TABLE identities (
    identity text COLLATE "C" PRIMARY KEY,
    customer_id uuid NOT NULL,
    touchpoint_id uuid NOT NULL,
    linked_at timestamptz NOT NULL
);
CREATE INDEX identities_customer_id_idx ON identities (customer_id);

CREATE TABLE touchpoints (
    customer_id uuid,
    occurred_at timestamptz,
    id uuid,
    type text NOT NULL,
    channel text NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (customer_id, occurred_at, id)
);

CREATE TABLE touchpoint_ids (
    id uuid PRIMARY KEY,
    body_hash bigint NOT NULL
);

CREATE TABLE journey_definitions (
    key text,
    version integer,
    hash text NOT NULL,
    source text NOT NULL,
    recorded_at timestamptz NOT NULL,
    backfilled_at timestamptz,
    PRIMARY KEY (key, version)
);

-- Rows are rewritten at every touchpoint: the free space of a page keeps the new one beside the old.
CREATE TABLE journey_states (
    customer_id uuid,
    journey_key text,
    version integer,
    stage text,
    paused boolean NOT NULL,
    entered_at timestamptz,
    furthest_stage text,
    due_at timestamptz,
    revision integer NOT NULL,
    state bytea NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, journey_key, version)
) WITH (fillfactor = 70);
CREATE INDEX journey_states_due_at_idx ON journey_states (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE stage_transitions (
    customer_id uuid,
    journey_key text,
    version integer,
    seq integer,
    revision integer,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    from_stage text,
    from_paused boolean NOT NULL,
    to_stage text NOT NULL,
    to_paused boolean NOT NULL,
    touchpoint_id uuid,
    rule text NOT NULL,
    recorded_at timestamptz NOT NULL,
    superseded_at timestamptz,
    PRIMARY KEY (customer_id, journey_key, version, seq, revision)
);
-- The time comes first: led by the few journeys, the index would look useful for one customer's history.
CREATE INDEX stage_transitions_standing_idx ON stage_transitions (at, journey_key, version)
    WHERE superseded_at IS NULL;

CREATE TABLE stage_counts (
    journey_key text,
    version integer,
    stage text,
    paused boolean,
    shard smallint,
    count bigint NOT NULL,
    PRIMARY KEY (journey_key, version, stage, paused, shard)
) WITH (fillfactor = 50);

CREATE TABLE stage_flows (
    journey_key text,
    version integer,
    hour timestamptz,
    from_stage text,
    from_paused boolean,
    to_stage text,
    to_paused boolean,
    shard smallint,
    count bigint NOT NULL,
    PRIMARY KEY (journey_key, version, hour, from_stage, from_paused, to_stage, to_paused, shard)
) WITH (fillfactor = 70);

CREATE TABLE stager_offsets (
    log_id text,
    topic text,
    partition integer,
    next_offset bigint NOT NULL,
    tail_crc bigint,
    epoch bigint NOT NULL,
    owner text NOT NULL,
    PRIMARY KEY (log_id, topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE dead_letters (
    log_id text,
    topic text,
    partition integer,
    "offset" bigint,
    reason text NOT NULL,
    value bytea NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (log_id, topic, partition, "offset")
);

CREATE TABLE sources (
    name text PRIMARY KEY,
    created_at timestamptz NOT NULL
);

CREATE TABLE api_keys (
    digest bytea PRIMARY KEY,
    id text NOT NULL CONSTRAINT api_keys_id_key UNIQUE,
    scope text NOT NULL CHECK (scope IN ('write', 'read', 'admin')),
    source text NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
)
"""


def upgrade() -> None:
    for statement in _TABLES.split(";\n"):
        op.execute(statement)
