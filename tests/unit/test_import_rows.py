"""Reading a file as rows, and gathering rows into requests."""

from __future__ import annotations

import csv
import io
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.importer.batches import BYTES_MAX, batches
from services.importer.map_file import parse
from services.importer.mapping import Format
from services.importer.rows import LINE_BYTES_MAX, FileRow, Place, Rows
from shared.errors import ConfigError

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)
CELL = TEXT | st.tuples(TEXT, st.sampled_from(["\n", "\r\n", '"', ";"]), TEXT).map("".join)
MAP = parse(
    """
format: {kind: csv, header: false, columns: [customer, date, note]}
type: order_completed
channel: web
occurred_at: {column: date, format: "%Y%m%d", zone: UTC}
identities: {loyalty_id: {column: customer}}
properties: {note: {column: note}}
""",
    "a.yaml",
)


def read(
    data: bytes, format_: Format, needed: frozenset[str] = frozenset(), start: Place | None = None
) -> list[FileRow]:
    return list(Rows(io.BytesIO(data), format_, needed, start or Place()))


@given(
    st.lists(st.lists(CELL, min_size=2, max_size=2).filter(any), max_size=8),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_csv_file_is_read_as_it_was_written_and_from_any_place_on(
    rows: list[list[str]], delimiter: str, line_end: str, bom: bool
) -> None:
    """Whatever the cells hold, the delimiter and the line ends: the same cells come back, and reading from
    the end of any row gives exactly the rest, with the same numbers."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([["a", "b"], *rows])
    data = (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()
    format_ = Format("csv", delimiter)

    found = read(data, format_)

    assert [row.raw for row in found] == rows
    assert [row.number for row in found] == list(range(1, len(rows) + 1))
    for index, row in enumerate(found):
        assert read(data, format_, start=row.end) == found[index + 1 :]


@given(st.lists(st.lists(st.from_regex(r"\A[!-~]{1,8}\Z"), min_size=3, max_size=3), max_size=8))
def test_columns_between_spaces_are_read_however_many_spaces_there_are(rows: list[list[str]]) -> None:
    """Leading, trailing and repeated spaces and CRLF don't matter; blank lines are no rows."""
    lines = ["  a b\tc ", *("   ".join(row) + " " for row in rows)]
    data = "\r\n \r\n".join(lines).encode()

    assert [row.raw for row in read(data, Format("whitespace"))] == rows


def test_lines_of_json_become_rows_or_are_said_to_be_none() -> None:
    """An object is a row; anything else is refused in its place, and the next line is read."""
    data = b'{"a": 1}\n\nnonsense\n[1]\n{"a": 2}'

    found = read(data, Format("ndjson"))

    assert [(row.number, row.line, row.columns.get("a")) for row in found] == [
        (1, 1, 1), (2, 3, None), (3, 4, None), (4, 5, 2),
    ]  # fmt: skip
    codes = [row.unreadable.code for row in found if row.unreadable]
    assert codes == ["malformed_json", "not_an_object"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"only-one", "wrong_columns"),
        (b"1;2;3", "wrong_columns"),
        (b'"1"x;2', "malformed_row"),
        (b"\xff;2", "invalid_text"),
        (b"x" * (LINE_BYTES_MAX + 10), "malformed_row"),
        (b"1;" + b"2;" * LINE_BYTES_MAX, "too_long"),
    ],
    ids=["few", "many", "quotes", "not UTF-8", "a huge cell", "a huge line"],
)
def test_a_row_that_is_none_harms_no_other(line: bytes, code: str) -> None:
    """The rows before and after a broken one are read, with their right numbers and lines."""
    data = b"a;b\nfirst;1\n" + line + b"\nlast;2\n"

    first, broken, last = read(data, Format("csv", ";"))

    assert (first.raw, first.unreadable) == (["first", "1"], None)
    assert broken.unreadable is not None
    assert (broken.number, broken.line, broken.unreadable.code) == (2, 3, code)
    assert (last.raw, last.number, last.line, last.unreadable) == (["last", "2"], 3, 4, None)
    assert last.end.offset == len(data)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("a,b\n", "the header has no column 'c'"),
        ("c,c\n", "the header has the column 'c' twice"),
        ("", "no column 'c'"),
    ],
)
def test_a_header_that_lacks_what_the_map_needs_is_refused_before_anything_is_sent(
    header: str, problem: str
) -> None:
    """The header is looked at first, and every problem with it is told."""
    with pytest.raises(ConfigError, match=problem):
        read(header.encode(), Format("csv"), frozenset({"c"}))


@given(st.lists(st.integers(0, 300_000), max_size=20), st.integers(1, 4))
def test_batches_keep_the_order_and_the_bounds(sizes: list[int], events_max: int) -> None:
    """Every row is in exactly one batch, in order; no batch has too many rows or bytes; each ends where its
    last row does."""
    data = "".join(f"{n},19970101,{'x' * size}\n" for n, size in enumerate(sizes)).encode()
    rows = read(data, MAP.format)

    found = list(batches(rows, MAP, events_max))

    taken = [json.loads(event)["identities"]["loyalty_id"] for batch in found for event in batch.events]
    refused = [refused.row for batch in found for refused in batch.refused]
    assert sorted([int(text) + 1 for text in taken] + refused) == list(range(1, len(sizes) + 1))
    assert taken == sorted(taken, key=int)
    assert [batch.number for batch in found] == list(range(len(found)))
    assert all(1 <= batch.count <= events_max for batch in found)
    assert all(len(b"[" + b",".join(batch.events) + b"]") <= BYTES_MAX for batch in found)
    assert all(before.end.row < after.end.row for before, after in pairwise(found))
    assert not found or found[-1].end == rows[-1].end
