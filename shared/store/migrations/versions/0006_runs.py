"""A customer may have several runs of a journey, and accounts have runs of their own."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

# What is there is about the customer: it has no name. A touchpoint's bytes say which accounts it is about.
_STEPS = """
ALTER TABLE journey_states ADD COLUMN run text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE journey_states ALTER COLUMN run DROP DEFAULT;
ALTER TABLE journey_states DROP CONSTRAINT journey_states_pkey;
ALTER TABLE journey_states ADD PRIMARY KEY (customer_id, journey_key, version, run);
ALTER TABLE stage_transitions ADD COLUMN run text COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE stage_transitions ALTER COLUMN run DROP DEFAULT;
ALTER TABLE stage_transitions DROP CONSTRAINT stage_transitions_pkey;
ALTER TABLE stage_transitions ADD PRIMARY KEY (customer_id, journey_key, version, run, seq, revision);
CREATE TABLE accounts (
    id uuid PRIMARY KEY,
    identity text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE account_members (
    customer_id uuid,
    account_id uuid,
    touchpoint_id uuid NOT NULL,
    linked_at timestamptz NOT NULL,
    PRIMARY KEY (customer_id, account_id)
);
CREATE TABLE account_touchpoints (
    account_id uuid,
    occurred_at timestamptz,
    id uuid,
    customer_id uuid NOT NULL,
    PRIMARY KEY (account_id, occurred_at, id)
);
INSERT INTO account_touchpoints (account_id, occurred_at, id, customer_id)
SELECT encode(substring(sha256(convert_to(identity, 'UTF8')) FOR 16), 'hex')::uuid,
    occurred_at, id, customer_id
FROM touchpoints CROSS JOIN LATERAL
    json_array_elements_text(convert_from(body, 'UTF8')::json -> 'identities') AS identity
WHERE position('"account_id:'::bytea IN body) > 0 AND identity LIKE 'account\\_id:%';
INSERT INTO account_members (customer_id, account_id, touchpoint_id, linked_at)
SELECT DISTINCT ON (customer_id, account_id) customer_id, account_id, id, now() FROM account_touchpoints
ORDER BY customer_id, account_id, occurred_at, id;
INSERT INTO accounts (id, identity, created_at)
SELECT DISTINCT ON (identity)
    encode(substring(sha256(convert_to(identity, 'UTF8')) FOR 16), 'hex')::uuid, identity, now()
FROM account_touchpoints AS a
JOIN touchpoints AS t ON (t.customer_id, t.occurred_at, t.id) = (a.customer_id, a.occurred_at, a.id)
CROSS JOIN LATERAL json_array_elements_text(convert_from(t.body, 'UTF8')::json -> 'identities') AS identity
WHERE identity LIKE 'account\\_id:%'
"""


def upgrade() -> None:
    for statement in _STEPS.split(";\n"):
        op.execute(statement)
