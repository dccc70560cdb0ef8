"""Laws of the rig: the PostgreSQL in the tests is a real one, and faults done to it are real."""

import asyncpg
import psutil
import pytest

from tests.support.child import RigError, lives
from tests.support.postgres import Postgres


def test_kill_and_stop_keep_data_and_url() -> None:
    """A server killed, then one stopped, comes back at the same URL with every committed row."""
    with Postgres() as server:
        url = server.create_database()
        server.execute("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)", url)

        server.kill()
        assert not server.running
        server.start()
        server.execute("INSERT INTO kept VALUES (2)", url)
        server.restart()

        assert server.execute("SELECT n FROM kept ORDER BY n", url) == "1\n2"


def test_closed_leaves_nothing() -> None:
    """After its end there is no process and no folder."""
    with Postgres() as server:
        family = psutil.Process(server.pid).children(recursive=True)

    assert not server.running
    assert not any(map(lives, family))
    assert not server.home.exists()


async def test_a_paused_server_is_mute_until_resumed() -> None:
    """A query to a paused server times out, open sessions included, and works after it is resumed."""
    with Postgres() as server:
        connection = await asyncpg.connect(server.url())
        server.pause()
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT 1", timeout=0.2)
        server.resume()
        await connection.close()

        connection = await asyncpg.connect(server.url())
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


def test_a_clone_has_the_templates_rows_and_is_its_own(postgres: Postgres) -> None:
    """A database made from a template starts with its rows; what is written to it stays in it."""
    template = postgres.create_database()
    postgres.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)", template)

    first, second = (postgres.create_database(template=template) for _ in range(2))
    postgres.execute("INSERT INTO t VALUES (2)", first)

    assert postgres.execute("SELECT count(*) FROM t", first) == "2"
    assert postgres.execute("SELECT count(*) FROM t", second) == "1"


async def test_a_database_in_use_can_be_dropped(postgres: Postgres) -> None:
    """Dropping a database ends the sessions in it."""
    url = postgres.create_database()
    connection = await asyncpg.connect(url)

    postgres.drop_database(url)

    with pytest.raises(RigError, match="does not exist"):
        postgres.execute("SELECT 1", url)
    connection.terminate()


def test_it_is_version_18_and_its_commits_are_durable(postgres: Postgres) -> None:
    """The rig runs the version that the product ships, and as safely."""
    assert postgres.execute("SHOW server_version").startswith("18")
    assert postgres.execute("SHOW fsync") == "on"
    assert postgres.execute("SHOW synchronous_commit") == "on"
