"""Filing: whose touchpoint it is, and what holds a link back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stager.identity import (
    LIMITS,
    Claim,
    Filing,
    Holder,
    Known,
    Limits,
    Link,
    Pair,
    file,
    gaining,
    holder_at,
)
from services.stager.pairs import KnownPairs
from services.stager.settings import Settings
from shared.config import load
from shared.errors import ConfigError
from shared.journey.touch import FIRST_POSITION
from tests.support.journeys import EPOCH

ALICE, BOB = UUID(int=101), UUID(int=102)


def ids() -> Callable[[], UUID]:
    numbers = count(1_001)
    return lambda: UUID(int=next(numbers))


def claim(number: int, *identities: str) -> Claim:
    """A touchpoint of the day of its number."""
    return Claim(UUID(int=number), EPOCH + timedelta(days=number), identities)


def filed(claims: Sequence[Claim], owners: Mapping[str, UUID] | None = None) -> Filing:
    """File claims, each identity known being its customer's since the beginning."""
    owners = owners or {}
    members: dict[UUID, dict[str, Link]] = {}
    for identity, customer_id in owners.items():
        members.setdefault(customer_id, {})[identity] = Link(identity, customer_id, UUID(int=0), EPOCH)
    known = Known(owners)
    needed = gaining(claims, known)
    known = Known(owners, {}, {one: members[one] for one in needed})
    return file(claims, known, LIMITS, ids())


def test_unknown_identities_join_with_the_touchpoint_as_evidence() -> None:
    """What was not known is linked to the customer that was found."""
    filing = filed([claim(1, "email:a@b.dk", "anonymous_id:x")], {"anonymous_id:x": BOB})

    assert filing.customer_ids == [BOB]
    assert filing.new_links == [Link("email:a@b.dk", BOB, UUID(int=1), claim(1).at)]
    assert filing.altered == {BOB}
    assert not filing.merged


def test_nobody_known_begins_a_new_customer_once() -> None:
    """What one touchpoint of a batch teaches counts for the next."""
    filing = filed([claim(1, "email:a@b.dk"), claim(2, "email:a@b.dk", "phone:+4533123456")])

    assert len(set(filing.customer_ids)) == 1
    assert list(filing.new_customers) == [filing.customer_ids[0]]
    assert [link.identity for link in filing.new_links] == ["email:a@b.dk", "phone:+4533123456"]


def test_two_customers_known_together_become_the_older_one() -> None:
    """Whichever of them the stronger identity belongs to."""
    owners = {"email:a@b.dk": BOB, "anonymous_id:x": ALICE}

    filing = filed([claim(1, "email:a@b.dk", "anonymous_id:x"), claim(2, "email:a@b.dk")], owners)

    assert filing.customer_ids == [ALICE, ALICE]
    assert filing.merged == {BOB: UUID(int=1)}
    assert filing.into == {BOB: ALICE}


def test_a_chain_and_a_circle_of_links_are_one_customer() -> None:
    """Whatever the order in which the links come."""
    links = [
        ("email:a@b.dk", "phone:+4533123456"),
        ("phone:+4533123456", "anonymous_id:x"),
        ("email:a@b.dk", "anonymous_id:x"),
        ("loyalty_id:1", "email:a@b.dk"),
    ]
    owners = {"phone:+4533123456": BOB, "loyalty_id:1": ALICE}

    for order in (links, links[::-1]):
        filing = filed([claim(number, *names) for number, names in enumerate(order)], owners)

        assert set(filing.customer_ids) == {ALICE}
        assert filing.into == {BOB: ALICE}


def test_two_logins_are_never_one_customer() -> None:
    """An address that both used stays whose it was first, and the refusal says why."""
    filing = filed([claim(1, "user_id:2", "email:a@b.dk")], {"user_id:1": ALICE, "email:a@b.dk": ALICE})

    (customer_id,) = filing.customer_ids
    assert customer_id != ALICE
    assert not filing.merged
    (refusal,) = filing.refusals
    assert (refusal.customer_id, refusal.identity, refusal.kind) == (customer_id, "email:a@b.dk", "user_id")
    assert refusal.other_id == ALICE


def test_a_new_login_on_a_known_device_has_it_from_then_on() -> None:
    """What the device did before stays where it was; a late touchpoint goes to who had it then."""
    owners = {"user_id:1": ALICE, "anonymous_id:x": ALICE}
    device = "anonymous_id:x"

    filing = filed([claim(10, "user_id:2", device), claim(11, device), claim(9, device)], owners)

    other, later, earlier = filing.customer_ids
    assert earlier == ALICE
    assert other == later != ALICE
    assert not filing.refusals
    (handover,) = filing.handovers
    assert handover.giver_id == ALICE
    assert handover.holder == Holder(claim(10).at, UUID(int=10), other)
    assert handover.latest


