"""How large a batch to Kafka may be: halved when it is refused, tried larger when many were kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.eventlog.kafka.sizes import (
    BATCH_BYTES_MAX,
    BATCH_BYTES_MIN,
    KEPT_BEFORE_LARGER,
    BatchSize,
)


@given(limit=st.integers(2 * BATCH_BYTES_MIN, BATCH_BYTES_MAX))
def test_a_limit_is_found_in_few_refusals_and_forgotten_when_it_is_gone(limit: int) -> None:
    """Whatever a broker takes, batches fit after ten refusals at most and fill a quarter of it at least;
    once it takes everything again, so are they sent."""
    size = BatchSize()
    refusals = 0
    while size.bytes_max > limit:
        size.refused(size.bytes_max)
        refusals += 1
    assert refusals <= 10
    assert size.bytes_max >= limit // 4

    for _ in range(10 * KEPT_BEFORE_LARGER):
        size.kept()
    assert size.bytes_max == BATCH_BYTES_MAX


def test_several_refused_at_once_are_one_lesson() -> None:
    """Batches of one size that were on their way together halve it once."""
    size = BatchSize()
    for _ in range(6):
        size.refused(40_000)
    assert size.bytes_max == 20_000


def test_a_larger_batch_is_tried_only_after_many_in_a_row() -> None:
    """A refusal begins the count anew, so that trying costs one batch in many."""
    size = BatchSize()
    size.refused(10_000)
    for _ in range(KEPT_BEFORE_LARGER - 1):
        size.kept()
    size.refused(10_000)
    for _ in range(KEPT_BEFORE_LARGER - 1):
        size.kept()
    assert size.bytes_max == 5_000
    size.kept()
    assert size.bytes_max == 10_000
