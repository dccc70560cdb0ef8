"""What tombstones mean: held against the plain question whose an identity was at a touchpoint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.journey.touch import Position
from shared.tombstones import Held, Tombstone, digest_of, is_erased, tombstones_of
from tests.support.journeys import EPOCH

ANN, BO = UUID(int=1), UUID(int=2)
TABLET, EMAIL = "anonymous_id:tablet", "email:ann@b.dk"
_positions = st.tuples(
    st.integers(0, 12).map(lambda day: EPOCH + timedelta(days=day)),
    st.integers(1, 4).map(lambda n: UUID(int=n)),
)


def by_digest(stones: Sequence[Tombstone]) -> Mapping[bytes, Sequence[Tombstone]]:
    found: defaultdict[bytes, list[Tombstone]] = defaultdict(list)
    for one in stones:
        found[one.digest].append(one)
    return found


@given(
    hands=st.dictionaries(_positions, st.sampled_from([ANN, BO]), min_size=1, max_size=6),
    position=_positions,
    day=st.integers(0, 12),
)
def test_what_goes_from_hand_to_hand_is_erased_where_it_was_theirs(
    hands: dict[Position, UUID], position: Position, day: int
) -> None:
    """Up to the erasure, by the latest handover before it, and before the first by that one; and only of
    touchpoints that belong to whoever has it."""
    holders = [Held(since, whose) for since, whose in sorted(hands.items())]
    erased_at = EPOCH + timedelta(days=day)
    stones = by_digest(list(tombstones_of(ANN, (), {TABLET: holders}, erased_at)))
    whose = [one.customer_id for one in holders if one.since <= position] or [holders[0].customer_id]
    hers = whose[-1] == ANN and position[0] <= erased_at

    assert is_erased([TABLET], position, stones) == hers
    assert not is_erased(["user_id:bo", TABLET], position, stones)
    assert is_erased(["account_id:acme", TABLET], position, stones) == hers


@given(position=_positions, day=st.integers(0, 12), others=st.lists(st.just("user_id:bo"), max_size=1))
def test_what_was_theirs_alone_is_erased_wherever_it_is_named(
    position: Position, day: int, others: list[str]
) -> None:
    """The instant of the erasure is a part of before; what comes behind it is somebody new's."""
    erased_at = EPOCH + timedelta(days=day)
    stones = by_digest(list(tombstones_of(ANN, [EMAIL], {}, erased_at)))

    erased = is_erased([*others, EMAIL], position, stones)
    assert erased == (position[0] <= erased_at)
    assert not is_erased(["email:bo@b.dk"], position, stones)


def test_a_digest_tells_no_name() -> None:
    """It is of one length, and another one for another kind of the same value."""
    digests = {digest_of(name) for name in ("email:a", "phone:a", EMAIL)}

    assert {len(one) for one in digests} == {32}
    assert len(digests) == 3
