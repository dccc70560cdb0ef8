"""What ingest counts. The ledger balances: received = accepted + duplicate + refused + set aside."""

from __future__ import annotations

from shared.metrics import Metric

CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "rejse_ingest_touchpoints_received_total",
        "counter",
        ("source",),
        "Touchpoints of requests that got a verdict; those of a request answered 503 come again",
    ),
    Metric("rejse_ingest_touchpoints_accepted_total", "counter", ("source",), "Touchpoints that are durable"),
    Metric(
        "rejse_ingest_touchpoints_duplicate_total",
        "counter",
        ("source",),
        "Touchpoints with the id of an earlier one of the same request",
    ),
    Metric(
        "rejse_ingest_touchpoints_refused_total",
        "counter",
        ("source", "code"),
        "Touchpoints that can't be accepted, by the code of the refusal",
    ),
    Metric(
        "rejse_ingest_touchpoints_set_aside_total",
        "counter",
        ("source",),
        "Touchpoints that were fit but that the event log does not take",
    ),
    Metric(
        "rejse_ingest_identities_worthless_total",
        "counter",
        ("source", "kind"),
        "Identities that stand for nobody and were left out, by kind; `external`: any namespace",
    ),
    Metric(
        "rejse_ingest_requests_total", "counter", ("status",), "Requests to a door, by status of the answer"
    ),
    Metric(
        "rejse_ingest_request_seconds",
        "histogram",
        (),
        "From a request's first look to the end of its answer",
    ),
    Metric(
        "rejse_ingest_append_seconds", "histogram", ("to",), "One group commit, to the log or to the spool"
    ),
    Metric(
        "rejse_ingest_connections_refused_total",
        "counter",
        (),
        "Connections beyond what one address may have",
    ),
    Metric("rejse_ingest_in_flight_bytes", "gauge", (), "Bytes of the bodies that are being handled"),
    Metric("rejse_ingest_breaker_open", "gauge", (), "1 while touchpoints go to the spool, else 0"),
    Metric(
        "rejse_ingest_spooled_total", "counter", (), "Records that went to the spool (they are accepted too)"
    ),
    Metric("rejse_ingest_drained_total", "counter", (), "Records sent on from the spool to the event log"),
    Metric(
        "rejse_ingest_spool_set_aside_total",
        "counter",
        (),
        "Records of the spool that the event log does not take; they lie in the spool's folder",
    ),
    Metric("rejse_ingest_spool_bytes", "gauge", (), "Size of the spool"),
    Metric("rejse_ingest_keys", "gauge", (), "Keys that are known now"),
)
