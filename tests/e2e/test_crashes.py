"""Nothing lost, nothing twice: processes die by SIGKILL under a running load.

Every touchpoint that got a 2xx must be on its customer's timeline exactly once, the states must be the fold
of the timelines, and the counters must equal the states. Every transition that was ever committed must have
been told on the topic of stage changes, under one id, and no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.broker import Broker
from tests.support.crowd import DEADLOCKS, crowd, who_is_who_wrongly
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.ports import free_port
from tests.support.workload import Workload, broken_promises


@pytest.fixture
def production(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    """Ingest and api on a broker and a database of the test's own; the stagers are the test's."""
    home = tmp_path / "broker"
    home.mkdir()
    with Broker(home) as broker:
        env = {"REJSE_KAFKA_BOOTSTRAP": broker.bootstrap, "REJSE_DATABASE_URL": database_url}
        with Installation(tmp_path, env) as rejse:
            rejse.make_keys()
            rejse.start("api")
            yield rejse


def check(rejse: Installation, load: Workload) -> None:
    """The promises, once everything that was taken has been staged."""
    check_store(rejse, load)
    assert rejse.told_wrongly() == ""


def check_store(rejse: Installation, load: Workload) -> None:
    """The same without what consumers are told: a version that is new says nothing of what was before it."""
    eventually(rejse.stored, 60, until=lambda number: number >= load.total_acked())
    eventually(lambda: broken_promises(rejse, load), 60, until=lambda found: found == [])
    assert rejse.audit() == ""


@pytest.mark.timeout(240)
def test_killing_ingest_under_load_loses_and_doubles_nothing(production: Installation) -> None:
    """Ingest is killed five times while it answers; what it took is staged, once."""
    ingest = production.start("ingest")
    production.start("stager")
    with Workload(production) as load:
        for kill in range(1, 6):
            eventually(load.total_acked, 60, until=(kill * 400).__le__)
            ingest.kill()
            ingest.start(60)
        eventually(load.total_acked, 60, until=lambda number: number >= 2_500)

    assert load.answers["202"] > 0
    assert load.answers.total() > load.answers["202"], "no request met a dead ingest"
    check(production, load)


POINTS = ("begin", "fenced", "filed", "before_commit", "after_commit", "publish_taken", "publish_appended")


@pytest.mark.timeout(400)
def test_stagers_that_die_in_a_batch_are_taken_over(production: Installation) -> None:
    """Stagers die by their own hand in the middle of a batch, or of telling what it did, each at another
    point, while one more is at work: that one takes all over, and no record and no stage change is lost or
    doubled."""
    production.start("ingest")
    dying = [
        production.process(
            "stager", REJSE_FAILPOINTS=f"stager.{point}:kill:3", REJSE_STAGER_PORT=str(free_port())
        )
        for point in POINTS
    ]
    for one in dying:
        one.launch()
    survivor = production.start("stager")
    for one in dying:
        one.await_ready(60)
    with Workload(production) as load:
        assert [one.wait(60) for one in dying] == [-9] * len(POINTS)
        reached = load.total_acked()
        eventually(load.total_acked, 60, until=lambda number: number >= reached + 500)

    assert survivor.running
    check(production, load)


@pytest.mark.timeout(240)
def test_killing_stagers_while_customers_merge(production: Installation) -> None:
    """Two stagers, one of them killed again and again and started anew, while every third customer comes
    under four names in as many partitions: all of that is one timeline each at the end, by whichever name it
    is asked for, and PostgreSQL has met no deadlock."""
    production.start("ingest")
    stagers = [production.start("stager", REJSE_STAGER_PORT=str(free_port())) for _ in range(2)]
    with Workload(production, threads=1, batch=3, people=crowd(40)) as load:
        for kill in range(1, 4):
            eventually(load.total_acked, 60, until=(kill * 150).__le__)
            stored = production.stored()
            eventually(production.stored, 60, until=stored.__lt__)
            stagers[kill % 2].kill()
            stagers[kill % 2].start(60)
    load.introduce()

    check(production, load)
    assert asyncio.run(_looked_into(production.database_url)) == ([], 0)


async def _looked_into(database_url: str) -> tuple[list[str], int]:
    """What is wrong of who is who, and the deadlocks."""
    connection = await asyncpg.connect(database_url)
    try:
        return await who_is_who_wrongly(connection), await connection.fetchval(DEADLOCKS)
    finally:
        await connection.close()


@pytest.mark.timeout(240)
def test_a_stager_that_dies_in_a_backfill_is_gone_on_from(production: Installation) -> None:
    """It dies in its third page, under load; another one goes on behind the second, and the version takes
    over: what is read then is the fold of every timeline, and the counts equal the states."""
    production.start("ingest")
    dying = production.start("stager", REJSE_FAILPOINTS="stager.page:kill:3")
    text = production.command("journeys", "show", "purchase-lifecycle")
    newer = production.home / "newer.yaml"
    newer.write_text(text.replace("version: 2", "version: 3").replace("after: 180d", "after: 9d"))
    with Workload(production, threads=2, customers=200) as load:
        eventually(production.stored, 60, until=(1_000).__le__)
        production.command("journeys", "activate", str(newer), "--detach")
        assert dying.wait(60) == -9
        read = [one["version"] for one in production.get("/v1/journeys")["journeys"]]
        production.start("stager", REJSE_STAGER_PORT=str(free_port()))
        production.command("journeys", "activate", str(newer))
        taken = load.total_acked()
        eventually(load.total_acked, 60, until=lambda number: number >= taken + 200)

    assert read == [2]
    check_store(production, load)
    assert [one["version"] for one in production.get("/v1/journeys")["journeys"]] == [3]


@pytest.mark.timeout(240)
def test_a_frozen_stager_that_wakes_up_writes_nothing_twice(production: Installation) -> None:
    """A stager freezes in an open batch for longer than the group's patience; the second one goes on, and
    the zombie's batch is refused when it wakes."""
    production.start("ingest")
    zombie = production.start("stager", REJSE_FAILPOINTS="stager.filed:stop:5")
    with Workload(production, threads=2) as load:
        eventually(load.total_acked, 60, until=lambda number: number >= 500)
        production.start("stager", REJSE_STAGER_PORT=str(free_port()))
        stored = production.stored()
        eventually(production.stored, 60, until=lambda number: number >= stored + 1_000)
        zombie.resume()
        woken = production.stored()
        eventually(production.stored, 60, until=lambda number: number >= woken + 500)

    check(production, load)


