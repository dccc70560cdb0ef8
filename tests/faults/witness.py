"""What sits inside PostgreSQL and sees what no look from outside is quick enough for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import asyncpg

_DEADLOCK_TEXT = 2_000

TRIGGER = """
CREATE TABLE oracle_witness (partition int, what text);
CREATE FUNCTION oracle_witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF new.epoch < old.epoch OR (new.next_offset < old.next_offset AND
        NOT (new.next_offset = 0 AND new.tail_crc IS NULL AND new.epoch > old.epoch)) THEN
        INSERT INTO oracle_witness VALUES (new.partition, format('from %s in epoch %s to %s in epoch %s',
            old.next_offset, old.epoch, new.next_offset, new.epoch));
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER oracle_witness BEFORE UPDATE ON stager_offsets
    FOR EACH ROW EXECUTE FUNCTION oracle_witness();
"""
"""Notes an offset that falls, but for what the operator's handbook says, or an epoch that does."""


async def fallen(connection: asyncpg.Connection[asyncpg.Record]) -> Sequence[str]:
    """The offsets and epochs that fell."""
    rows = await connection.fetch("SELECT partition, what FROM oracle_witness")
    return [f"partition {row['partition']} {row['what']}" for row in rows]


def deadlocks(log_file: Path, but_with: str) -> Sequence[str]:
    """The deadlocks that PostgreSQL's log tells of, but for those in which a statement has this text."""
    told = log_file.read_text(errors="replace").split("deadlock detected")[1:]
    return [one[:_DEADLOCK_TEXT] for one in told if but_with not in one[:_DEADLOCK_TEXT]]
