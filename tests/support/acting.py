"""Which accounts touchpoints are about and who belongs to them, told plainly: each one asks all others.

It shares nothing with what it is held against.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class Saying(NamedTuple):
    """A touchpoint of a customer's timeline: when, its id and type, and the accounts that it names."""

    at: datetime
    id: UUID
    type: str
    names: Set[UUID]


def about_whom(timeline: Sequence[Saying], one: Saying) -> Set[UUID]:
    """The accounts that a touchpoint of a timeline is about."""
    if one.names:
        return one.names
    namings = [other for other in sorted(timeline, key=lambda it: it[:2]) if other.names]
    before = [other for other in namings if other[:2] < one[:2]]
    if not before:
        return namings[0].names if namings else frozenset()
    acts_for: set[UUID] = set()
    for other in before:
        if other.type == "account_left":
            acts_for = acts_for.difference(other.names)
        else:
            acts_for = set(other.names)
    return acts_for


def memberships(timeline: Sequence[Saying]) -> Iterator[tuple[UUID, UUID, datetime, datetime | None]]:
    """The accounts that a customer has ever named: each with the first touchpoint that does, when that was,
    and when the customer left, if they did and have not come back."""
    for account in {account for one in timeline for account in one.names}:
        namings = sorted((one for one in timeline if account in one.names), key=lambda it: it[:2])
        first, last = namings[0], namings[-1]
        yield account, first.id, first.at, last.at if last.type == "account_left" else None
