"""`rejse keys` and `rejse sources` on a real store."""

from __future__ import annotations

import subprocess
import sys

import asyncpg
import pytest

from shared.keys import Keyring, key_id
from tests.support.child import inherited_env
from tests.support.keys import stored_keys
from tests.support.postgres import Postgres


def rejse(database_url: str, *arguments: str, group: str = "keys") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", group, *arguments],
        env=inherited_env(REJSE_DATABASE_URL=database_url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def keyring(database_url: str) -> Keyring:
    return Keyring({record.digest: record for record in await stored_keys(database_url)})


async def test_a_key_is_shown_once_valid_at_once_and_invalid_when_revoked(database_url: str) -> None:
    """What `create` prints works for its scope and source; `list` shows its id and never the key; after
    `revoke` it is good for nothing."""
    key = rejse(database_url, "create", "write", "--source", "till").stdout.strip()
    found = (await keyring(database_url)).find(key, "write")
    listed = rejse(database_url, "list").stdout
    revoked = rejse(database_url, "revoke", key_id(key))

    assert found is not None
    assert found.source == "till"
    assert key_id(key) in listed
    assert key not in listed
    assert (revoked.returncode, (await keyring(database_url)).find(key, "write")) == (0, None)
    assert key_id(key) not in rejse(database_url, "list").stdout


async def test_a_source_has_a_region_until_it_is_taken_back(database_url: str) -> None:
    """`sources set` counts for every key of the source, in any case; `none` takes it back."""
    for scope, source in (("write", "till"), ("read", "till"), ("write", "shop")):
        rejse(database_url, "create", scope, "--source", source)
    done = rejse(database_url, "set", "till", "--region", "dk", group="sources")
    regions = [(record.source, record.region) for record in await stored_keys(database_url)]
    listed = rejse(database_url, "list", group="sources").stdout
    rejse(database_url, "set", "till", "--region", "none", group="sources")

    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(regions, key=str) == [("shop", None), ("till", "DK"), ("till", "DK")]
    assert ("till" in listed, "DK" in listed) == (True, True)
    assert {record.region for record in await stored_keys(database_url)} == {None}


def test_a_region_or_a_source_that_there_is_not_is_told(database_url: str) -> None:
    """Exit code 2 and what to give instead."""
    wrong = rejse(database_url, "set", "till", "--region", "Denmark", group="sources")
    unknown = rejse(database_url, "set", "till", "--region", "DK", group="sources")

    assert (wrong.returncode, "DENMARK is no region" in wrong.stderr) == (2, True)
    assert (unknown.returncode, "there is no source till" in unknown.stderr) == (2, True)


async def test_a_key_itself_is_nowhere_in_the_store(database_url: str) -> None:
    """Only its digest is stored."""
    key = rejse(database_url, "create", "read").stdout.strip()

    connection = await asyncpg.connect(database_url)
    stored = [str(dict(row)) for row in await connection.fetch("SELECT * FROM api_keys")]
    await connection.close()

    assert len(stored) == 1
    assert key not in stored[0]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("revoke", "0123456789ab"), "there is no valid key with the id 0123456789ab"),
        (("create", "write", "--source", "a b"), "a source's name"),
        (("create", "root"), "'root' is not one of"),
    ],
)
def test_what_can_not_be_is_told(database_url: str, arguments: tuple[str, ...], problem: str) -> None:
    """Exit code 2 and the reason."""
    done = rejse(database_url, *arguments)

    assert done.returncode == 2
    assert problem in done.stderr


def test_a_whole_key_given_to_revoke_is_answered_with_its_id(database_url: str) -> None:
    """The key is not repeated at the terminal."""
    key = rejse(database_url, "create", "read").stdout.strip()

    done = rejse(database_url, "revoke", key)

    assert (done.returncode, key_id(key) in done.stderr, key in done.stderr) == (2, True, False)


def test_a_store_without_tables_is_made_first(postgres: Postgres) -> None:
    """The first command on a fresh database works."""
    url = postgres.create_database()
    try:
        assert rejse(url, "create", "admin").stdout.startswith("rejse_admin_")
    finally:
        postgres.drop_database(url)
