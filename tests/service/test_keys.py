"""`rejse keys` on a real store."""

from __future__ import annotations

import subprocess
import sys

import asyncpg
import pytest

from shared.keys import Keyring, key_id
from tests.support.child import inherited_env
from tests.support.keys import stored_keys
from tests.support.postgres import Postgres


def rejse(database_url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "keys", *arguments],
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
