"""The commands about journeys, on a real PostgreSQL: what they find, and what they show meanwhile."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest
from rich.console import Console

from services.supervisor.journeys import activate, deactivate, find, find_active, known
from services.supervisor.progress import LINE_EVERY_S, STILL_AFTER_S, Takeover
from shared.errors import ConfigError
from shared.store.definitions import Version
from shared.store.pages import BEFORE_ALL
from tests.support.clock import ManualClock
from tests.support.journeys import EPOCH, EVERYTHING


@pytest.fixture
def environ(database_url: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "everything.yaml").write_text(EVERYTHING)
    (tmp_path / "second.yaml").write_text(EVERYTHING.replace("version: 1", "version: 2"))
    return {"REJSE_DATABASE_URL": database_url}


def nothing(_: Version) -> None:
    return None


def states(environ: dict[str, str]) -> dict[str, str]:
    return {f"{one.key}@{one.version}": one.state for one in known(environ) if one.key == "everything"}


async def test_a_version_is_found_by_file_key_and_number(environ: dict[str, str], tmp_path: Path) -> None:
    """Also one that only the store has; of a key without a version it is the active one."""
    files = [str(tmp_path / "everything.yaml"), str(tmp_path / "second.yaml")]
    for file in files:
        await asyncio.to_thread(activate, environ, file, nothing, detach=False)
    found = [await asyncio.to_thread(find, environ, f"everything{end}") for end in ("", "@1", "@2")]
    active = await asyncio.to_thread(find_active, environ, "everything")
    listed = await asyncio.to_thread(states, environ)
    await asyncio.to_thread(deactivate, environ, "everything")
    after = await asyncio.to_thread(states, environ)

    assert [one.version for one in found] == [2, 1, 2]
    assert (active.version, listed["everything@2"]) == (2, "yes")
    assert listed["everything@1"].startswith("until ")
    assert after["everything@2"].startswith("until ")
    for name, reason in (
        ("everything@9", "no journey 'everything' in version 9"),
        ("nothing", "no journey 'nothing'"),
        ("nothing.yaml", "can't be read"),
    ):
        with pytest.raises(ConfigError, match=reason):
            await asyncio.to_thread(find, environ, name)
    with pytest.raises(ConfigError, match="no version of everything is active"):
        await asyncio.to_thread(find_active, environ, "everything")
    with pytest.raises(ConfigError, match="no active journey"):
        await asyncio.to_thread(deactivate, environ, "everything")


def test_without_a_terminal_progress_is_a_line_now_and_then() -> None:
    """And a hint when nothing moves: perhaps nobody is there to do it."""
    out, clock = io.StringIO(), ManualClock(EPOCH)
    version = Version("everything", 1, "", "", "[]", EPOCH, None, None, None, BEFORE_ALL, 10, 40)
    with Takeover(Console(file=out, width=100), clock) as progress:
        for _ in range(3):
            progress.show_version(version)
            clock.advance(max(LINE_EVERY_S, STILL_AFTER_S / 2) + 0.1)
        progress.show_version(version)

    lines = out.getvalue().splitlines()
    assert "10 of about 40 customers" in lines
    assert "Nothing moves: is a stager at work?" in lines
    assert len(lines) < 6