@pytest.mark.timeout(240)
def test_killing_the_whole_of_rejse_run_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """`rejse run` on the embedded parts, killed with everything that it started, and started again."""
    with Installation(tmp_path, {"REJSE_STAGE_CHANGES": "true"}) as rejse:
        run = rejse.start("run")
        rejse.read_keys()
        with Workload(rejse) as load:
            for kill in range(1, 4):
                eventually(load.total_acked, 60, until=(kill * 400).__le__)
                run.close()
                run.start(60)
            eventually(load.total_acked, 60, until=lambda number: number >= 1_500)

        assert load.answers.total() > load.answers["202"], "no request met a dead Rejse"
        check(rejse, load)


@pytest.mark.timeout(240)
def test_killing_only_the_supervisor_leaves_nothing_behind(tmp_path: Path) -> None:
    """The children of a killed `rejse run` end by themselves, and the next start takes everything over."""
    with Installation(tmp_path, {"REJSE_STAGE_CHANGES": "true"}) as rejse:
        run = rejse.start("run")
        rejse.read_keys()
        with Workload(rejse) as load:
            eventually(load.total_acked, 60, until=lambda number: number >= 400)
            run.kill()
            run.start(60)
            taken = load.total_acked()
            eventually(load.total_acked, 60, until=lambda number: number >= taken + 400)

        check(rejse, load)
