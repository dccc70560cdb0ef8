"""docker-compose.yml: valid, safe by default, and in step with the code that it runs."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from services.api.settings import Settings as ApiSettings
from services.cli import app
from services.ingest.settings import Settings as IngestSettings
from services.stager.settings import Settings as StagerSettings
from services.supervisor.commands import StoreSettings
from shared.config import PREFIX, VARIABLES, load
from tests.deploy.compose import FILE, our_services, published, seconds, services, variables
from tests.deploy.tools import ROOT, check, installed

_SETTINGS: Mapping[str, type[Any]] = {
    "ingest": IngestSettings,
    "stager": StagerSettings,
    "api": ApiSettings,
    "migrate": StoreSettings,
}
_WRITES_ITS_ROOT = {"kafka"}
_ONE_SHOT = {"migrate"}


def test_the_file_is_valid_by_the_compose_specification() -> None:
    """The specification's own JSON schema accepts the file."""
    check([installed("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", FILE])


def test_every_volume_network_and_mounted_file_that_is_named_is_there() -> None:
    """Nothing that a service names is missing: compose would make an empty folder of it, or refuse."""
    file = yaml.safe_load(FILE.read_text())
    missing = []
    for name, service in services().items():
        missing += [f"{name}: network {one}" for one in service["networks"] if one not in file["networks"]]
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            there = (ROOT / source).exists() if source.startswith(".") else source in file["volumes"]
            missing += [] if there else [f"{name}: {source}"]

    assert not missing


@pytest.mark.parametrize("name", sorted(_SETTINGS))
def test_each_service_of_ours_starts_on_what_the_file_gives_it(name: str) -> None:
    """The command exists, and the environment holds no unknown setting and no wrong one."""
    service = our_services()[name]
    assert service["command"] == [name]
    assert name in {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]

    load(_SETTINGS[name], service["environment"])


def test_the_services_of_ours_are_these() -> None:
    """No service of ours escapes the tests that go by name."""
    assert our_services().keys() == _SETTINGS.keys()


def test_every_setting_that_the_file_names_exists() -> None:
    """A REJSE_ variable anywhere in the file, comments too, is one that the code reads."""
    named = set(re.findall(rf"{PREFIX}[A-Z_]+", FILE.read_text()))
    assert named <= {variable.env for variable in VARIABLES}


def test_no_secret_has_a_default() -> None:
    """Whoever sets no password gets told so, and not a password that everybody knows."""
    assert {variable.name for variable in variables() if variable.default is not None} == {"PUBLISH_ADDRESS"}
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or variable in _secret_settings():
                assert "secret" in value, f"{name}: {variable} is written out in the file"


def test_only_this_machine_reaches_a_port_by_default() -> None:
    """Ports are published on the loopback address unless told otherwise; log and store on none at all."""
    ports = {name: published(service) for name, service in services().items()}

    assert {address for entries in ports.values() for address, _, _ in entries} == {"127.0.0.1"}
    assert {name for name, entries in ports.items() if entries} == {"ingest", "api", "prometheus"}


def test_stagers_can_be_scaled() -> None:
    """Two stagers can run side by side: neither a port of the machine nor a name nor a volume is theirs."""
    stager = services()["stager"]
    assert not {"ports", "container_name", "hostname", "volumes"} & stager.keys()


@pytest.mark.parametrize("name", sorted(_SETTINGS.keys() - _ONE_SHOT))
def test_ports_are_the_same_wherever_they_stand(name: str) -> None:
    """The port that a service listens on is the one that is published; the one for its health is probed and
    scraped, and not published."""
    service = our_services()[name]
    port = service["environment"][f"{PREFIX}{name.upper()}_PORT"]
    health = service["environment"].get(f"{PREFIX}{name.upper()}_HEALTH_PORT", port)
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    target = {job["job_name"]: job["dns_sd_configs"][0] for job in scraped}[f"rejse-{name}"]

    assert f"http://127.0.0.1:{health}/readyz" in service["healthcheck"]["test"][-1]
    assert (target["names"], str(target["port"])) == ([name], health)
    assert all(entry[1:] == [port, port] for entry in published(service))


@pytest.mark.parametrize("name", sorted(services()))
def test_each_container_has_no_more_power_than_it_needs(name: str) -> None:
    """No capabilities, no way to gain any, bounded memory, processors and processes; a read-only root
    wherever the image allows it; not root inside our own images."""
    service = services()[name]
    limits = service["deploy"]["resources"]["limits"]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert service.get("read_only", False) is (name not in _WRITES_ITS_ROOT)
    assert not {"privileged", "cap_add", "pid", "network_mode"} & service.keys()


@pytest.mark.parametrize("name", sorted(services().keys() - _ONE_SHOT))
def test_each_container_comes_back_by_itself_and_tells_its_health(name: str) -> None:
    """What runs for ever is started again when it ends, and has a probe."""
    service = services()[name]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service


@pytest.mark.parametrize("name", sorted(_SETTINGS.keys() - _ONE_SHOT))
def test_a_service_has_time_to_drain_before_it_is_killed(name: str) -> None:
    """The grace period is longer than what the service takes for itself, with room for its start-up."""
    service = our_services()[name]
    drain_s = float(service["environment"]["REJSE_DRAIN_TIMEOUT_S"])
    assert seconds(service["stop_grace_period"]) >= drain_s + 10


def test_services_start_in_order_and_ingest_waits_for_nobody() -> None:
    """Whoever reads the store waits for its shape, the migration for the database; ingest takes touchpoints
    while everything else is away, and so it must start then too."""
    after = {name: service.get("depends_on", {}) for name, service in services().items()}

    assert after["ingest"] == {}
    assert after["migrate"] == {"postgres": {"condition": "service_healthy"}}
    assert after["api"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert after["stager"] == after["api"] | {"kafka": {"condition": "service_healthy"}}


def test_what_must_last_lies_on_a_volume() -> None:
    """The spool, the log and the store outlive their containers, where the images and settings put them."""
    mounts = {name: service.get("volumes", []) for name, service in services().items()}

    assert "spool:/var/lib/rejse" in mounts["ingest"]
    assert f"kafka:{services()['kafka']['environment']['KAFKA_LOG_DIRS']}" in mounts["kafka"]
    assert "postgres:/var/lib/postgresql" in mounts["postgres"]


def test_kafka_is_the_release_that_the_tests_run() -> None:
    """The image's version is the one that the test broker's jars are pinned to."""
    pom = ElementTree.parse(ROOT / "deploy/kafka/pom.xml")
    tested = pom.findtext(".//{*}kafka.version")
    assert services()["kafka"]["image"] == f"apache/kafka:{tested}"


def test_every_image_of_others_is_pinned() -> None:
    """No image is whatever is newest on the day."""
    for name, service in services().items():
        if name not in our_services():
            assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"]), service["image"]


def _secret_settings() -> set[str]:
    return {variable.env for variable in VARIABLES if variable.secret}
