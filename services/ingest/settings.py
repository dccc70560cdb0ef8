"""Ingest's settings; each field is a variable of `shared.config`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.worthless import Worthless


@dataclass(frozen=True, slots=True)
class Settings:
    """What ingest has to be told."""

    data_dir: Path
    host: str
    ingest_port: int
    ingest_health_port: int | None
    kafka_bootstrap: str | None
    kafka_partitions: int
    kafka_replicas: int
    kafka_accept_weak_topic: bool
    local_log_keep_bytes: int
    database_url: str | None
    log_level: str
    ack_timeout_s: float
    spool_bytes_max: int
    disk_free_bytes_min: int
    in_flight_bytes_max: int
    rate_events_s: int
    worthless_identities: Worthless
    connections_per_address_max: int
    drain_wait_s: float
    drain_timeout_s: float
    failpoints: str
