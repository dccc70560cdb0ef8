"""Who a touchpoint belongs to: the rules, without the store.

A touchpoint belongs to the customer of its strongest identity, and its other identities are linked to that
one, the stronger ones first. A link makes two customers one, and the older of them stays. These rules hold
it back:

- *Limits.* A customer has at most so many identities of a kind. Of a unique kind it is one: two logins are
  never one customer. A link that would exceed a limit is refused.
- *Withdrawn links.* Two identities whose link a person has withdrawn are not linked by a touchpoint again.
- *Handing over.* A device or a number may go from hand to hand. Where a login meets one that is another
  login's, it belongs to the new login from that touchpoint's event time on, and what it did before stays
  where it is. So such an identity belongs to whom it was handed over to last before the time that is asked
  for; before the first time, to the first.

Without a link that a limit holds back, customers are the connected components of what was linked, whatever
the order. With one, the order in which touchpoints are filed decides: what is linked first stays linked.

An account groups customers and links none.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import msgspec

from shared.ids import NewId
from shared.journey.touch import FIRST_POSITION, LAST_POSITION, Position
from shared.touchpoint import identifies_person, identity_kind


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The identities that came together in one touchpoint, the strongest first."""

    touchpoint_id: UUID
    at: datetime
    identities: tuple[str, ...]


class Link(msgspec.Struct, frozen=True, gc=False):
    """A new fact: this identity is this customer's, and this touchpoint is the evidence."""

    identity: str
    customer_id: UUID
    touchpoint_id: UUID
    at: datetime


class Pair(msgspec.Struct, frozen=True, gc=False):
    """Two identities that a touchpoint links, the stronger one first."""

    identity: str
    other: str
    touchpoint_id: UUID
    at: datetime


class Holder(msgspec.Struct, frozen=True, gc=False, order=True):
    """Who has an identity that was handed over, from a touchpoint on."""

    since: datetime
    touchpoint_id: UUID
    customer_id: UUID

    @property
    def position(self) -> Position:
        return (self.since, self.touchpoint_id)


class Handover(msgspec.Struct, frozen=True, gc=False):
    """An identity goes from one customer to another, from the position `begin` on and before `end`.

    `latest`: the holder has it now, too. `first` is the holder of before, if it was never handed over yet.
    """

    identity: str
    holder: Holder
    giver_id: UUID
    begin: Position
    end: Position
    latest: bool
    first: Holder | None


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A link that was refused: to this customer, because there would be too many identities of a kind. The
    identity is another customer's; None: nobody's yet. The touchpoint goes with its strongest identity."""

    customer_id: UUID
    strongest: str
    identity: str
    kind: str
    other_id: UUID | None
    touchpoint_id: UUID


_Fact = TypeVar("_Fact", Link, Holder, Refusal)


OTHERS = "*"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many identities of a kind a customer may have (under `OTHERS` those of a kind without a name here),
    and which kinds may be handed over."""

    of_kinds: Mapping[str, int]
    handed_over: Collection[str]

    def of(self, kind: str) -> int:
        """The most identities of a kind that a customer may have."""
        return self.of_kinds.get(kind) or self.of_kinds[OTHERS]

    def exceeded(self, identities: Iterable[str]) -> str | None:
        """The kind of which there are too many, a unique kind before others; None: there is none."""
        numbers = Counter(map(identity_kind, identities))
        found = [kind for kind, number in numbers.items() if number > self.of(kind)]
        return min(found, key=lambda kind: (self.of(kind), kind), default=None)


LIMITS = Limits(
    {"user_id": 1, "loyalty_id": 5, "email": 5, "phone": 5, "anonymous_id": 100, OTHERS: 5},
    handed_over=("anonymous_id", "phone"),
)
"""Those of Segment Unify (one `user_id`, five of most kinds), with more devices: browsers forget theirs.
https://segment.com/docs/unify/identity-resolution/identity-resolution-settings/"""


@dataclass(frozen=True, slots=True)
class Known:
    """What the store says of the identities of some claims.

    `owners` has those that are somebody's, with who has each now; `holders` those that were handed over, with
    who had each when, in order, at least from the claims' times on. `members` has all identities of the
    customers that `gaining` names, with what made each theirs. `withheld` has the pairs, the stronger one
    first, that no touchpoint links.
    """

    owners: Mapping[str, UUID]
    holders: Mapping[str, Sequence[Holder]] = field(default_factory=dict)
    members: Mapping[UUID, Mapping[str, Link]] = field(default_factory=dict)
    withheld: Collection[tuple[str, str]] = frozenset()


