"""Taking an array apart in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.apart import take_apart
from services.ingest.event import TooMuch
from shared.content import Malformed
from tests.support.accepting import at_once

apart = at_once(take_apart)

VALUES = (
    b"NaN", b"1", b"[]", b"{}", b'""', b"[[[[1,2]]]]",
    rb'"\"\\"', rb'"\\"', rb'{"[\"":[{"a":[1,"]"]}],"b":NaN}', b'"\xff"',
    b'"%s"' % (rb"\\" * 40), b'"%s"' % (rb"\"," * 40), b"9" * 40, b"[" * 1_500 + b"]" * 1_500,
)  # fmt: skip
BROKEN = (*VALUES, b"]", b"[", b"}", b'"', b"\\", b'\\"', b",", b"", b" ", b"NaNa", b'"\n"', b"1 2")
piece_sizes = st.integers(2, 60)
spaces = st.sampled_from([b"", b" ", b"\n"])


@given(
    st.lists(st.sampled_from(VALUES), min_size=1, max_size=6),
    st.sampled_from([b"", b" ", b"\n"]),
    piece_sizes,
)
def test_the_items_are_those_that_were_put_together(parts: list[bytes], space: bytes, size: int) -> None:
    """Whatever they hold, and wherever a piece ends."""
    body = b"[" + b",".join(space + part + space for part in parts) + b"]"

    assert apart(body, size) == parts


@given(st.lists(st.sampled_from(BROKEN), max_size=8), st.sampled_from([b"", b",", b"]"]), piece_sizes)
def test_how_large_the_pieces_are_changes_nothing(parts: list[bytes], between: bytes, size: int) -> None:
    """Of a broken array the same byte is found."""
    body = b"[" + between.join(parts)

    assert answer(body, size) == answer(body, len(body) + 2)


@pytest.mark.parametrize("count", [500, 501])
def test_there_are_no_more_items_than_a_request_may_have(count: int) -> None:
    """The one too many ends it."""
    body = b"[" + b",".join([b"NaN"] * count) + b"]"

    assert answer(body, 100) == ([b"NaN"] * 500 if count == 500 else "too much")


def answer(body: bytes, size: int) -> list[bytes] | tuple[str, int] | str:
    """What a body comes to, errors included."""
    try:
        return apart(body, size)
    except Malformed as error:
        return error.reason, error.byte
    except TooMuch:
        return "too much"
