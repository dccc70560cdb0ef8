"""The stager takes from the log what ingest writes to it, and nothing that ingest refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.stager.batch import read_batch
from shared.eventlog.port import Record
from shared.ids import uuid7
from tests.support.accepting import accept
from tests.support.records import FIT, NOW, UNFIT, with_properties


def fates(*values: bytes) -> list[str]:
    """What the stager makes of records of one batch: the reason of each dead letter, empty for the others."""
    batch = read_batch([Record(0, offset, value) for offset, value in enumerate(values)])
    dead = {one.record.offset: one.reason for one in batch.dead}
    assert len(batch.incoming) + len(batch.dead) == len(values)
    return [dead.get(offset, "") for offset in range(len(values))]


@pytest.mark.parametrize("name", UNFIT)
def test_what_ingest_would_refuse_is_a_dead_letter(name: str) -> None:
    """Alone and among fit records, which keep their own fate; and the reason repeats nothing of it."""
    alone = fates(UNFIT[name])
    among = fates(*FIT.values(), UNFIT[name], *FIT.values())

    assert alone[0]
    assert len(alone[0]) < 200
    assert among == [""] * len(FIT) + alone + [""] * len(FIT)


@given(
    body=st.one_of(
        st.sampled_from(
            [b"NaN", b"1e400", rb'"\u0000"', rb'"\ud800"', b"9" * 20, b'"\xff"', b"[" * 17 + b"]" * 17]
        ),
        st.text(max_size=40).map(lambda text: json.dumps(text).encode()),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_ingest_and_stager_give_the_same_verdict(body: bytes) -> None:
    """Whatever stands in properties: what one refuses the other refuses, and what ingest writes is stored."""
    sent = b'{"id":"1","type":"t","channel":"web","identities":{"user_id":"1"},"properties":{"a":%s}}' % body
    try:
        accepted = accept(sent, "json", "shop", NOW, uuid7).records
    except Exception:
        accepted = []
    forged = fates(with_properties(b'{"a":%s}' % body))[0]

    assert bool(forged) == (not accepted)
    assert not any(fates(*(one.value for one in accepted)))
