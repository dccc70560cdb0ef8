"""What the query API counts."""

from __future__ import annotations

from shared.metrics import Metric

CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "rejse_api_requests_total",
        "counter",
        ("route", "status"),
        "answers by route template (`none`: probes, and what was refused before routing) and HTTP status",
    ),
    Metric("rejse_api_request_seconds", "histogram", ("route",), "from a request's headers to its answer"),
    Metric(
        "rejse_api_refreshes_total",
        "counter",
        ("outcome",),
        "reads of keys and journey definitions: ok, failed (the store was away; the last ones stay valid)",
    ),
)
