"""Kafka as docker-compose.yml sets it up, run for real: the image's own set-up program, then the broker."""

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from shared.clock import SystemClock
from shared.eventlog.kafka.writer import KafkaWriter
from shared.eventlog.port import TOPIC, NewRecord, Outcome
from tests.deploy.compose import our_services, services
from tests.deploy.tools import ROOT
from tests.support.child import Child, RigError, inherited_env
from tests.support.ports import free_port

_LIBRARIES = ROOT / ".cache/kafka/libs"
_LOGGING = ROOT / "deploy/kafka/log4j2.properties"
_DEFAULTS = ("server.properties", "log4j2.yaml", "tools-log4j2.yaml")


@pytest.fixture
def bootstrap(tmp_path: Path) -> Iterator[str]:
    """A broker on the environment of the file's `kafka`, but for its ports, its name and its folder."""
    ports = {"9092": str(free_port()), "9093": str(free_port())}
    configured = _set_up(tmp_path, _moved(services()["kafka"]["environment"], ports, tmp_path / "data"))
    command = _java("kafka.Kafka", configured, f"-Dlog4j2.configurationFile={_LOGGING}")
    broker = Child(command, env=inherited_env(), log_file=tmp_path / "kafka.log", cwd=tmp_path)
    try:
        broker.await_ready(lambda: _accepts(int(ports["9092"])), timeout_s=60)
        yield f"127.0.0.1:{ports['9092']}"
    finally:
        broker.end()


async def test_a_first_record_is_kept_once_the_port_is_open(bootstrap: str) -> None:
    """The probe's port means a broker that works: the topic is made as the services are told to make it,
    and a record is acked."""
    environment = our_services()["ingest"]["environment"]
    partitions = int(environment["REJSE_KAFKA_PARTITIONS"])
    replicas = int(environment["REJSE_KAFKA_REPLICAS"])
    writer = KafkaWriter(bootstrap, TOPIC, partitions, replicas, SystemClock())

    outcomes = await writer.append([NewRecord(b"key", b"value")], timeout_s=20)
    await writer.close(5)

    assert list(outcomes) == [Outcome.KEPT]


def _moved(environment: Mapping[str, str], ports: Mapping[str, str], data: Path) -> dict[str, str]:
    """The environment on other ports, with an address that resolves here instead of the broker's name."""
    moved = dict(environment)
    for name in ("KAFKA_LISTENERS", "KAFKA_ADVERTISED_LISTENERS", "KAFKA_CONTROLLER_QUORUM_VOTERS"):
        value = environment[name].replace("kafka:", "127.0.0.1:").replace("://:", "://127.0.0.1:")
        for ours, theirs in ports.items():
            value = value.replace(f":{ours}", f":{theirs}")
        moved[name] = value
    return moved | {"KAFKA_LOG_DIRS": str(data)}


def _set_up(home: Path, environment: Mapping[str, str]) -> str:
    """Run the image's set-up program, which writes the configuration and formats the folder."""
    folders = {name: home / name for name in ("default", "mounted", "final")}
    for folder in folders.values():
        folder.mkdir()
    for name in _DEFAULTS:
        (folders["default"] / name).touch()
    options = [f"--{name}-configs-dir={folder}" for name, folder in folders.items()]
    subprocess.run(
        [*_java("kafka.docker.KafkaDockerWrapper"), "setup", *options],
        check=True,
        capture_output=True,
        env=inherited_env(**environment),
        timeout=60,
    )
    return str(folders["final"] / "server.properties")


def _java(main_class: str, argument: str | None = None, *options: str) -> list[str]:
    java = shutil.which("java")
    if java is None or not _LIBRARIES.is_dir():
        raise RigError("Java or the broker's jars are missing: run `make test`, which gets them")
    command = [java, "-Xmx512m", "-XX:TieredStopAtLevel=1", *options, "-cp", f"{_LIBRARIES}/*", main_class]
    return command if argument is None else [*command, argument]


def _accepts(port: int) -> bool:
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=1)):
            return True
    except OSError:
        return False
