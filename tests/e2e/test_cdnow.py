"""Real purchases of real customers, with answers counted by others, through the whole of Rejse.

CDNOW: 69,659 purchases by 23,570 customers, 1997-01-01 to 1998-06-30, of which 255 rows are exact
duplicates. The numbers below were counted by an independent script: distinct purchase days per customer;
dormant means that the last purchase lies 180 days or more before the date.
"""

from __future__ import annotations

import random
from importlib.metadata import files
from pathlib import Path

import pytest

from tests.support.broker import Broker
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.ports import free_port

JOURNEY = "purchase-lifecycle"
EXPECTED = {
    "1997-03-31T23:59:59Z": {"first": 18_727, "repeat": 4_843, "dormant": 0},
    "1997-09-30T23:59:59Z": {"first": 0, "repeat": 7_249, "dormant": 16_321},
    "1998-06-30T23:59:59Z": {"first": 0, "repeat": 5_360, "dormant": 18_210},
}
REACTIVATIONS = 5_193
ROWS = 69_659
DISTINCT_ROWS = ROWS - 255
MAP = Path(__file__).parents[2] / "docs/examples/cdnow.yaml"


def cdnow() -> Path:
    """The purchases, out of the package that ships them."""
    found = [file for file in files("lifetimes") or [] if file.name == "CDNOW_master.txt"]
    return Path(str(found[0].locate()))


def shuffled(home: Path) -> Path:
    """The same rows in another order, a tenth of them twice; the order's seed is in the file's name."""
    seed = random.SystemRandom().randrange(10_000)
    header, *rows = cdnow().read_text().splitlines()
    chance = random.Random(seed)
    rows += chance.sample(rows, len(rows) // 10)
    chance.shuffle(rows)
    path = home / f"shuffled-{seed}.txt"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def import_and_check(rejse: Installation, path: Path) -> None:
    rejse.command(
        "import", str(path), "--map", str(MAP), "--url", rejse.url("ingest"), "--key", rejse.write_key,
        "--state", str(rejse.home / f"{path.name}.state"),
    )  # fmt: skip
    rejse.await_staged(DISTINCT_ROWS, 120)
    # All of them have bought for the last time long ago: time has run when nobody is left but dormant.
    eventually(lambda: rejse.counts(JOURNEY), 120, until=lambda now: now["first"] + now["repeat"] == 0)

    assert rejse.stored() == DISTINCT_ROWS
    assert {at: rejse.counts(JOURNEY, at=at) for at in EXPECTED} == EXPECTED
    assert reactivations(rejse) == REACTIVATIONS
    assert rejse.audit() == ""


def reactivations(rejse: Installation) -> int:
    flows = rejse.get(f"/v1/journeys/{JOURNEY}/flows")["flows"]
    return sum(flow["count"] for flow in flows if (flow["from"], flow["to"]) == ("dormant", "repeat"))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("order", ["as it is", "shuffled"])
def test_the_counts_are_those_of_the_table_on_kafka_and_postgresql(
    tmp_path: Path, database_url: str, order: str
) -> None:
    """Imported over HTTP through the real broker into the real PostgreSQL, in any order and with a tenth of
    the rows sent twice, by two stagers: the counts as of three dates and the reactivations are the known
    ones."""
    home = tmp_path / "broker"
    home.mkdir()
    with Broker(home) as broker:
        env = {"REJSE_KAFKA_BOOTSTRAP": broker.bootstrap, "REJSE_DATABASE_URL": database_url}
        with Installation(tmp_path, env) as rejse:
            rejse.make_keys()
            rejse.start("ingest")
            rejse.start("stager")
            rejse.start("stager", REJSE_STAGER_PORT=str(free_port()))
            rejse.start("api")
            import_and_check(rejse, cdnow() if order == "as it is" else shuffled(tmp_path))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("order", ["as it is", "shuffled"])
def test_the_counts_are_those_of_the_table_on_the_embedded_parts(tmp_path: Path, order: str) -> None:
    """`rejse run` alone says the same numbers."""
    with Installation(tmp_path) as rejse:
        rejse.start("run")
        rejse.read_keys()
        import_and_check(rejse, cdnow() if order == "as it is" else shuffled(tmp_path))
