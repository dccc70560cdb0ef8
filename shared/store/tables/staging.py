"""The tables of touchpoints, journeys and stages, and of the stagers' and the API's own business."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from shared.store.tables.metadata import TIME, metadata

touchpoints = Table(
    "touchpoints",
    metadata,
    Column("customer_id", Uuid, primary_key=True),
    Column("occurred_at", TIME, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("body", LargeBinary, nullable=False, comment="the record of the event log, byte for byte"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Uuid, primary_key=True, comment="the identity hashed"),
    Column("identity", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
)

account_members = Table(
    "account_members",
    metadata,
    Column("customer_id", Uuid, primary_key=True),
    Column("account_id", Uuid, primary_key=True),
    Column("touchpoint_id", Uuid, nullable=False, comment="the first that names the account: the evidence"),
    Column("linked_at", TIME, nullable=False),
    Column("since", TIME, comment="event time of the evidence; null: not known"),
    Column("until", TIME, comment="when the customer left the account; null: it is a member"),
    Index("account_members_account_id_idx", "account_id", "customer_id"),
)

account_touchpoints = Table(
    "account_touchpoints",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("occurred_at", TIME, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False, comment="under whom the touchpoint is filed"),
    Column(
        "leaves",
        Boolean,
        server_default=text("false"),
        comment="whether it names the account to leave it; null: it names none, its customer acts for it",
    ),
    Index("account_touchpoints_customer_id_idx", "customer_id", "leaves", "occurred_at", "id"),
)

touchpoint_ids = Table(
    "touchpoint_ids",
    metadata,
    Column("id", Uuid, primary_key=True, comment="the sender's id hashed with its source"),
    Column("body_hash", BigInteger, nullable=False),
)

journey_definitions = Table(
    "journey_definitions",
    metadata,
    Column("key", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("hash", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("links", Text, nullable=False, comment="in JSON, the rules by which other journeys start it"),
    Column("wanted_at", TIME, comment="since when it is on its way to be active; null: it is not"),
    Column("activated_at", TIME, comment="since when it is the version that is read; null: it is not"),
    Column("retired_at", TIME, comment="when it was folded last: its states are of then"),
    Column("reached", Uuid, comment="how far through all customers its backfill is, or its clearing"),
    Column("customers_done", BigInteger),
    Column("customers_total", BigInteger, comment="how many there were at the start, or an estimate"),
    Column("cleared_at", TIME, comment="since when a retired version has no states; null: it may have some"),
    Index(
        "journey_definitions_active_idx",
        "key",
        unique=True,
        postgresql_where=text("activated_at IS NOT NULL"),
    ),
    Index(
        "journey_definitions_wanted_idx", "key", unique=True, postgresql_where=text("wanted_at IS NOT NULL")
    ),
)

journeys_in_force = Table(
    "journeys_in_force",
    metadata,
    Column("one", Boolean, primary_key=True, comment="there is one row"),
    Column("revision", BigInteger, nullable=False, comment="raised with every change of what is folded"),
)

journey_states = Table(
    "journey_states",
    metadata,
    Column("customer_id", Uuid, primary_key=True, comment="or the account's"),
    Column("run", Text, primary_key=True, comment="the thing it is about; empty: the customer, the account"),
    Column("due_at", TIME, comment="time moves none of the states before; null: it never will"),
    Column("states", LargeBinary, nullable=False, comment="in all journeys: shared.journey.state.Kept"),
    Column("entered_at", TIME, comment="of a thing, when a state of it last entered a place"),
    Column("updated_at", TIME, nullable=False),
    Index("journey_states_due_at_idx", "due_at", postgresql_where=text("due_at IS NOT NULL")),
)

stage_transitions = Table(
    "stage_transitions",
    metadata,
    Column("customer_id", Uuid, primary_key=True),
    Column("journey_key", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("revision", Integer, primary_key=True),
    Column("at", TIME, nullable=False),
    Column("kind", Text, nullable=False),
    Column("from_stage", Text),
    Column("from_paused", Boolean, nullable=False),
    Column("to_stage", Text, nullable=False),
    Column("to_paused", Boolean, nullable=False),
    Column("touchpoint_id", Uuid, comment="the cause; null when it was time"),
    Column("rule", Text, nullable=False),
    Column("recorded_at", TIME, nullable=False),
    Column("superseded_at", TIME),
    Column("run", Text, primary_key=True),
    Index(
        "stage_transitions_standing_idx",
        "at",
        "journey_key",
        "version",
        postgresql_where=text("superseded_at IS NULL"),
    ),
    Index(
        "stage_transitions_late_idx",
        "journey_key",
        "version",
        "recorded_at",
        "at",
        postgresql_where=text("superseded_at IS NULL AND recorded_at - at > interval '1 hour'"),
    ),
    Index(
        "stage_transitions_early_idx",
        "journey_key",
        "version",
        "at",
        postgresql_where=text("superseded_at IS NULL AND at - recorded_at > interval '1 hour'"),
    ),
    Index(
        "stage_transitions_superseded_idx",
        "journey_key",
        "version",
        "superseded_at",
        postgresql_where=text("superseded_at IS NOT NULL"),
    ),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("customer_id", Uuid, primary_key=True),
    Column("journey_key", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("at", TIME, primary_key=True),
    Column("id", Uuid, primary_key=True, comment="the touchpoint after which the fold had this state"),
    Column("state", LargeBinary, nullable=False),
)

stage_counts = Table(
    "stage_counts",
    metadata,
    Column("journey_key", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("stage", Text, primary_key=True),
    Column("paused", Boolean, primary_key=True),
    Column("shard", SmallInteger, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

stage_flows = Table(
    "stage_flows",
    metadata,
    Column("journey_key", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("span", Text, primary_key=True, comment="hour, day or month: each sums up the same flows"),
    Column("since", TIME, primary_key=True, comment="the begin of the span of event time, in UTC"),
    Column("from_stage", Text, primary_key=True, comment="empty: the journey began"),
    Column("from_paused", Boolean, primary_key=True),
    Column("to_stage", Text, primary_key=True),
    Column("to_paused", Boolean, primary_key=True),
    Column("shard", SmallInteger, primary_key=True),
    Column("count", BigInteger, nullable=False),
)

unknown_types = Table(
    "unknown_types",
    metadata,
    Column("shard", SmallInteger, primary_key=True),
    Column("type", Text, primary_key=True, comment="empty: all that there was no room for by name"),
    Column("count", BigInteger, nullable=False),
    Column("recorded_at", TIME, nullable=False, comment="when the latest of them was stored"),
)

stager_offsets = Table(
    "stager_offsets",
    metadata,
    Column("log_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("tail_crc", BigInteger, comment="of the record before next_offset"),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("halted", Text, comment="why it is not staged: the log is another one; null: it is staged"),
)

partition_resumptions = Table(
    "partition_resumptions",
    metadata,
    Column("log_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("stood_at", BigInteger, nullable=False),
    Column("halted", Text, nullable=False),
    Column("next_offset", BigInteger, nullable=False, comment="negative: the log's beginning"),
    Column("resumed_by", Text, nullable=False),
    Column("recorded_at", TIME, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("log_id", Text, primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the value"),
    Column("reason", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("recorded_at", TIME, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column(
        "id", BigInteger, Identity(always=True), primary_key=True, comment="rises with a customer's history"
    ),
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False, comment="the message without its id"),
    Column("recorded_at", TIME, nullable=False, server_default=text("now()")),
    Column(
        "to_all",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether it goes into each partition",
    ),
)

sources = Table(
    "sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("created_at", TIME, nullable=False),
    Column("region", Text, comment="ISO 3166-1 alpha-2, of phone numbers that have no country code"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("digest", LargeBinary, primary_key=True, comment="SHA-256 of the key"),
    Column("id", Text, nullable=False, unique=True),
    Column("scope", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("revoked_at", TIME),
)
