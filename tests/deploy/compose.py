"""docker-compose.yml as data, with its variables filled in."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.deploy.tools import ROOT

FILE = ROOT / "docker-compose.yml"

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<operator>:\?|:-)(?P<rest>[^}]*)\}")
_SECONDS = {"s": 1, "m": 60}


@dataclass(frozen=True, slots=True)
class Variable:
    """One `${NAME:-default}` or `${NAME:?what to do}` of the file; without a default it must be set."""

    name: str
    default: str | None


def variables() -> list[Variable]:
    """All variables that the file asks its surroundings for."""
    return [
        Variable(found["name"], found["rest"] if found["operator"] == ":-" else None)
        for found in _VARIABLE.finditer(FILE.read_text())
    ]


def services() -> Mapping[str, Mapping[str, Any]]:
    """The services, with `secret` in the place of each variable that must be set."""
    text = _VARIABLE.sub(
        lambda found: found["rest"] if found["operator"] == ":-" else "secret", FILE.read_text()
    )
    found: Mapping[str, Mapping[str, Any]] = yaml.safe_load(text)["services"]
    return found


def our_services() -> Mapping[str, Mapping[str, Any]]:
    """The services that run Rejse's own image."""
    return {name: service for name, service in services().items() if service["image"] == "rejse"}


def seconds(duration: str) -> int:
    """A duration such as `30s` or `1m`."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def published(service: Mapping[str, Any]) -> list[list[str]]:
    """The published ports of a service, each as address, port on the machine, port in the container."""
    return [entry.rsplit(":", 2) for entry in service.get("ports", ())]