def test_what_is_handed_over_by_a_later_one_of_the_batch_is_the_new_holders() -> None:
    """A touchpoint belongs to whoever has its identity at its time once all of the batch is known."""
    owners = {"user_id:a": ALICE, "anonymous_id:x": ALICE, "user_id:b": BOB}
    filing = filed([claim(3, "anonymous_id:x"), claim(2, "user_id:b", "anonymous_id:x")], owners)

    assert filing.customer_ids == [BOB, BOB]


def test_an_older_login_that_comes_late_has_the_device_until_the_next_one() -> None:
    """And the anonymous past before the first login belongs to who logged in first, by event time."""
    device = "anonymous_id:x"

    filing = filed([claim(20, "user_id:1", device), claim(10, "user_id:2", device)])

    first, second = filing.customer_ids
    (handover,) = filing.handovers
    holders = [handover.holder, handover.first]
    assert handover.first is not None
    assert not handover.latest
    assert [one.customer_id for one in holders if one] == [second, first]
    assert handover.begin == FIRST_POSITION
    assert handover.end == (claim(20).at, UUID(int=20))


def test_a_kind_has_its_limit_whoever_comes() -> None:
    """A sixth address of one login stays outside, and begins a customer of its own when it comes alone."""
    addresses = [f"email:{number}@b.dk" for number in range(6)]
    claims = [claim(number, "user_id:1", one) for number, one in enumerate(addresses)]

    filing = filed([*claims, claim(7, addresses[0]), claim(8, addresses[5])])

    assert len(set(filing.customer_ids[:7])) == 1
    assert filing.customer_ids[7] != filing.customer_ids[0]
    assert [(one.identity, one.kind, one.other_id) for one in filing.refusals] == [
        (addresses[5], "email", None)
    ]


def test_an_account_links_nobody() -> None:
    """Two colleagues of one account stay two customers."""
    filing = filed([claim(1, "user_id:1", "account_id:acme"), claim(2, "user_id:2", "account_id:acme")])

    assert len(set(filing.customer_ids)) == 2
    assert all(not link.identity.startswith("account_id:") for link in filing.new_links)
    assert filing.accounts == [(0, "account_id:acme"), (1, "account_id:acme")]


_NAMES = [f"{kind}:{number}" for kind in ("email", "phone", "crm", "anonymous_id") for number in range(4)]


@given(
    st.lists(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True), max_size=12), st.data()
)
def test_without_a_limit_in_the_way_customers_are_connected_components(
    names: list[list[str]], data: st.DataObject
) -> None:
    """Whatever the order of the touchpoints, and of the identities in them."""
    claims = [claim(number, *some) for number, some in enumerate(names)]
    shuffled = data.draw(st.permutations(claims))

    filing = filed(shuffled)

    components: list[set[str]] = []
    for some in names:
        met = [one for one in components if one & set(some)]
        components = [one for one in components if one not in met] + [set(some).union(*met)]
    found: dict[UUID, set[str]] = {}
    for customer_id, one in zip(filing.customer_ids, shuffled, strict=True):
        found.setdefault(customer_id, set()).update(one.identities)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, components))
    assert not filing.refusals
    assert set(filing.new_customers) == set(found)


def test_before_the_first_handover_the_first_holder_has_it() -> None:
    """And at a touchpoint that hands it over, who gets it."""
    holders = [Holder(claim(5).at, UUID(int=5), ALICE), Holder(claim(9).at, UUID(int=9), BOB)]

    found = [holder_at(holders, claim(day).at, UUID(int=day)) for day in (1, 5, 8, 9, 10)]

    assert found == [ALICE, ALICE, ALICE, BOB, BOB]


def test_what_is_set_by_default_are_the_limits_by_default() -> None:
    """A stager that is told nothing has the limits of whoever makes one by hand."""
    settings = load(Settings, {})

    assert Limits(settings.identity_limits, settings.identity_handed_over) == LIMITS


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("LIMITS", "user_id=1", "no limit for every other kind"),
        ("LIMITS", "E-mail=1,*=5", "no kind=number"),
        ("LIMITS", "email=0,*=5", "outside 1 to 10000"),
        ("LIMITS", "email,*=5", "no whole number"),
        ("HANDED_OVER", "Phone", "no kind of identity"),
    ],
)
def test_limits_that_say_nothing_are_refused(name: str, value: str, wrong: str) -> None:
    """With what is wrong about them."""
    with pytest.raises(ConfigError, match=wrong):
        load(Settings, {f"REJSE_IDENTITY_{name}": value})


def test_a_pair_is_new_until_its_batch_has_been_committed() -> None:
    """By its first touchpoint; and again, once too many are known."""
    links = [Pair("user_id:1", f"anonymous_id:{n}", UUID(int=n), claim(n).at) for n in (2, 1, 2)]
    known = KnownPairs(most=2)

    assert known.new_of(links) == [links[1], links[0]] == known.new_of(links)
    known.keep(links, None)
    assert known.new_of(links) == []
    known.keep([Pair("user_id:1", "anonymous_id:3", UUID(int=3), claim(3).at)], None)
    assert known.new_of(links) == [links[1], links[0]]
