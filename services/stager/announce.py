"""What consumers are told of changes: the messages of the topic `stage-changes`, in the order of a history.

A transition is told as it is in the history. A refold that superseded transitions is told by a correction
first, which takes back all from one number on, and then by the transitions that stand in their place. So a
message is small however long a history is, and after each one its `to` is where the customer is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from services.stager.assign import Change
from shared.journey.state import Kind, Transition

_encode = msgspec.json.Encoder().encode


class Cause(msgspec.Struct, frozen=True, gc=False):
    """The touchpoint (null: time) and the rule; of a correction the touchpoint that came late."""

    touchpoint: UUID | None
    rule: str | None


class Seqs(msgspec.Struct, frozen=True, gc=False):
    """Transitions by their numbers, both ends included."""

    first: int
    last: int


class TransitionTold(
    msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="transition", rename={"from_": "from"}
):
    """A transition: `at` is when it was true, `known_at` when it became known. `customer` is the customer, or
    the account in a journey about accounts; `run` is the thing's name in one about things, else empty."""

    customer: UUID
    journey: str
    version: int
    run: str
    revision: int
    seq: int
    at: datetime
    known_at: datetime
    change: Kind
    from_: str | None
    from_paused: bool
    to: str
    to_paused: bool
    cause: Cause


class CorrectionTold(
    msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="correction", rename={"from_": "from"}
):
    """The transitions numbered `superseded` did not happen; `added`, which follow one by one, did instead.
    `at` is from when on the history reads otherwise, `revision` that of what follows."""

    customer: UUID
    journey: str
    version: int
    run: str
    revision: int
    at: datetime
    known_at: datetime
    from_: str | None
    from_paused: bool
    to: str | None
    to_paused: bool
    superseded: Seqs
    added: Seqs | None
    cause: Cause


class MergeTold(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="customer_merged"):
    """A customer became one with another, which stays: by which touchpoint, and when it became known. Nothing
    more is told of `customer`."""

    customer: UUID
    into: UUID
    known_at: datetime
    cause: Cause


class SplitTold(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="customer_split"):
    """A customer is one of their own again, or for the first time, and no part of another one any more: by
    which touchpoint's link, which was withdrawn, and when it became known. Nothing that was told of
    `customer` before counts."""

    customer: UUID
    part_of: UUID
    known_at: datetime
    cause: Cause


class ErasureTold(msgspec.Struct, frozen=True, gc=False, tag_field="kind", tag="customer_erased"):
    """A customer was erased, whom the `aliases` had named too. Whoever keeps anything of them has to let it
    go; nothing more is told of any of these ids."""

    customer: UUID
    aliases: Sequence[UUID]
    known_at: datetime


def erased(customer_id: UUID, aliases: Sequence[UUID], now: datetime) -> tuple[UUID, bytes]:
    """The message of a customer who is gone."""
    return customer_id, _encode(ErasureTold(customer_id, aliases, now))


def splits(
    parted: Mapping[UUID, UUID], by: Mapping[UUID, UUID], now: datetime
) -> Iterator[tuple[UUID, bytes]]:
    """The messages of customers that were parts of others, by the other and by the evidence."""
    for customer_id, part_of in parted.items():
        told = SplitTold(customer_id, part_of, now, Cause(by[customer_id], None))
        yield customer_id, _encode(told)


def merges(
    merged: Mapping[UUID, UUID], into: Mapping[UUID, UUID], now: datetime
) -> Iterator[tuple[UUID, bytes]]:
    """The messages of customers that are gone, by evidence and by the customer that stays."""
    for customer_id, touchpoint_id in merged.items():
        told = MergeTold(customer_id, into[customer_id], now, Cause(touchpoint_id, None))
        yield customer_id, _encode(told)


def messages(changes: Iterable[Change], now: datetime) -> Iterator[tuple[UUID, bytes]]:
    """Each message with its customer, JSON without its id, in the order in which they are to be told."""
    for change in changes:
        if change.told and (change.added or change.superseded):
            known_at = change.known_at(now)
            if change.superseded:
                yield change.customer_id, _encode(_correction(change, known_at))
            for transition in change.added:
                yield change.customer_id, _encode(_transition(change, transition, known_at))


def with_id(message: bytes, id_: int) -> bytes:
    """A message with its id, which is known only when it has been stored."""
    return b'{"id":%d,%b' % (id_, message[1:])


def _transition(change: Change, transition: Transition, known_at: datetime) -> TransitionTold:
    definition = change.journey.definition
    return TransitionTold(
        change.customer_id,
        definition.key,
        definition.version,
        change.run,
        change.after.revision,
        transition.seq,
        transition.at,
        known_at,
        transition.kind,
        transition.from_place,
        transition.from_paused,
        transition.to_place,
        transition.to_paused,
        Cause(transition.touchpoint_id, transition.rule),
    )


def _correction(change: Change, known_at: datetime) -> CorrectionTold:
    definition = change.journey.definition
    first = change.superseded[0]
    return CorrectionTold(
        change.customer_id,
        definition.key,
        definition.version,
        change.run,
        change.after.revision,
        min(one.at for one in (first, *change.added[:1])),
        known_at,
        change.before.state.place,
        change.before.state.paused,
        first.from_place,
        first.from_paused,
        _seqs(change.superseded),
        _seqs(change.added) if change.added else None,
        Cause(change.late, None),
    )


def _seqs(transitions: Sequence[Transition]) -> Seqs:
    return Seqs(transitions[0].seq, transitions[-1].seq)
