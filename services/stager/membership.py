"""Which accounts a customer's touchpoints are about: the rule, without the store.

A touchpoint that names accounts is about those. One that names none is about those that its customer *acts
for*: the accounts that the latest touchpoint before it named, less those that were left since. What lies
before the first naming is about the accounts of that one, as a device's past is the first login's.

So it hangs on the order of the timeline alone, and a naming that comes late alters what lies behind it, up to
the next one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias
from uuid import UUID

from shared.journey.touch import FIRST_POSITION, LAST_POSITION, Position

LEAVING = "account_left"
"""The type of touchpoints by which a customer leaves the accounts that they name."""

Accounts: TypeAlias = frozenset[UUID]
_NONE: Accounts = frozenset()


class Said(NamedTuple):
    """What a touchpoint says of accounts: which it names, and whether its customer leaves those."""

    position: Position
    names: Accounts
    leaves: bool


class Span(NamedTuple):
    """The part of a timeline between two positions, and whom its customer acts for before it; None: no
    account has been named yet."""

    begin: Position
    end: Position
    acts_for: Accounts | None


WHOLE = Span(FIRST_POSITION, LAST_POSITION, None)


@dataclass(slots=True)
class Met:
    """What new touchpoints say: the accounts that each is about, where in the timeline others are about other
    accounts now (None: nowhere), and of which accounts the customer may have become a member, or is none any
    more."""

    about: list[Accounts] = field(default_factory=list)
    altered: Span | None = None
    members_of: set[UUID] = field(default_factory=set)


def about(timeline: Iterable[Said], acts_for: Accounts | None = None) -> list[Accounts]:
    """The accounts that each touchpoint of a timeline is about, or of a part of one, given whom its customer
    acts for before it."""
    found: list[Accounts] = []
    for one in timeline:
        if one.names and acts_for is None:
            found = [one.names] * len(found)
        acts_for = _acts_for(acts_for, one)
        found.append(one.names or acts_for or _NONE)
    return found


def meet(known: Sequence[Said], new: Sequence[Said]) -> Met:
    """What new touchpoints of a customer say, in order, given those of before that name accounts: all from
    the last one before them that leaves none, up to the first such one behind them."""
    if len(known) == 1 and _says_nothing_new(known[0], new):
        return Met([known[0].names] * len(new))
    met = Met()
    timeline = sorted((*known, *new))
    is_new = {one.position for one in new}
    met.about = [
        accounts for one, accounts in zip(timeline, about(timeline), strict=True) if one.position in is_new
    ]
    acts_for: Accounts | None = None
    for one in timeline:
        before, acts_for = acts_for, _acts_for(acts_for, one)
        if one.position not in is_new:
            if met.altered and met.altered.end == LAST_POSITION and not one.leaves:
                met.altered = met.altered._replace(end=one.position)
        elif one.names:
            alters = before is None or acts_for != before
            if alters and met.altered:
                met.altered = met.altered._replace(end=LAST_POSITION)
            elif alters:
                met.altered = WHOLE if before is None else Span(one.position, LAST_POSITION, acts_for)
            if alters or one.leaves:
                met.members_of |= one.names
    return met


def _says_nothing_new(latest: Said, new: Sequence[Said]) -> bool:
    """Whether touchpoints lie behind the latest naming and name no others, as nearly all do."""
    names = latest.names
    return not latest.leaves and all(
        one.position > latest.position and (not one.names or (one.names == names and not one.leaves))
        for one in new
    )


def _acts_for(before: Accounts | None, one: Said) -> Accounts | None:
    if not one.names:
        return before
    return (before or _NONE) - one.names if one.leaves else one.names
