"""The opaque cursor of a timeline."""

import base64
import contextlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.views.position import Position, from_cursor, to_cursor

_positions = st.builds(
    Position,
    at=st.integers(0, 3_000_000_000_000_000).map(
        lambda microseconds: datetime(1990, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
    ),
    touchpoint_id=st.uuids(),
    rank=st.sampled_from([0, 1, 2]),
    journey=st.from_regex(r"[a-z-]{0,64}", fullmatch=True),
    version=st.integers(0, 1_000_000),
    seq=st.integers(0, 1_000_000),
    run=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
)


@given(_positions)
def test_a_cursor_brings_its_position_back(position: Position) -> None:
    """Position to cursor to position is the identity, and a cursor needs no escaping in a URL."""
    cursor = to_cursor(position)

    assert from_cursor(cursor) == position
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(st.text(max_size=100) | st.binary(max_size=80).map(lambda raw: raw.hex()))
def test_any_other_text_is_no_cursor(text: str) -> None:
    """Text that no answer gave is refused with ValueError, or stands for a position that can be stored."""
    with contextlib.suppress(ValueError):
        assert from_cursor(text).at.utcoffset() == timedelta()


@pytest.mark.parametrize(
    "values",
    [
        ("2026-01-01T00:00:00", UUID(int=1).bytes, 1, "", 0, 0),
        ("2026-01-01T00:00:00+01:00", UUID(int=1).bytes, 1, "", 0, 0),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 3, "", 0, 0),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "a\0", 0, 0),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "a" * 65, 0, 0),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "", 2**31, 0),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "", 0, -(2**31) - 1),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "", 0, 0, 0),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "", 0, 0, "a\0"),
        ("2026-01-01T00:00:00Z", UUID(int=1).bytes, 1, "", 0, 0, "a" * 201),
        ("2026-01-01T00:00:00Z", b"short", 1),
    ],
)
def test_a_forged_cursor_never_reaches_the_store(values: tuple[object, ...]) -> None:
    """A well-formed cursor whose values the store's types can't hold is refused."""
    forged = base64.urlsafe_b64encode(msgspec.msgpack.encode(values)).decode().rstrip("=")

    with pytest.raises(ValueError, match="no cursor"):
        from_cursor(forged)
