"""Which customers one falls apart into, and which ids they get."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.stager.parting import Edge, Name, Node, Part, parts_of
from tests.support.journeys import EPOCH
from tests.support.people import Pair, components

ANN, MAIL, PHONE, TAB = "user_id:ann", "email:ann@b.dk", "phone:+4533123456", "anonymous_id:tab"
OLDER, YOUNG = UUID(int=2), UUID(int=3)

_edges = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdef")), max_size=8)


def name(id_: UUID, founded_by: str | None) -> Name:
    return Name(id_, founded_by, EPOCH)


def parted(
    identities: Sequence[str], stand: Collection[Pair], withdrawn: Collection[Pair], *names: Name
) -> Sequence[Part]:
    """The parts of a customer whose identities were linked in this order."""
    nodes = [Node(one, EPOCH + timedelta(days=day), None) for day, one in enumerate(identities)]
    edges = [Edge(*pair, withdrawn=False) for pair in stand] + [
        Edge(*pair, withdrawn=True) for pair in withdrawn
    ]
    return parts_of(nodes, edges, names)


def test_a_part_takes_back_the_oldest_id_that_came_with_it() -> None:
    """The part that the customer began with keeps the id; further ids of another part are its aliases."""
    found = parted(
        [ANN, MAIL, PHONE, TAB],
        [(ANN, TAB), (MAIL, PHONE)],
        [(ANN, MAIL)],
        name(YOUNG, PHONE),
        name(OLDER, MAIL),
    )

    assert found == [Part(frozenset((MAIL, PHONE)), [name(OLDER, MAIL), name(YOUNG, PHONE)])]


def test_what_a_customer_began_with_may_be_weak() -> None:
    """A device that was known first keeps the id; the login that came later, and with it no other customer,
    gets a new one."""
    found = parted([TAB, ANN, MAIL], [(ANN, MAIL)], [(ANN, TAB)])

    assert found == [Part(frozenset((ANN, MAIL)), [])]


def test_what_no_withdrawn_link_touches_stays() -> None:
    """Identities from before links were kept, whatever holds them; and an id that nobody knows the beginning
    of."""
    found = parted([ANN, MAIL, PHONE, TAB], [], [(ANN, TAB)], name(OLDER, None))

    assert found == [Part(frozenset((TAB,)), [])]


@given(edges=_edges, withdrawn=st.sets(st.integers(0, 7)))
def test_parts_and_what_is_left_are_what_the_links_hold_together(
    edges: list[Pair], withdrawn: set[int]
) -> None:
    """Where all that a customer has was linked: no part could be parted further, or be joined."""
    whole = next(people for people in components("abcdef", edges) if "a" in people)
    edges = [pair for pair in edges if pair[0] in whole]
    stand = [pair for number, pair in enumerate(edges) if number not in withdrawn]
    cut = [pair for number, pair in enumerate(edges) if number in withdrawn]
    found = parted(sorted(whole), stand, cut)
    left = whole.difference(*(part.identities for part in found))

    assert "a" in left
    assert {left, *(part.identities for part in found)} == components(whole, stand)
