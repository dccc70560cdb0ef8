"""Filing: whose touchpoint it is."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from uuid import UUID

from services.stager.identity import Claim, Link, file

ALICE, BOB = UUID(int=101), UUID(int=102)


def ids() -> Callable[[], UUID]:
    numbers = count(1)
    return lambda: UUID(int=next(numbers))


def claim(number: int, *identities: str) -> Claim:
    return Claim(UUID(int=number), identities)


def test_a_touchpoint_goes_to_the_customer_of_its_strongest_known_identity() -> None:
    """The strongest known identity decides, whoever the weaker ones belong to."""
    known = {"user_id:7": ALICE, "anonymous_id:x": BOB}

    filing = file([claim(1, "user_id:7", "anonymous_id:x")], known, ids())

    assert filing.customer_ids == [ALICE]
    assert filing.new_links == []


def test_unknown_identities_join_with_the_touchpoint_as_evidence() -> None:
    """What was not known is linked to the customer that was found."""
    filing = file([claim(1, "email:a@b.dk", "anonymous_id:x")], {"anonymous_id:x": BOB}, ids())

    assert filing.customer_ids == [BOB]
    assert filing.new_links == [Link("email:a@b.dk", BOB, UUID(int=1))]


def test_nobody_known_begins_a_new_customer_once() -> None:
    """What one touchpoint of a batch teaches counts for the next."""
    filing = file([claim(1, "email:a@b.dk"), claim(2, "email:a@b.dk", "phone:+4533123456")], {}, ids())

    assert filing.customer_ids == [UUID(int=1), UUID(int=1)]
    assert filing.new_customers == [UUID(int=1)]
    assert [link.identity for link in filing.new_links] == ["email:a@b.dk", "phone:+4533123456"]


def test_an_account_links_nobody() -> None:
    """Two colleagues of one account stay two customers."""
    filing = file(
        [claim(1, "user_id:1", "account_id:acme"), claim(2, "user_id:2", "account_id:acme")], {}, ids()
    )

    assert len(set(filing.customer_ids)) == 2
    assert all(not link.identity.startswith("account_id:") for link in filing.new_links)
