"""What the stager counts. The ledger: read = stored + duplicate + conflict + erased + dead_letter."""

from __future__ import annotations

from shared.metrics import Metric

CATALOGUE: tuple[Metric, ...] = (
    Metric("rejse_stager_records_read_total", "counter", (), "records of the event log in committed batches"),
    Metric(
        "rejse_stager_records_total",
        "counter",
        ("fate",),
        "the same records by fate: stored, duplicate, conflict (same id, other body), erased (of an erased "
        "customer, from before), dead_letter",
    ),
    Metric(
        "rejse_stager_unknown_types_total",
        "counter",
        (),
        "stored touchpoints of a type that the catalogue doesn't have; `GET /v1/touchpoint-types` names them",
    ),
    Metric(
        "rejse_stager_customers_erased_total",
        "counter",
        (),
        "customers of whom nothing is kept any more because somebody asked for it",
    ),
    Metric(
        "rejse_stager_touchpoints_erased_total",
        "counter",
        (),
        "stored touchpoints that were removed with them",
    ),
    Metric("rejse_stager_customers_merged_total", "counter", (), "customers that became one with another"),
    Metric(
        "rejse_stager_identities_handed_over_total",
        "counter",
        (),
        "devices and numbers that went from one login to another",
    ),
    Metric(
        "rejse_stager_links_withheld_total",
        "counter",
        (),
        "links that touchpoints named and that a person has withdrawn",
    ),
    Metric(
        "rejse_stager_links_settled_total",
        "counter",
        ("outcome",),
        "withdrawn links and those taken back that were carried out: `parted`, `merged` or `unchanged`",
    ),
    Metric(
        "rejse_stager_links_refused_total",
        "counter",
        ("kind",),
        "identities that were not linked, by their kind (`external`: any namespace), because a customer "
        "would have too many of one; `GET /v1/identity/conflicts` names them",
    ),
    Metric(
        "rejse_stager_batches_total",
        "counter",
        ("outcome",),
        "batch transactions: committed, retried (store away, deadlock), fenced (partition lost), halved",
    ),
    Metric("rejse_stager_batch_seconds", "histogram", (), "time of a committed batch, decoding included"),
    Metric("rejse_stager_lag_records", "gauge", ("partition",), "records between the log's end and us"),
    Metric("rejse_stager_partitions_owned", "gauge", (), "partitions that this process stages"),
    Metric("rejse_stager_partitions_halted", "gauge", (), "partitions whose log is not the one we know"),
    Metric(
        "rejse_stager_frozen_sessions_ended_total",
        "counter",
        (),
        "sessions of stagers in PostgreSQL that were ended because they stood still in the middle of a copy",
    ),
    Metric("rejse_stager_refolds_total", "counter", ("journey",), "histories folded anew"),
    Metric("rejse_stager_transitions_total", "counter", ("journey", "kind"), "stage changes written"),
    Metric(
        "rejse_stager_backfilled_customers_total",
        "counter",
        ("journey",),
        "customers that a version was brought up to before it took over",
    ),
    Metric(
        "rejse_stager_cleared_customers_total",
        "counter",
        ("journey",),
        "customers whose states in a version that was retired were removed",
    ),
    Metric("rejse_stager_timers_total", "counter", ("journey",), "stage changes that the sweeper made"),
    Metric(
        "rejse_stager_stage_changes_published_total",
        "counter",
        (),
        "messages that the topic `stage-changes` has kept",
    ),
    Metric(
        "rejse_stager_stage_changes_waiting_seconds",
        "gauge",
        (),
        "age of the oldest message that is still to be published; 0: none is",
    ),
    Metric(
        "rejse_stager_freshness_seconds",
        "histogram",
        (),
        "from ingest's receipt to commit, of the oldest record of a batch",
    ),
    Metric("rejse_stager_last_commit_timestamp_seconds", "gauge", (), "when the last batch was committed"),
)
