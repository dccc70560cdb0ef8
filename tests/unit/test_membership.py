"""Which accounts touchpoints are about: the rule against a plain model, and how little is told anew."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.stager.membership import LEAVING, Accounts, Said, about, meet
from tests.support.acting import Saying, about_whom, memberships

ACME, BETA, GAMMA = (UUID(int=number) for number in range(1, 4))
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)

_what = st.tuples(
    st.integers(0, 9),
    st.booleans(),
    st.one_of(st.just(frozenset[UUID]()), st.frozensets(st.sampled_from([ACME, BETA, GAMMA]), max_size=3)),
)
_timelines = st.lists(_what, max_size=14).map(
    lambda found: [
        Said((_BEGIN + timedelta(days=day), UUID(int=100 + number)), names, leaves)
        for number, (day, leaves, names) in enumerate(found)
    ]
)


def plainly(timeline: Sequence[Said]) -> list[Saying]:
    return [Saying(*one.position, LEAVING if one.leaves else "page_viewed", one.names) for one in timeline]


def told(*days: tuple[Accounts, bool]) -> list[Accounts]:
    """What touchpoints are about of which one happens a day."""
    return about(
        Said((_BEGIN + timedelta(days=day), UUID(int=day)), names, leaves)
        for day, (names, leaves) in enumerate(days)
    )


NONE, A, B = frozenset[UUID](), frozenset({ACME}), frozenset({BETA})
QUIET, LEFT_A = (NONE, False), (A, True)


def test_what_names_none_is_about_the_latest_that_were_named() -> None:
    """A consultant: between two clients' namings the first one's, behind both the second one's; what names
    both is about both, and so is what follows."""
    assert told((A, False), QUIET, (B, False), QUIET) == [A, A, B, B]
    assert told((A | B, False), QUIET) == [A | B, A | B]


def test_what_lies_before_the_first_naming_is_about_the_first_named() -> None:
    """Also where it is known only by their leaving."""
    assert told(QUIET, QUIET, (A, False), (B, False)) == [A, A, A, B]
    assert told(QUIET, LEFT_A, QUIET) == [A, A, NONE]


def test_who_leaves_an_account_acts_for_what_is_left() -> None:
    """Perhaps for none, until the next naming; leaving another one than those acted for alters nothing."""
    assert told((A, False), LEFT_A, QUIET, (B, False), QUIET) == [A, A, NONE, B, B]
    assert told((A | B, False), LEFT_A, QUIET) == [A | B, A, B]
    assert told((B, False), LEFT_A, QUIET) == [B, A, B]


@given(timeline=_timelines)
def test_the_rule_is_the_plain_one(timeline: list[Said]) -> None:
    """Each touchpoint is about whom it is when it asks all others."""
    timeline.sort()
    sayings = plainly(timeline)

    assert about(timeline) == [about_whom(sayings, one) for one in sayings]


@given(arriving=_timelines, data=st.data())
def test_what_new_touchpoints_alter_is_all_that_is_told_anew(
    arriving: list[Said], data: st.DataObject
) -> None:
    """Any order, any batches: with the namings around the new ones alone, and the part of the timeline that
    they alter, everything is about whom the rule says; and nobody else becomes a member or ceases to be."""
    arriving = data.draw(st.permutations(arriving))
    timeline: list[Said] = []
    stored: dict[UUID, Accounts] = {}
    while arriving:
        size = data.draw(st.integers(1, 4))
        new, arriving = sorted(arriving[:size]), arriving[size:]
        before = set(memberships(plainly(timeline)))
        met = meet(_namings_around(timeline, new), new)
        timeline = sorted([*timeline, *new])
        stored |= {one.position[1]: accounts for one, accounts in zip(new, met.about, strict=True)}
        if met.altered:
            begin, end, acts_for = met.altered
            part = [one for one in timeline if begin < one.position < end]
            stored |= {
                one.position[1]: accounts for one, accounts in zip(part, about(part, acts_for), strict=True)
            }
        sayings = plainly(timeline)

        assert stored == {one.id: about_whom(sayings, one) for one in sayings}
        altered = before ^ set(memberships(sayings))
        assert {account for account, *_ in altered} <= met.members_of


def _namings_around(timeline: Sequence[Said], new: Sequence[Said]) -> list[Said]:
    """All namings, from the last before the new ones that is no leaving, up to the first such one behind."""
    namings = [one for one in timeline if one.names]
    firm = [one.position for one in namings if not one.leaves]
    begin = max((one for one in firm if one < new[0].position), default=None)
    end = min((one for one in firm if one > new[-1].position), default=None)
    return [
        one
        for one in namings
        if (begin is None or one.position >= begin) and (end is None or one.position <= end)
    ]
