"""The answers, as they are encoded: their fields are the API's, and the OpenAPI schemas are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from shared.journey.definition import Labels
from shared.journey.proof import ProofRun
from shared.journey.standing import CUSTOMER, About, OpenOverlay, SignalOn, TallyItem, Upcoming
from shared.journey.state import Kind
from shared.store.identities import RefusedLink


class Identity(msgspec.Struct, frozen=True):
    """An identifier that the customer is known by, normalised, and when it was linked."""

    kind: str
    value: str
    linked_at: datetime


class CustomerJourney(msgspec.Struct, frozen=True):
    """Where one run of a journey is; `stage` is null before it has begun. A journey has one run a customer
    (then it is `about` the customer), one an account, or one for each thing of a customer's.

    `observed` are the stages entered in this lap; `inferred` those before them that no touchpoint told of.
    """

    journey: str
    version: int
    labels: Labels
    stage: str | None
    stage_labels: Labels | None
    paused: bool
    entered_at: datetime | None
    furthest_stage: str | None
    lap: int
    observed: Sequence[str]
    inferred: Sequence[str]
    overlays: Sequence[OpenOverlay]
    signals: Sequence[SignalOn]
    tallies: Sequence[TallyItem]
    next: Upcoming | None
    substage: str | None = None
    persona: str | None = None
    about: About = CUSTOMER


class Customer(msgspec.Struct, frozen=True):
    """A customer: the identities, and the stage in every journey, as the store knew them at `as_of`.

    `aliases` are ids of customers that were merged into this one, newest first, at most 100; each names this
    customer for ever.

    Among the journeys are those of the accounts that the customer is a member of. Of a journey about
    accounts or things, the runs that entered a stage last are told, at most 100.
    """

    id: UUID
    created_at: datetime
    as_of: datetime
    identities: Sequence[Identity]
    journeys: Sequence[CustomerJourney]
    aliases: Sequence[UUID]


class Account(msgspec.Struct, frozen=True):
    """An account, and the stage in every journey about accounts, as the store knew them at `as_of`."""

    id: UUID
    account_id: str
    created_at: datetime
    as_of: datetime
    journeys: Sequence[CustomerJourney]


class Member(msgspec.Struct, frozen=True):
    """A customer who acts for an account, or did.

    `touchpoint` is the first that names the account, and happened at `since`; Rejse has known of them
    from `linked_at` on. `until` is when the customer left the account; null: they are a member.
    """

    customer: UUID
    linked_at: datetime
    touchpoint: UUID
    since: datetime | None
    until: datetime | None


class Members(msgspec.Struct, frozen=True):
    """A page of an account's members in the order of their ids; without `next_cursor` it is the last one."""

    id: UUID
    account_id: str
    members: Sequence[Member]
    next_cursor: str | None


class Place(msgspec.Struct, frozen=True):
    """A stage or an exit of a journey."""

    key: str
    labels: Labels


class Proof(msgspec.Struct, frozen=True):
    """Why a customer is where they are in a journey, as the store knew it at one instant: the labels of all
    places, and a proof of each run. There is none while the journey's version is still being staged."""

    customer: UUID
    as_of: datetime
    journey: str
    version: int
    labels: Labels
    stages: Sequence[Place]
    exits: Sequence[Place]
    runs: Sequence[ProofRun]


class TouchpointItem(msgspec.Struct, frozen=True, tag_field="kind", tag="touchpoint"):
    """A touchpoint. `id` is the store's; `source_id` the sender's, unique for its `source`."""

    at: datetime
    id: UUID
    source_id: str
    type: str
    channel: str
    source: str
    owner: str
    sentiment: float | None
    identities: Sequence[str]
    received_at: datetime
    sent_at: datetime | None
    properties: msgspec.Raw
    traits: msgspec.Raw
    context: msgspec.Raw
    consent: msgspec.Raw


class Cause(msgspec.Struct, frozen=True):
    """Why a stage changed: the touchpoint (null: time) and the rule or clock of the definition."""

    touchpoint: UUID | None
    rule: str


class StageChangeItem(
    msgspec.Struct, frozen=True, tag_field="kind", tag="stage_change", rename={"from_": "from"}
):
    """A change of stage, or of its pause; `from` is null where the journey began."""

    at: datetime
    journey: str
    version: int
    change: Kind
    from_: str | None
    to: str
    from_paused: bool
    to_paused: bool
    cause: Cause
    about: About = CUSTOMER


class Timeline(msgspec.Struct, frozen=True):
    """A page of a customer's timeline, newest first; `next_cursor` asks for the next, null on the last."""

    customer: UUID
    items: Sequence[TouchpointItem | StageChangeItem]
    next_cursor: str | None