@dataclass(slots=True)
class Filing:
    """The customer of each claim, in the claims' order, and what that taught."""

    customer_ids: Sequence[UUID] = ()
    new_customers: Sequence[UUID] = ()
    new_links: list[Link] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    merged: dict[UUID, UUID] = field(default_factory=dict)
    """The touchpoint by which a customer of the store became one with another, by the one that goes."""
    into: Mapping[UUID, UUID] = field(default_factory=dict)
    """The customer that stays, by the one that goes."""
    handovers: list[Handover] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    withheld: int = 0
    """Links that were withdrawn, and named again."""
    altered: Collection[UUID] = ()
    """The customers of the store that stay and have other identities now."""
    accounts: list[tuple[int, str]] = field(default_factory=list)
    """The claims, by number, that name an account, each once for every one that it names."""


def gaining(claims: Iterable[Claim], known: Known) -> set[UUID]:
    """The customers whose identities decide about links of these claims."""
    found: set[UUID] = set()
    for claim in claims:
        if len(claim.identities) > 1:
            owners = {_owner(known.owners, known.holders, one, claim) for one in _linking(claim)}
            if len(owners) > 1:
                found |= {one for one in owners if one is not None}
    return found


def file(claims: Sequence[Claim], known: Known, limits: Limits, new_id: NewId) -> Filing:
    """File claims in their order; what one teaches counts for the next."""
    return _Clerk(known, limits, new_id).file(claims)


