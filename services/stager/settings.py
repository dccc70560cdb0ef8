"""The stager's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """See `shared.config.VARIABLES` for what each means."""

    data_dir: Path
    host: str
    stager_port: int
    kafka_bootstrap: str | None
    kafka_partitions: int
    kafka_replicas: int
    kafka_accept_weak_topic: bool
    local_log_keep_bytes: int
    stage_changes: bool | None
    database_url: str | None
    journeys_dir: Path | None
    journeys: tuple[str, ...] | None
    log_level: str
    identity_limits: Mapping[str, int]
    identity_handed_over: tuple[str, ...]
    batch_records_max: int
    drain_timeout_s: float
    retired_states_days: int
    failpoints: str
