"""How the query API reads a customer's name out of a path."""

import contextlib
from urllib.parse import quote
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.views.refs import parse_ref
from shared.identities import normalise_identity

_ID = UUID("019a3c1e-7a51-7cc0-9d0c-1f2e3d4c5b6a")


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("email:ann%40example.com", "email:ann@example.com"),
        ("email:%20ANN@Example.COM%20", "email:ann@example.com"),
        ("email%3Aann%40example.com", "email:ann@example.com"),
        ("phone:%2B45%2033%2012-34-56", "phone:+4533123456"),
        ("user_id:Ann", "user_id:Ann"),
        ("crm:a%2Fb%3Fc%23d", "crm:a/b?c#d"),
        ("crm:a:b", "crm:a:b"),
        ("crm:100%25", "crm:100%"),
        ("loyalty_id:S%C3%B8ren%2012", "loyalty_id:søren12"),
        ("email:ann@bl%C3%A5b%C3%A6r.dk", "email:ann@xn--blbr-roah.dk"),
        ("phone:004533123456", "phone:+4533123456"),
        (str(_ID), _ID),
        (str(_ID).upper(), _ID),
    ],
)
def test_a_reference_is_decoded_once_and_normalised_as_at_the_door(
    segment: str, expected: UUID | str
) -> None:
    """A segment names the identity that ingest made of the same value, or the customer's id."""
    assert parse_ref(segment) == expected


@pytest.mark.parametrize(
    "segment",
    [
        "",
        "ann",
        "019a3c1e7a517cc09d0c1f2e3d4c5b6a",
        f"{{{_ID}}}",
        ":ann",
        "Email:ann@example.com",
        "e-mail:ann@example.com",
        "email:",
        "email:%20",
        "email:ann",
        "phone:33123456",
        "user_id:a%00b",
        "user_id:%ff",
        "user_id:%ED%A0%80",
        "user_id:" + "x" * 201,
    ],
)
def test_what_can_name_no_customer_is_refused_without_repeating_it(segment: str) -> None:
    """A wrong reference raises ValueError, whose text has no part of the value in it."""
    with pytest.raises(ValueError, match=r"^(is|begins|holds) ") as refused:
        parse_ref(segment)

    assert "ann" not in str(refused.value)


@given(st.text(min_size=1, max_size=40))
def test_every_storable_value_can_be_asked_for(value: str) -> None:
    """Whatever value the door takes for an external id, its percent-encoding names the same identity."""
    try:
        identity = normalise_identity("crm", value)
    except ValueError:
        return
    if "\0" not in value:
        assert parse_ref(quote(f"crm:{value}", safe="")) == identity


@given(st.text())
def test_no_segment_breaks_the_parser(segment: str) -> None:
    """Any text is a reference or a ValueError, nothing else."""
    with contextlib.suppress(ValueError):
        parse_ref(segment)
