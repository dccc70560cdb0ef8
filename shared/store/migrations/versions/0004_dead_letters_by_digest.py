"""A dead letter is told by its bytes too: a log that is made anew has its places anew."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

_STEPS = """
ALTER TABLE dead_letters ADD COLUMN digest bytea;
UPDATE dead_letters SET digest = sha256(value);
ALTER TABLE dead_letters DROP CONSTRAINT dead_letters_pkey;
ALTER TABLE dead_letters ADD PRIMARY KEY (log_id, topic, partition, "offset", digest)
"""


def upgrade() -> None:
    for statement in _STEPS.split(";\n"):
        op.execute(statement)
