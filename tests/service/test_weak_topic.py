"""A service that finds Kafka's topic weak refuses to start, and says what to set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.eventlog.port import TOPIC
from tests.support.broker import Broker
from tests.support.ports import free_port
from tests.support.process import RejseProcess


@pytest.mark.parametrize("service", ["ingest", "stager"])
async def test_a_service_on_a_weak_topic_refuses_to_start(
    service: str, tmp_path: Path, database_url: str
) -> None:
    """Exit code 2 with what to set; told to take the topic as it is, the service works."""
    home = tmp_path / "broker"
    home.mkdir()
    port = free_port()
    env = {
        "REJSE_DATA_DIR": str(tmp_path / "data"),
        "REJSE_DATABASE_URL": database_url,
        f"REJSE_{service.upper()}_PORT": str(port),
    }

    def process(**more: str) -> RejseProcess:
        log_file = tmp_path / f"{len(more)}.log"
        module = f"services.{service}"
        return RejseProcess([], env=env | more, log_file=log_file, ready_port=port, module=module)

    with Broker(home) as broker:
        env["REJSE_KAFKA_BOOTSTRAP"] = broker.bootstrap
        await broker.create_topic(TOPIC)
        refused = process()
        refused.launch()
        assert await asyncio.to_thread(refused.wait) == 2
        assert "flush.messages=1" in refused.log
        assert "Traceback" not in refused.log
        with process(REJSE_KAFKA_ACCEPT_WEAK_TOPIC="true") as accepted:
            assert accepted.terminate() == 0