class _Clerk:
    """Files claims one by one. Customers that have become one are looked up by `_root`."""

    def __init__(self, known: Known, limits: Limits, new_id: NewId) -> None:
        self._limits = limits
        self._withheld = known.withheld
        self._new_id = new_id
        self._owners = dict(known.owners)
        self._holders = {identity: list(holders) for identity, holders in known.holders.items()}
        self._members = {customer_id: dict(members) for customer_id, members in known.members.items()}
        self._parents: dict[UUID, UUID] = {}
        self._new: set[UUID] = set()
        self._altered: set[UUID] = set()
        self._filing = Filing()

    def file(self, claims: Sequence[Claim]) -> Filing:
        filing = self._filing
        filing.customer_ids = [self._file(number, claim) for number, claim in enumerate(claims)]
        if filing.handovers:
            # A touchpoint may have been handed over by one that came after it.
            filing.customer_ids = [self._holder_of(claim) for claim in claims]
        filing.new_customers = sorted(one for one in self._new if one not in self._parents)
        filing.into = {one: self._root(one) for one in filing.merged}
        # Without a merge everything is told of customers that stay.
        if self._parents:
            filing.customer_ids = [self._root(one) for one in filing.customer_ids]
            filing.new_links = [self._told_of_roots(link) for link in filing.new_links]
            filing.refusals = [self._told_of_roots(refusal) for refusal in filing.refusals]
            filing.handovers = [
                msgspec.structs.replace(
                    one,
                    giver_id=self._root(one.giver_id),
                    holder=self._told_of_roots(one.holder),
                    first=one.first and self._told_of_roots(one.first),
                )
                for one in filing.handovers
            ]
        filing.altered = {self._root(one) for one in self._altered} - self._new
        return filing

    def _told_of_roots(self, fact: _Fact) -> _Fact:
        return msgspec.structs.replace(fact, customer_id=self._root(fact.customer_id))

    def _file(self, number: int, claim: Claim) -> UUID:
        identities = claim.identities
        # Nearly every touchpoint is one of somebody known who says nothing new.
        if len(identities) == 1 and identities[0] not in self._holders:
            return self._owners.get(identities[0]) or self._begin(identities[0], claim)
        if len(identities) > 1:
            linking = list(_linking(claim))
            if len(linking) < len(identities):
                accounts = [one for one in identities if not identifies_person(one)]
                self._filing.accounts += [(number, one) for one in accounts]
            identities = tuple(linking)
        customer_id = self._owner(identities[0], claim)
        if customer_id is None:
            customer_id = self._begin(identities[0], claim)
        for identity in identities[1:]:
            customer_id = self._link(customer_id, identities[0], identity, claim)
        return customer_id

    def _holder_of(self, claim: Claim) -> UUID:
        found = self._owner(next(_linking(claim)), claim)
        assert found is not None
        return found

    def _owner(self, identity: str, claim: Claim) -> UUID | None:
        found = _owner(self._owners, self._holders, identity, claim)
        return None if found is None else self._root(found)

    def _begin(self, identity: str, claim: Claim) -> UUID:
        customer_id = self._new_id()
        self._new.add(customer_id)
        self._members[customer_id] = {}
        self._take(customer_id, identity, claim)
        return customer_id

    def _take(self, customer_id: UUID, identity: str, claim: Claim) -> None:
        """Let an identity that is nobody's be a customer's."""
        link = Link(identity, customer_id, claim.touchpoint_id, claim.at)
        self._owners[identity] = customer_id
        self._members[customer_id][identity] = link
        self._filing.new_links.append(link)
        self._altered.add(customer_id)

    def _link(self, customer_id: UUID, strongest: str, identity: str, claim: Claim) -> UUID:
        """Link an identity to the customer of the strongest one; the customer that both have then."""
        other_id = self._owner(identity, claim)
        if other_id is None:
            if kind := self._limits.exceeded((*self._members[customer_id], identity)):
                self._refuse(customer_id, strongest, identity, kind, None, claim)
                return customer_id
            self._take(customer_id, identity, claim)
        elif other_id != customer_id:
            if (strongest, identity) in self._withheld:
                self._filing.withheld += 1
                return customer_id
            kind = self._limits.exceeded((*self._members[customer_id], *self._members[other_id]))
            if kind is None:
                customer_id = self._merge(customer_id, other_id, claim)
            elif not self._hand_over(customer_id, strongest, identity, kind, other_id, claim):
                return customer_id
        self._filing.pairs.append(Pair(strongest, identity, claim.touchpoint_id, claim.at))
        return customer_id

    def _refuse(
        self, customer_id: UUID, strongest: str, identity: str, kind: str, other_id: UUID | None, claim: Claim
    ) -> None:
        self._filing.refusals.append(
            Refusal(customer_id, strongest, identity, kind, other_id, claim.touchpoint_id)
        )

    def _merge(self, one: UUID, other: UUID, claim: Claim) -> UUID:
        """Let two customers be one: the older stays, and one that the store has before one that is new."""
        stays, goes = sorted((one, other), key=lambda id_: (id_ in self._new, id_))
        self._parents[goes] = stays
        self._members[stays] |= self._members.pop(goes)
        self._altered.add(stays)
        if goes not in self._new:
            self._filing.merged[goes] = claim.touchpoint_id
        return stays

    def _hand_over(
        self, customer_id: UUID, strongest: str, identity: str, kind: str, giver_id: UUID, claim: Claim
    ) -> bool:
        """Let an identity go from hand to hand, or refuse the link."""
        kind_of = identity_kind(identity)
        full = self._limits.exceeded((*self._members[customer_id], identity))
        if self._limits.of(kind) > 1 or kind_of not in self._limits.handed_over or full:
            self._refuse(customer_id, strongest, identity, full or kind, giver_id, claim)
            return False
        first = None
        if identity not in self._holders:
            # Whoever it was first known by: before that, it is theirs too.
            link = self._members[giver_id][identity]
            first = Holder(link.at, link.touchpoint_id, giver_id)
            self._holders[identity] = [first]
        holders = self._holders[identity]
        holder = Holder(claim.at, claim.touchpoint_id, customer_id)
        insort(holders, holder)
        at = holders.index(holder)
        latest = at == len(holders) - 1
        begin = holder.position if at else FIRST_POSITION
        end = LAST_POSITION if latest else holders[at + 1].position
        self._filing.handovers.append(Handover(identity, holder, giver_id, begin, end, latest, first))
        if latest:
            self._owners[identity] = customer_id
            self._members[customer_id][identity] = Link(identity, customer_id, claim.touchpoint_id, claim.at)
            self._members[giver_id].pop(identity, None)
        self._altered |= {customer_id, giver_id}
        return True

    def _root(self, customer_id: UUID) -> UUID:
        while (parent := self._parents.get(customer_id)) is not None:
            customer_id = parent
        return customer_id


def holder_at(holders: Sequence[Holder], at: datetime, touchpoint_id: UUID) -> UUID:
    """Who has an identity at a touchpoint, of those that it was handed over to, in order."""
    number = bisect_right(holders, (at, touchpoint_id), key=lambda one: one.position)
    return holders[max(number - 1, 0)].customer_id


def _owner(
    owners: Mapping[str, UUID], holders: Mapping[str, Sequence[Holder]], identity: str, claim: Claim
) -> UUID | None:
    found = owners.get(identity)
    if found is not None and identity in holders:
        return holder_at(holders[identity], claim.at, claim.touchpoint_id)
    return found


def pairs_of(claim: Claim) -> Iterator[tuple[str, str]]:
    """The pairs of identities that a claim may link, the stronger one first."""
    strongest, *others = _linking(claim)
    return ((strongest, other) for other in others)


def _linking(claim: Claim) -> Iterator[str]:
    return (one for one in claim.identities if identifies_person(one))
