"""Who is who, told plainly: the rules of identity one touchpoint at a time, on sets, without a store.

It shares nothing with what it is held against. Every question is answered by looking through everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

_MOST = {"user_id": 1, "loyalty_id": 5, "email": 5, "phone": 5, "anonymous_id": 100}
_GO_FROM_HAND_TO_HAND = ("anonymous_id", "phone")

Pair = tuple[str, str]
"""Two identities that a touchpoint told of together, the stronger one first."""

When = tuple[datetime, UUID]
"""Event time and id of a touchpoint."""


class Person:
    """Somebody; `is_now` once they turned out to be somebody else."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_now: Person | None = None

    def found(self) -> Person:
        return self if self.is_now is None else self.is_now.found()


@dataclass
class People:
    """Everybody, after some touchpoints."""

    has_now: dict[str, Person] = field(default_factory=dict)
    known_since: dict[str, When] = field(default_factory=dict)
    hands: dict[str, list[tuple[When, Person]]] = field(default_factory=dict)
    """Of identities that went from one to another: since when each had it, in order."""
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Identity, and the kind of which there would be too many."""
    merges: int = 0
    handovers: int = 0
    touchpoints: dict[UUID, tuple[When, str]] = field(default_factory=dict)
    """By id: when, and the strongest identity."""
    _born: int = 0

    def meet(self, id_: UUID, at: datetime, identities: Sequence[str]) -> None:
        """Take a touchpoint, its identities the strongest first, accounts left out."""
        when = (at, id_)
        self.touchpoints[id_] = (when, identities[0])
        person = self.who(identities[0], when)
        if person is None:
            person = self._new(identities[0], when)
        for identity in identities[1:]:
            other = self.who(identity, when)
            if other is person:
                continue
            too_many = self._too_many({*self._identities(person), identity, *self._identities(other)})
            if too_many is None and other is None:
                self.has_now[identity], self.known_since[identity] = person, when
            elif too_many is None:
                assert other is not None
                person = self._merge(person, other)
            elif other is not None and self._may_go(identity, too_many, person):
                self._hand_over(identity, when, other, person)
            else:
                full = self._too_many({*self._identities(person), identity})
                self.refused[identity, full or too_many] += 1

    def who(self, identity: str, when: When) -> Person | None:
        """Whose an identity is at a touchpoint."""
        person = self.has_now.get(identity)
        if identity in self.hands:
            hands = self.hands[identity]
            person = next((one for since, one in reversed(hands) if since <= when), hands[0][1])
        return None if person is None else person.found()

    def timelines(self) -> dict[Person, set[UUID]]:
        """The touchpoints of everybody."""
        found: dict[Person, set[UUID]] = {}
        for id_, (when, strongest) in self.touchpoints.items():
            person = self.who(strongest, when)
            assert person is not None
            found.setdefault(person, set()).add(id_)
        return found

    def identities(self) -> set[frozenset[str]]:
        """What everybody is known by now."""
        people = {one.found() for one in self.has_now.values()}
        return {frozenset(self._identities(person)) for person in people}

    def _new(self, identity: str, when: When) -> Person:
        self._born += 1
        person = self.has_now[identity] = Person(self._born)
        self.known_since[identity] = when
        return person

    def _identities(self, person: Person | None) -> list[str]:
        return [one for one, its in self.has_now.items() if its.found() is person]

    def _too_many(self, identities: set[str]) -> str | None:
        numbers = Counter(one.partition(":")[0] for one in identities)
        kinds = [kind for kind, number in numbers.items() if number > _MOST.get(kind, 5)]
        return min(kinds, key=lambda kind: (_MOST.get(kind, 5), kind), default=None)

    def _merge(self, one: Person, other: Person) -> Person:
        older, younger = sorted((one, other), key=lambda person: person.number)
        younger.is_now = older
        self.merges += 1
        return older

    def _may_go(self, identity: str, too_many: str, person: Person) -> bool:
        is_unique = _MOST.get(too_many) == 1
        goes = identity.partition(":")[0] in _GO_FROM_HAND_TO_HAND
        return is_unique and goes and not self._too_many({*self._identities(person), identity})

    def _hand_over(self, identity: str, when: When, giver: Person, taker: Person) -> None:
        self.handovers += 1
        hands = self.hands.setdefault(identity, [(self.known_since[identity], giver)])
        hands.append((when, taker))
        hands.sort(key=lambda one: one[0])
        self.has_now[identity] = hands[-1][1]


def components(names: Iterable[str], links: Iterable[Pair]) -> Set[frozenset[str]]:
    """Who is who by links alone: whoever is linked, directly or through others, is one."""
    who = {name: {name} for name in names}
    for one, other in links:
        if who[one] is not who[other]:
            fewer, more = sorted((who[one], who[other]), key=len)
            more |= fewer
            who.update(dict.fromkeys(fewer, more))
    return set(map(frozenset, who.values()))
