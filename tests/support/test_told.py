"""A consumer of stage changes who is right in whatever order partitions are read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.support.told import listen


def told(id_: int, kind: str, customer: str, **more: Any) -> bytes:
    """A message."""
    return msgspec.json.encode({"id": id_, "kind": kind, "customer": customer, **more})


BEGIN = {"journey": "a", "version": 1, "run": "", "revision": 0, "seq": 0, "from": None, "to_paused": False}
OF_AN_ALIAS = told(1, "transition", "alias", **BEGIN, to="aware")
ERASURE = told(3, "customer_erased", "ann", aliases=["alias"])


@pytest.mark.parametrize("values", [[OF_AN_ALIAS, ERASURE], [ERASURE, OF_AN_ALIAS]])
def test_nothing_is_kept_of_an_alias_of_who_was_erased(values: list[bytes]) -> None:
    """It lies in another partition, which may be read before or after."""
    assert listen(values).differences([]) == []


def test_what_is_told_of_who_was_erased_afterwards_is_seen() -> None:
    """By its id, whichever partition it lies in."""
    late = told(4, "transition", "alias", **BEGIN, to="aware")
    assert listen([ERASURE, late]).wrong == ["message 4 is about a customer who was erased"]
