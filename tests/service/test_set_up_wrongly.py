"""A service on parts that are set up wrongly ends, at its start or later, and says what to set right."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from shared.clock import SystemClock
from shared.errors import ConfigError, Transient, set_up_wrongly
from shared.eventlog.choose import LOCAL_FOLDER
from shared.eventlog.local.writer import LocalWriter
from shared.eventlog.port import TOPIC, NewRecord
from tests.support.broker import Broker
from tests.support.ports import free_port
from tests.support.process import RejseProcess


@pytest.mark.parametrize("service", ["ingest", "stager"])
async def test_a_service_on_a_weak_topic_refuses_to_start(
    service: str, tmp_path: Path, database_url: str, services_broker: Broker
) -> None:
    """Exit code 2 with what to set; told to take the topic as it is, the service works."""
    port = free_port()
    env = {
        "REJSE_DATA_DIR": str(tmp_path / "data"),
        "REJSE_DATABASE_URL": database_url,
        "REJSE_KAFKA_BOOTSTRAP": services_broker.bootstrap,
        f"REJSE_{service.upper()}_PORT": str(port),
    }

    def process(**more: str) -> RejseProcess:
        log_file = tmp_path / f"{len(more)}.log"
        module = f"services.{service}"
        return RejseProcess([], env=env | more, log_file=log_file, ready_port=port, module=module)

    await services_broker.create_topic(TOPIC)
    refused = process()
    refused.launch()
    assert await asyncio.to_thread(refused.wait) == 2
    assert "flush.messages=1" in refused.log
    assert "Traceback" not in refused.log
    with process(REJSE_KAFKA_ACCEPT_WEAK_TOPIC="true") as accepted:
        assert accepted.terminate() == 0


async def test_a_store_that_loses_its_tables_ends_the_stager_with_the_reason(
    tmp_path: Path, database_url: str
) -> None:
    """Also while it runs, what only a person can mend ends it with exit code 2 and no stack trace."""
    port = free_port()
    env = {
        "REJSE_DATA_DIR": str(tmp_path),
        "REJSE_DATABASE_URL": database_url,
        "REJSE_STAGER_PORT": str(port),
    }
    stager = RejseProcess(
        [], env=env, log_file=tmp_path / "stager.log", ready_port=port, module="services.stager"
    )
    with stager:
        connection = await asyncpg.connect(database_url)
        await connection.execute("ALTER TABLE stager_offsets RENAME TO gone")
        await connection.close()
        writer = await LocalWriter.open(tmp_path / LOCAL_FOLDER, SystemClock())
        await writer.append([NewRecord(b"key", b"{}")], 5)
        await writer.close(5)

        assert await asyncio.to_thread(stager.wait) == 2
        assert "rejse migrate" in stager.log
        assert "Traceback" not in stager.log


def test_only_what_is_wrong_in_the_installation_is_told_as_such() -> None:
    """Errors out of task groups are looked through; one that is anything else among them is no such end."""
    wrong = ExceptionGroup("tasks", [ConfigError("a"), ExceptionGroup("more", [ConfigError("b")])])

    assert set_up_wrongly(wrong) == "a\nb"
    assert set_up_wrongly(ExceptionGroup("tasks", [ConfigError("a"), Transient("b")])) is None
    assert set_up_wrongly(ValueError("a")) is None
