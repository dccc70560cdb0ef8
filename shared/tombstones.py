"""What is kept of an erased customer's identities: enough to know them again, and nothing to read.

A *tombstone* has the digest of an identity and the part of event time in which it was the customer's. Where
the identity was theirs alone, that is all time up to the erasure, and no touchpoint from then that names it
is kept. One that went from hand to hand is another's at other times: of it the touchpoints are meant that
belonged to the customer by it, being their strongest identity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from shared.journey.touch import FIRST_POSITION, Position
from shared.touchpoint import identifies_person

_AFTER = timedelta(microseconds=1)


class Held(NamedTuple):
    """Who has an identity that was handed over, from a touchpoint on."""

    since: Position
    customer_id: UUID


class Tombstone(NamedTuple):
    """An erased identity, from the position `begin` on and before `end`; `shared`: not theirs alone."""

    digest: bytes
    begin: Position
    end: Position
    shared: bool


def digest_of(identity: str) -> bytes:
    """What stands for an identity that must not be read. Whoever guesses it can tell."""
    return blake2b(identity.encode(), digest_size=32, person=b"rejse.erased").digest()


def tombstones_of(
    customer_id: UUID, alone: Collection[str], shared: Mapping[str, Sequence[Held]], erased_at: datetime
) -> Iterator[Tombstone]:
    """The tombstones of a customer, who has or had identities `alone`, and others by turns with `shared`
    holders, given in order."""
    end_of_all: Position = (erased_at + _AFTER, FIRST_POSITION[1])
    for identity in alone:
        yield Tombstone(digest_of(identity), FIRST_POSITION, end_of_all, shared=False)
    for identity, holders in shared.items():
        for number, held in enumerate(holders):
            if held.customer_id != customer_id:
                continue
            begin = held.since if number else FIRST_POSITION
            end = min([end_of_all, *(one.since for one in holders[number + 1 : number + 2])])
            if begin < end:
                yield Tombstone(digest_of(identity), begin, end, shared=True)


def is_erased(
    identities: Sequence[str], position: Position, tombstones: Mapping[bytes, Sequence[Tombstone]]
) -> bool:
    """Whether a touchpoint with these identities, the strongest first, is an erased customer's."""
    people = [one for one in identities if identifies_person(one)]
    return any(
        one.begin <= position < one.end and (number == 0 or not one.shared)
        for number, identity in enumerate(people)
        for one in tombstones.get(digest_of(identity), ())
    )
