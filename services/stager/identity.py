"""Who a touchpoint belongs to: the rules, without the store.

A touchpoint goes to the customer of its strongest known identity, and its unknown identities join that
customer. If none is known, a new customer begins. An account groups customers and links none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec

from shared.ids import NewId
from shared.touchpoint import identifies_person


class Claim(msgspec.Struct, frozen=True, gc=False):
    """The identities that came together in one touchpoint, the strongest first."""

    touchpoint_id: UUID
    identities: tuple[str, ...]


class Link(msgspec.Struct, frozen=True, gc=False):
    """A new fact: this identity is this customer's, and this touchpoint is the evidence."""

    identity: str
    customer_id: UUID
    touchpoint_id: UUID


@dataclass(frozen=True, slots=True)
class Filing:
    """The customer of each claim, in the claims' order, and what that taught."""

    customer_ids: Sequence[UUID]
    new_customers: Sequence[UUID]
    new_links: Sequence[Link]
    accounts: Sequence[tuple[int, str]]
    """The claims, by number, that name an account, each once for every one that it names."""


def file(claims: Sequence[Claim], known: Mapping[str, UUID], new_id: NewId) -> Filing:
    """File claims in their order; what one teaches counts for the next."""
    owners = dict(known)
    customer_ids: list[UUID] = []
    new_customers: list[UUID] = []
    new_links: list[Link] = []
    accounts: list[tuple[int, str]] = []
    for number, claim in enumerate(claims):
        linking = [identity for identity in claim.identities if identifies_person(identity)]
        known_owners = [owners[identity] for identity in linking if identity in owners]
        if known_owners:
            customer_id = known_owners[0]
        else:
            customer_id = new_id()
            new_customers.append(customer_id)
        if len(known_owners) < len(linking):
            for identity in linking:
                if identity not in owners:
                    owners[identity] = customer_id
                    new_links.append(Link(identity, customer_id, claim.touchpoint_id))
        customer_ids.append(customer_id)
        if len(linking) < len(claim.identities):
            accounts += [(number, one) for one in claim.identities if not identifies_person(one)]
    return Filing(customer_ids, new_customers, new_links, accounts)
