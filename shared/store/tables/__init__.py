"""The tables, as SQLAlchemy Core knows them. The migrations make them; a test holds the two together.

Times are event times unless a name says otherwise (`recorded_at`, `superseded_at`, `received_at`). A *place*
is a stage or an exit of a journey. Counters are kept as deltas, a row per writer shard, and summed on
reading, so that writers don't wait for one another.

A *run* is one customer's way through a journey, an account's, or that of a thing of a customer's, which it is
named for. States and transitions are by run; those of an account have its id for the customer's.
"""

from __future__ import annotations

from shared.store.tables.identity import identity_conflicts
from shared.store.tables.metadata import metadata
from shared.store.tables.staging import (
    account_members,
    checkpoints,
    journey_states,
    stage_transitions,
    touchpoints,
)

__all__ = ["BY_CUSTOMER", "metadata"]

BY_CUSTOMER = (
    touchpoints,
    account_members,
    journey_states,
    stage_transitions,
    checkpoints,
    identity_conflicts,
)
"""The tables whose rows belong to one customer: their keys begin with `customer_id`."""
