"""Which customers are left of one when a link was withdrawn: the rules, without the store.

The customer's identities, with those that were handed over and once were theirs, are held together by the
pairs that touchpoints told of. Without the withdrawn ones they may fall apart into parts. The part that the
customer began with keeps its id. Another one takes back the oldest id that came in with one of its
identities by a merge; one that none came with gets a new id.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from shared.journey.state import NEVER
from shared.touchpoint import strength


class Node(msgspec.Struct, frozen=True, gc=False):
    """An identity of a customer: when Rejse linked it first, and since when (event time) it is known."""

    identity: str
    linked_at: datetime
    since: datetime | None


class Edge(msgspec.Struct, frozen=True, gc=False):
    """Two identities that a touchpoint told of together, and whether that link was withdrawn."""

    identity: str
    other: str
    withdrawn: bool


class Name(msgspec.Struct, frozen=True, gc=False):
    """An id that was another customer's, who was merged into this one: the identity that they had begun
    with (None: not known), and since when they had been a customer."""

    id: UUID
    founded_by: str | None
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Part:
    """Identities that are no more the customer's. `names` are the ids that go with them, the oldest first:
    that one is theirs again, the others are its aliases."""

    identities: frozenset[str]
    names: Sequence[Name]


def parts_of(nodes: Sequence[Node], edges: Iterable[Edge], names: Sequence[Name]) -> Sequence[Part]:
    """The parts that a customer loses, by their strongest identities in order; none: nothing falls apart.

    Identities that nothing is known to hold together, from before pairs were kept, stay with the customer.
    """
    if not nodes:
        return []
    edges = list(edges)
    roots = _components([node.identity for node in nodes], edges)
    main = roots[_begun_with(nodes, names)]
    cut = {roots[end] for edge in edges if edge.withdrawn for end in (edge.identity, edge.other)} - {main}
    members: defaultdict[str, set[str]] = defaultdict(set)
    for identity, root in roots.items():
        members[root].add(identity)
    coming: defaultdict[str, list[Name]] = defaultdict(list)
    for name in names:
        came_in = roots.get(name.founded_by or "")
        if came_in is not None:
            coming[came_in].append(name)
    found = [Part(frozenset(members[root]), sorted(coming[root], key=lambda name: name.id)) for root in cut]
    return sorted(found, key=lambda part: min(map(strength, part.identities)))


def _begun_with(nodes: Collection[Node], names: Iterable[Name]) -> str:
    """The identity that the customer began with: linked before all others, for the oldest stays in a
    merge."""
    foreign = {name.founded_by for name in names}
    return min(
        nodes,
        key=lambda node: (
            node.linked_at,
            node.identity in foreign,
            node.since or NEVER,
            strength(node.identity),
        ),
    ).identity


def _components(identities: Iterable[str], edges: Iterable[Edge]) -> Mapping[str, str]:
    """One identity that stands for all that are held together, by each of them."""
    parents = {identity: identity for identity in identities}

    def root(identity: str) -> str:
        while (parent := parents[identity]) != identity:
            parents[identity] = identity = parents[parent]
        return identity

    for edge in edges:
        if not edge.withdrawn:
            parents[root(edge.other)] = root(edge.identity)
    return {identity: root(identity) for identity in parents}
