"""The page of touchpoint types is the catalogue."""

from __future__ import annotations

from tests.docs.types_table import PAGE, with_tables


def test_the_tables_in_the_docs_are_the_catalogue() -> None:
    """Run python -m tests.docs.types_table where they differ."""
    text = PAGE.read_text()
    assert all(mark in text for mark in ("<!-- types: begin -->", "<!-- types: end -->"))
    assert text == with_tables(text)
