"""The tables of who is who, and of who was erased."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)

from shared.store.tables.metadata import TIME, metadata

_WITHHELD = text("withdrawn_at IS NOT NULL OR unsettled_at IS NOT NULL")
_UNSETTLED = text("unsettled_at IS NOT NULL")

customers = Table(
    "customers",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("created_at", TIME, nullable=False),
    Column("relinked", BigInteger, comment="the transaction that altered its identities last"),
    Column(
        "is_member",
        Boolean,
        server_default=text("false"),
        comment="whether it has named an account; null: it has, and its timeline is to be told anew",
    ),
    Column("erased_at", TIME, comment="since when nobody may know of it any more; it is on its way out"),
    Index("customers_outdated_idx", "id", postgresql_where=text("is_member IS NULL")),
)

customer_aliases = Table(
    "customer_aliases",
    metadata,
    Column("alias_id", Uuid, primary_key=True, comment="a customer that was merged into another one"),
    Column("customer_id", Uuid, nullable=False),
    Column("touchpoint_id", Uuid, nullable=False, comment="the touchpoint that merged them: the evidence"),
    Column("merged_at", TIME, nullable=False),
    Column("founded_by", Text, comment="the identity that it began with; null: not known"),
    Column("created_at", TIME, comment="when it became a customer; null: not known"),
    Index("customer_aliases_customer_id_idx", "customer_id"),
)

identities = Table(
    "identities",
    metadata,
    Column("identity", Text, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("touchpoint_id", Uuid, nullable=False, comment="the touchpoint that linked it: the evidence"),
    Column("linked_at", TIME, nullable=False),
    Column("since", TIME, comment="event time of the evidence; null: not known"),
    Column("handed_over", Boolean, nullable=False, server_default=text("false")),
    Index("identities_customer_id_idx", "customer_id"),
)

identity_links = Table(
    "identity_links",
    metadata,
    Column("identity", Text, primary_key=True, comment="the stronger one"),
    Column("other", Text, primary_key=True),
    Column("touchpoint_id", Uuid, nullable=False, comment="the first that told of both: the evidence"),
    Column("occurred_at", TIME, nullable=False),
    Column("linked_at", TIME, nullable=False),
    Column("withdrawn_at", TIME, comment="since when it links no more; null: it does"),
    Column("unsettled_at", TIME, comment="since when that is to be carried out; null: it is"),
    Index("identity_links_other_idx", "other"),
    Index("identity_links_withheld_idx", "identity", "other", postgresql_where=_WITHHELD),
    Index(
        "identity_links_unsettled_at_idx", "unsettled_at", "identity", "other", postgresql_where=_UNSETTLED
    ),
)

parted_ends = Table(
    "parted_ends",
    metadata,
    Column("identity", Text, primary_key=True),
    Column("other", Text, primary_key=True),
    Column("place", Integer, primary_key=True, comment="of those who had both when the link was withdrawn"),
    Column("name", Text, primary_key=True, comment="one of both"),
    Column("customer_id", Uuid, nullable=False, comment="whose it was, and what they had then is now"),
    ForeignKeyConstraint(
        ["identity", "other"], ["identity_links.identity", "identity_links.other"], ondelete="CASCADE"
    ),
    Index("parted_ends_customer_id_idx", "customer_id"),
)

identity_holders = Table(
    "identity_holders",
    metadata,
    Column("identity", Text, primary_key=True),
    Column("since", TIME, primary_key=True),
    Column("touchpoint_id", Uuid, primary_key=True, comment="by which it was handed over"),
    Column("customer_id", Uuid, nullable=False),
    Index("identity_holders_customer_id_idx", "customer_id"),
)

identity_conflicts = Table(
    "identity_conflicts",
    metadata,
    Column("customer_id", Uuid, primary_key=True, comment="the customer to whom the link was refused"),
    Column("identity", Text, primary_key=True),
    Column("kind", Text, primary_key=True, comment="of which there would have been too many"),
    Column("other_id", Uuid, comment="whose the identity was then; null: nobody's"),
    Column("touchpoint_id", Uuid, nullable=False, comment="the latest"),
    Column("count", BigInteger, nullable=False),
    Column("first_at", TIME, nullable=False),
    Column("last_at", TIME, nullable=False),
    Index("identity_conflicts_first_at_idx", "first_at", "customer_id", "identity", "kind"),
    Index("identity_conflicts_identity_idx", "identity"),
)

named_pairs = Table(
    "named_pairs",
    metadata,
    Column("identity", Text, primary_key=True, comment="the strongest of a touchpoint, whose it is"),
    Column("digest", LargeBinary, primary_key=True, comment="of another one that it named and did not link"),
    Index("named_pairs_digest_idx", "digest"),
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", Uuid, primary_key=True, comment="the customer's"),
    Column("erased_at", TIME, nullable=False, unique=True),
    Column("waits_since", TIME, comment="since when it is to be carried out; null: it is"),
    Column("carried_out_at", TIME),
    Column("touchpoints", BigInteger, nullable=False, comment="so many were removed"),
    Column("named_by", ARRAY(Uuid), nullable=False, comment="whose touchpoints may name it still"),
    Index("erasures_waits_since_idx", "waits_since", "id", postgresql_where=text("waits_since IS NOT NULL")),
)

erased_aliases = Table(
    "erased_aliases",
    metadata,
    Column("id", Uuid, primary_key=True, comment="that named the customer too"),
    Column("erasure_id", Uuid, nullable=False),
)

erased_identities = Table(
    "erased_identities",
    metadata,
    Column("erasure_id", Uuid, primary_key=True),
    Column("digest", LargeBinary, primary_key=True, comment="of the identity, which is nowhere"),
    Column("begin_at", TIME, primary_key=True, comment="with begin_id: from where on it was theirs"),
    Column("begin_id", Uuid, primary_key=True),
    Column("end_at", TIME, nullable=False, comment="with end_id: until where"),
    Column("end_id", Uuid, nullable=False),
    Column("shared", Boolean, nullable=False, comment="whether it is somebody else's at other times"),
    Index("erased_identities_digest_idx", "digest"),
)
