"""Structured logs: one JSON object a line, one line a unit of work.

A line is an event name and its fields: `log.info("batch_committed", extra=fields(records=512))`. Fields are
chosen one by one at the call, so that no body, key or person's data gets in by accident.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_FIELDS = "rejse_fields"


def fields(**values: Any) -> Mapping[str, Any]:
    """The fields of a log line, to be passed as `extra`."""
    return {_FIELDS: values}


class JsonFormatter(logging.Formatter):
    """Time, level, service, event and fields as one line; `json` escapes every control character."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def configure(service: str, level: str) -> None:
    """Send this process's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # aiokafka and uvicorn tell at INFO what our own lines say already.
    for chatty in ("aiokafka", "uvicorn", "httpx", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
