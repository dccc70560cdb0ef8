"""Which bytes need a closer look: all whose numbers can't be kept, and hardly any other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.content import Malformed, read_content
from shared.refusals import Refused
from shared.suspicion import suspicious

digits = st.text("0123456789", min_size=1, max_size=24) | st.integers(300, 410).map("7".__mul__)
numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    digits.map(lambda text: text.lstrip("0") or "0"),
    st.just("") | digits.map(".".__add__),
    st.just("") | st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "+", "-"]), digits),
)
places = st.sampled_from(
    [b'{"a":%s}', b'{"a": %s}', b'{"a":\n%s }', b'{"a":[%s]}', b'{"a":[0,%s,0]}', b'{"a":"1e5","b":\t%s}']
)


@given(numbers.map(str.encode), places)
def test_a_number_that_can_not_be_kept_is_suspicious(number: bytes, place: bytes) -> None:
    """Whatever its form and wherever it stands: bytes that are not suspicious pass the closer look."""
    data = place % number
    try:
        read_content(data)
    except (Malformed, Refused):
        assert suspicious(data)


@given(numbers.map(str.encode), places)
def test_a_number_beyond_those_that_readers_know_is_refused(number: bytes, place: bytes) -> None:
    """An integer beyond 64 bits, a double's infinity, and a zero or next to it by an exponent of its own."""
    mantissa, _, exponent = number.lower().partition(b"e")
    is_integer = number == mantissa and b"." not in number
    size = abs(float(number))
    is_tiny = size < 1e-300 and len(exponent) < 10 and abs(int(exponent or b"0")) > 308
    unfit = not -(2**63) <= int(number) < 2**63 if is_integer else size == float("inf") or is_tiny
    if unfit:
        with pytest.raises(Refused) as caught:
            read_content(place % number)
        assert caught.value.code == "number_out_of_range"


@pytest.mark.parametrize(
    "text",
    [
        b"123456789012345678901234",
        b"abcd1234567890123456789012345678",
        b"e1234567890123456789",
        b"01234567-8901-4234-8567-890123456789",
        b"ab-0e123456-4",
        b"+4512345678901234567",
    ],
)
def test_digits_of_an_id_are_not_suspicious(text: bytes) -> None:
    """A run of digits that belongs to a text costs its neighbours no closer look."""
    assert not suspicious(b'{"id":"%s","properties":{"a":["%s"]}}' % (text, text))