class HistoryItem(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """A change of stage, or of what stands beside it, in both times: `at` is when it was true, from
    `recorded_at` on Rejse knew it, and from `superseded_at` on it knew better (null: it stands). `revision`
    says how often the history had been folded anew by then."""

    at: datetime
    change: Kind
    from_: str | None
    to: str
    from_paused: bool
    to_paused: bool
    cause: Cause
    revision: int
    recorded_at: datetime
    superseded_at: datetime | None


class History(msgspec.Struct, frozen=True):
    """A customer's history in a journey up to `at`, as Rejse knew it at `known_at`, newest first. `stage` is
    the one at `at`; null: the journey had not begun, or Rejse didn't know yet."""

    customer: UUID
    journey: str
    version: int
    at: datetime
    known_at: datetime
    stage: str | None
    stage_labels: Labels | None
    paused: bool
    changes: Sequence[HistoryItem]
    next_cursor: str | None


class IdentityConflicts(msgspec.Struct, frozen=True):
    """A page of the links that were refused, newest first by `first_at`; `next_cursor` asks for the next,
    null on the last."""

    conflicts: Sequence[RefusedLink]
    next_cursor: str | None


class Article(msgspec.Struct, frozen=True):
    """The article that a journey is from."""

    number: str
    language: str
    title: str | None = None
    by: str | None = None


class JourneyItem(msgspec.Struct, frozen=True):
    """An active journey definition: its stages in order, its exits, and what a run is about: `customer`,
    `account`, or the name of the property that names a thing."""

    key: str
    version: int
    labels: Labels
    stages: Sequence[Place]
    exits: Sequence[Place]
    article: Article | None = None
    subject: str = "customer"


class JourneyDefinition(msgspec.Struct, frozen=True):
    """An active journey definition, whole: the text of its YAML file, and the same as data."""

    key: str
    version: int
    hash: str
    source: str
    definition: msgspec.Raw


class Journeys(msgspec.Struct, frozen=True):
    """The active journeys by key."""

    journeys: Sequence[JourneyItem]


class PlaceCount(msgspec.Struct, frozen=True):
    """How many runs are in a stage or an exit (one a customer, unless the journey is about accounts or
    things), and how many of them are paused there."""

    stage: str
    kind: Literal["stage", "exit"]
    labels: Labels
    count: int
    paused: int


class Counts(msgspec.Struct, frozen=True):
    """The runs in each stage and exit of a journey, in the definition's order, at a time, as Rejse knew it at
    `known_at`."""

    journey: str
    version: int
    at: datetime
    known_at: datetime
    stages: Sequence[PlaceCount]


class Flow(msgspec.Struct, frozen=True):
    """How often runs went from one place to another; `from` is null where the journey began."""

    origin: str | None = msgspec.field(name="from")
    to: str
    count: int


class Flows(msgspec.Struct, frozen=True):
    """All moves between the stages and exits of a journey up to a time, as Rejse knew it at `known_at`;
    pauses are none."""

    journey: str
    version: int
    at: datetime
    known_at: datetime
    flows: Sequence[Flow]


class TypeItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A type of the catalogue: what it is about, what it means, where it usually happens, and what Segment,
    GA4 and Shopify call it. `sentiment` is absent where it depends, `content` where it is none."""

    type: str
    about: str
    meaning: str
    channels: Sequence[str]
    segment: Sequence[str]
    ga4: Sequence[str]
    shopify: Sequence[str]
    sentiment: float | None = None
    content: Literal["soft", "hard"] | None = None


class UnknownType(msgspec.Struct, frozen=True):
    """A type that the catalogue doesn't have: how many touchpoints of it are stored, and since when the
    latest is."""

    type: str
    count: int
    last_stored_at: datetime


class TouchpointTypes(msgspec.Struct, frozen=True):
    """The catalogue of touchpoint types in its order, and the unknown types that came, the most frequent
    first. `unknown_others` counts the touchpoints of those that are not told by name."""

    types: Sequence[TypeItem]
    unknown: Sequence[UnknownType]
    unknown_others: int


class ProblemAnswer(msgspec.Struct, frozen=True):
    """An error (RFC 9457). `code` is stable; `errors` names each wrong parameter, or each wrong line of a
    definition; `request_id` finds the line in the log."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: Sequence[Mapping[str, str | int]] | msgspec.UnsetType = msgspec.UNSET
    request_id: UUID | msgspec.UnsetType = msgspec.UNSET
