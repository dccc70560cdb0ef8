"""Settings: environment variables `REJSE_*`, read once from a mapping into a frozen dataclass a service.

`VARIABLES` is the catalogue of all of them; a dataclass field of the same name takes a variable's value,
and every error is reported at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from shared.errors import ConfigError
from shared.touchpoint import is_identity_kind
from shared.worthless import WORTHLESS, Worthless

PREFIX = "REJSE_"
Settings = TypeVar("Settings")


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: how its text is read, what it is when unset, and what it means."""

    name: str
    read: Callable[[str], Any]
    default: str | None
    meaning: str
    secret: bool = False

    @property
    def env(self) -> str:
        return env_name(self.name)


def env_name(setting: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + setting.upper()


def _port(text: str) -> int:
    return _between(0, 65535)(text)


def _between(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("is no whole number") from None
        if not low <= number <= high:
            raise ValueError(f"lies outside {low} to {high}")
        return number

    return read


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError("is no number of seconds") from None
    if not 0 < number <= 86_400:
        raise ValueError("lies outside 0 to 86400 seconds")
    return number


def _seconds_or_none(text: str) -> float:
    return 0.0 if text == "0" else _seconds(text)


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("is neither true nor false")
    return text.lower() == "true"


def _database_url(text: str) -> str:
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("is no postgresql:// URL")
    return text


def _level(text: str) -> str:
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("is none of DEBUG, INFO, WARNING, ERROR")
    return text.upper()


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(key.strip() for key in text.split(","))
    if not all(keys):
        raise ValueError("has nothing between two commas")
    return keys


def _limits(text: str) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for part in _keys(text):
        kind, _, number = part.partition("=")
        if kind != "*" and not is_identity_kind(kind):
            raise ValueError("has a part that is no kind=number, such as email=5; * is every other kind")
        found[kind] = _between(1, 10_000)(number)
    if "*" not in found:
        raise ValueError("has no limit for every other kind, such as *=5")
    return found


def _kinds(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    if not all(map(is_identity_kind, kinds := _keys(text))):
        raise ValueError("has a part that is no kind of identity, such as phone; none: no kind")
    return kinds


def _worthless(text: str) -> Worthless:
    return WORTHLESS.and_also(_keys(text)) if text else WORTHLESS


def _text(text: str) -> str:
    return text


VARIABLES: tuple[Variable, ...] = (
    Variable("data_dir", Path, "./data", "where the spool, the local event log and embedded PostgreSQL live"),
    Variable("host", _text, "127.0.0.1", "the address that the services listen on"),
    Variable("ingest_port", _port, "8080", "ingest's HTTP port"),
    Variable("api_port", _port, "8081", "the query API's HTTP port"),
    Variable("stager_port", _port, "8082", "the stager's port for probes and metrics"),
    Variable(
        "ingest_health_port",
        _port,
        None,
        "ingest's port for probes and metrics, which answers under any load; unset: its HTTP port",
    ),
    Variable(
        "api_health_port",
        _port,
        None,
        "the query API's port for probes and metrics, which answers under any load; unset: its HTTP port",
    ),
    Variable("kafka_bootstrap", _text, None, "Kafka's bootstrap servers; unset: the local event log"),
    Variable("kafka_partitions", _between(1, 10_000), "12", "partitions of a topic that is made at start"),
    Variable("kafka_replicas", _between(1, 9), "1", "replicas of a topic that is made at start"),
    Variable(
        "kafka_accept_weak_topic",
        _flag,
        "false",
        "true: use a topic whose acks are not durable, or that takes no large records",
    ),
    Variable(
        "local_log_keep_bytes",
        _between(0, 1 << 44),
        str(1 << 30),
        "how much of what was staged the local event log keeps, for a restored store to read again",
    ),
    Variable(
        "stage_changes",
        _flag,
        None,
        "true: each change of a stage goes out on the topic stage-changes; unset: if there is Kafka",
    ),
    Variable("database_url", _database_url, None, "PostgreSQL's URL; unset: embedded", secret=True),
    Variable("journeys_dir", Path, None, "a folder of journey definitions beside the built-in ones"),
    Variable(
        "journeys",
        _keys,
        None,
        "the journeys to begin with, keys between commas; unset: purchase-lifecycle and all of the folder",
    ),
    Variable("log_level", _level, "INFO", "DEBUG, INFO, WARNING or ERROR"),
    Variable(
        "ack_timeout_s", _seconds, "5", "how long ingest waits for the event log before it uses the spool"
    ),
    Variable("spool_bytes_max", _between(1, 1 << 44), str(1 << 30), "the spool's bound, in bytes"),
    Variable(
        "disk_free_bytes_min",
        _between(0, 1 << 44),
        str(64 << 20),
        "what ingest leaves free of its disk: below it, it keeps nothing there and answers 503",
    ),
    Variable(
        "in_flight_bytes_max",
        _between(1, 1 << 40),
        str(64 << 20),
        "bodies in flight, in bytes; more is 503",
    ),
    Variable(
        "rate_events_s", _between(0, 1 << 31), "0", "touchpoints a second and key; more is 429; 0: no limit"
    ),
    Variable(
        "worthless_identities",
        _worthless,
        "",
        "values between commas that identify nobody, of any kind or as `kind:value`, beside the default list",
    ),
    Variable(
        "connections_per_address_max",
        _between(0, 1 << 20),
        "100",
        "connections to ingest from one address; more is 429; 0, behind a proxy: no limit",
    ),
    Variable(
        "identity_limits",
        _limits,
        "user_id=1,loyalty_id=5,email=5,phone=5,anonymous_id=100,*=5",
        "how many identities of a kind a customer may have (*: of every other kind); alike for all stagers",
    ),
    Variable(
        "identity_handed_over",
        _kinds,
        "anonymous_id,phone",
        "kinds of identities that a new login takes over from another one; none: no kind",
    ),
    Variable("batch_records_max", _between(1, 100_000), "4000", "records of one batch transaction"),
    Variable(
        "retired_states_days",
        _between(0, 36_500),
        "7",
        "how many days the states of a journey's version are kept after it was retired; its history stays",
    ),
    Variable("failpoints", _text, "", "points at which the process kills or stops itself: for fault tests"),
    Variable(
        "drain_wait_s",
        _seconds_or_none,
        "0",
        "how long ingest and api go on after SIGTERM, unready, until a balancer has noticed",
    ),
    Variable("drain_timeout_s", _seconds, "15", "how long a service may take to end after that"),
)
_BY_NAME = {variable.name: variable for variable in VARIABLES}


def load(cls: type[Settings], environ: Mapping[str, str]) -> Settings:
    """Read a service's settings dataclass from an environment.

    A variable that is set to the empty string counts as unset.

    Raises:
        ConfigError: names every variable that is wrong, missing or unknown, at once.
    """
    problems = _unknown(environ)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        variable = _BY_NAME[field.name]
        text = environ.get(variable.env) or variable.default
        try:
            values[field.name] = None if text is None else variable.read(text)
        except ValueError as error:
            problems.append(f"{variable.env} {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return cls(**values)


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {variable.env for variable in VARIABLES}
    return [
        f"{name} is no setting of Rejse"
        for name in sorted(environ)
        if name.startswith(PREFIX) and name not in known and not name.endswith("_KEY")
    ]
