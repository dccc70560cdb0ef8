"""The query API's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """See `shared.config.VARIABLES` for what each means."""

    data_dir: Path
    host: str
    api_port: int
    api_health_port: int | None
    database_url: str | None
    log_level: str
    drain_wait_s: float
    drain_timeout_s: float
