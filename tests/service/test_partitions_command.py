"""`rejse partitions`, as an operator types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import asyncpg

from tests.support.child import inherited_env

_ROOT = Path(__file__).parents[2]


def rejse(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    env = inherited_env(REJSE_DATABASE_URL=database_url, COLUMNS="200")
    command = [sys.executable, "-m", "services.cli", "partitions", *arguments]
    return subprocess.run(
        command, env=env, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_halted_partition_is_shown_and_resumed_once(database_url: str) -> None:
    """The list says why it is halted; resumed, it has a higher epoch and stands where it was told; and a
    second try, or one that doesn't say where or in which log, changes nothing."""
    connection = await asyncpg.connect(database_url)
    await connection.executemany(
        "INSERT INTO stager_offsets VALUES ($1, 'touchpoints', $2, 70, 11, 4, 'host:1', $3)",
        [("log-a", 3, "it is cut"), ("log-a", 4, None), ("log-a", 5, "cut"), ("log-b", 5, "cut")],
    )

    shown = rejse(database_url, "list").stdout
    assert "halted: it is cut" in shown
    assert "staged" in shown
    assert rejse(database_url, "resume", "3").returncode == 2
    assert rejse(database_url, "resume", "3", "--from-beginning", "--at", "5").returncode == 2
    assert rejse(database_url, "resume", "4", "--from-beginning").returncode == 2
    assert "log-a, log-b" in rejse(database_url, "resume", "5", "--at", "1").stderr
    assert rejse(database_url, "resume", "5", "--at", "1", "--log", "log-b").returncode == 0
    resumed = rejse(database_url, "resume", "3", "--from-beginning")
    assert "stood at 70 (it is cut) and goes on at the log's beginning" in resumed.stdout
    assert "not halted" in rejse(database_url, "resume", "3", "--at", "5").stderr

    offsets = await connection.fetch(
        "SELECT log_id, partition, next_offset, tail_crc, epoch FROM stager_offsets ORDER BY 2, 1"
    )
    assert [tuple(row) for row in offsets] == [
        ("log-a", 3, -1, None, 5),
        ("log-a", 4, 70, 11, 4),
        ("log-a", 5, 70, 11, 4),
        ("log-b", 5, 1, None, 5),
    ]
    kept = await connection.fetch(
        "SELECT partition, epoch, stood_at, halted, next_offset FROM partition_resumptions ORDER BY 1"
    )
    assert [tuple(row) for row in kept] == [(3, 5, 70, "it is cut", -1), (5, 5, 70, "cut", 1)]
    await connection.close()
