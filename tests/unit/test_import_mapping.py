"""The map of an import: what it says, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from services.importer.map_file import parse
from services.importer.values import Unreadable
from shared.errors import ConfigError

MAP = """
format: {kind: csv, delimiter: ";"}
type: {column: kind, values: {P: order_completed, R: return_completed}}
channel: store
occurred_at: {template: "{date} {time}", format: "%d-%m-%Y %H:%M", zone: Europe/Copenhagen}
identities: {loyalty_id: {column: card}, email: {column: mail}, crm: {template: "c-{customer}"}}
id: {template: "{shop}/{receipt}"}
properties:
  amount: {column: total, as: float, decimal: ","}
  count: {column: count, as: int}
  gift: {column: gift, as: bool}
  shop: {column: shop}
  import: history
traits: {name: {column: name}}
context: {campaign: {column: campaign}}
owner: partner
sentiment: {column: mood}
"""
ROW = {
    "kind": "P", "date": "31-12-1997", "time": "23:30", "card": " 00012 ", "mail": "ida@example.com",
    "customer": "7", "shop": "12", "receipt": "0099", "total": "1234,5", "count": "-3", "gift": "Yes",
    "name": "Ida Åkesson", "campaign": "", "mood": "0.5", "@row": 1,
}  # fmt: skip


def smallest(**change: str) -> str:
    lines = {
        "format": "whitespace",
        "type": "order_completed",
        "channel": "web",
        "occurred_at": '{column: date, format: "%Y%m%d", zone: UTC}',
        "identities": "{loyalty_id: {column: customer}}",
    } | change
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def touchpoint(row: dict[str, Any], **change: str) -> dict[str, Any]:
    row = {"date": "19970101", "customer": "00001", "@row": 1} | row
    return dict(parse(smallest(**change), "a.yaml").touchpoint(row))


def test_a_row_becomes_the_touchpoint_that_the_map_describes() -> None:
    """Constants, columns, templates, tables and conversions each give what they say, times come out in UTC,
    and what is empty is left out."""
    assert parse(MAP, "a.yaml").touchpoint(ROW) == {
        "type": "order_completed",
        "channel": "store",
        "occurred_at": "1997-12-31T22:30:00Z",
        "identities": {"loyalty_id": " 00012 ", "email": "ida@example.com", "crm": "c-7"},
        "id": "12/0099",
        "properties": {"amount": 1234.5, "count": -3, "gift": True, "shop": "12", "import": "history"},
        "traits": {"name": "Ida Åkesson"},
        "owner": "partner",
        "sentiment": 0.5,
    }


@pytest.mark.parametrize(
    ("spec", "given", "expected"),
    [
        ("{column: date}", "1997-01-02T03:04:05+01:00", "1997-01-02T02:04:05Z"),
        ("{column: date, zone: Asia/Tokyo}", "1997-01-02 09:00", "1997-01-02T00:00:00Z"),
        ("{column: date, format: unix_s}", "852076800", "1997-01-01T00:00:00Z"),
        ("{column: date, format: unix_ms}", "852076800500", "1997-01-01T00:00:00.500000Z"),
        ('{column: date, format: "%Y-%m-%d %z"}', "1997-01-02 +0200", "1997-01-01T22:00:00Z"),
        (
            '{column: date, format: "%Y-%m-%d %H:%M", zone: Europe/Copenhagen}',
            "1997-10-26 02:30",
            "1997-10-26T00:30:00Z",
        ),
    ],
)
def test_a_time_is_read_as_the_map_says(spec: str, given: str, expected: str) -> None:
    """RFC 3339, local times, Unix times and any strptime format; of two possible moments, the first."""
    assert touchpoint({"date": given}, occurred_at=spec)["occurred_at"] == expected


@pytest.mark.parametrize(
    ("change", "row", "code", "pointer"),
    [
        ({}, {"date": "19971301"}, "invalid_time", "/occurred_at"),
        ({}, {"date": ""}, "missing_member", "/occurred_at"),
        ({"occurred_at": "{column: date}"}, {"date": "1997-01-01"}, "invalid_time", "/occurred_at"),
        ({"type": "{column: t, values: {a: b}}"}, {"t": "c"}, "unknown_value", "/type"),
        ({"id": "{column: i}"}, {"i": " "}, "missing_member", "/id"),
        ({"properties": "{n: {column: n, as: int}}"}, {"n": "1_0"}, "wrong_type", "/properties/n"),
        ({"properties": "{n: {column: n, as: int}}"}, {"n": str(1 << 63)}, "wrong_type", "/properties/n"),
        ({"properties": "{n: {column: n, as: float}}"}, {"n": "nan"}, "wrong_type", "/properties/n"),
        ({"properties": "{n: {column: n, as: float}}"}, {"n": "1e999"}, "wrong_type", "/properties/n"),
        (
            {"properties": '{n: {column: n, as: float, decimal: ","}}'},
            {"n": "1.5"},
            "wrong_type",
            "/properties/n",
        ),
        ({"properties": "{n: {column: n, as: bool}}"}, {"n": "maybe"}, "wrong_type", "/properties/n"),
    ],
)
def test_a_value_that_is_not_what_the_map_says_names_its_place_and_not_itself(
    change: dict[str, str], row: dict[str, str], code: str, pointer: str
) -> None:
    """A refusal has a code and a pointer, and never repeats what may be a person's data."""
    with pytest.raises(Unreadable) as caught:
        touchpoint(row, **change)

    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert all(value not in caught.value.message for value in row.values() if value.strip())


def test_objects_of_ndjson_keep_their_types_and_are_reached_by_pointer() -> None:
    """A value without a conversion stays what JSON made of it; a pointer leads into objects and arrays."""
    row = {"a": {"b": [1, {"c~/d": True}]}, "n": 1.5, "none": None}
    properties = (
        '{deep: {column: "/a/b/1/c~0~1d"}, n: {column: n}, none: {column: none}, no: {column: "/a/x"}}'
    )

    assert touchpoint(row, properties=properties)["properties"] == {"deep": True, "n": 1.5}


def test_the_number_of_a_row_can_tell_equal_rows_apart() -> None:
    """`{@row}` in a template is the row's number."""
    assert touchpoint({"@row": 17}, id='{template: "cdnow-{@row}"}')["id"] == "cdnow-17"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "excel"}, "format.kind: 'excel' is none of csv, whitespace, ndjson"),
        ({"format": "{kind: csv, delimiter: ';;'}"}, "format.delimiter: is no single character"),
        ({"format": "{kind: csv, header: false}"}, "format: name the `columns` of a file"),
        ({"format": "{kind: csv, columns: [a]}"}, "format: name the `columns` of a file"),
        ({"format": "{kind: csv, header: false, columns: [a, a]}"}, "format.columns: 'a' stands there twice"),
        ({"format": "{kind: csv, header: false, columns: [date]}"}, "there is no column 'customer'"),
        ({"format": "{kind: ndjson, delimiter: x}"}, "format.delimiter: is not known here"),
        ({"type": "Order Completed"}, "type: 'Order Completed' is no snake_case name"),
        ({"type": "{column: t, values: {a: B}}"}, "type: 'B' is no snake_case name"),
        ({"type": "{column: t, values: {null: b}}"}, "type.values: None is no text"),
        ({"channel": "fax"}, "channel: 'fax' is none of web, app"),
        ({"occurred_at": "1997-01-01"}, "occurred_at: is no mapping"),
        ({"occurred_at": "2024-13-01"}, "holds a value that can't be read"),
        ({"occurred_at": '{column: d, format: "%H:%M", zone: UTC}'}, "with a year, a month and a day"),
        ({"occurred_at": '{column: d, format: "%Y%m%d"}'}, "occurred_at.zone: name the times' zone"),
        ({"occurred_at": '{column: d, format: "%Y%m%d%z", zone: UTC}'}, "occurred_at.zone: name the times'"),
        ({"occurred_at": '{column: d, format: "%Y%m%d", zone: Mars/Base}'}, "'Mars/Base' is no time zone"),
        ({"occurred_at": "{column: d, zone: [a]}"}, "is no time zone"),
        ({"identities": "{loyalty_id: 7}"}, "a constant makes all rows one customer's"),
        ({"identities": "{Loyalty-Id: {column: a}}"}, "is no kind of identity"),
        ({"identities": "{}"}, "identities: is no mapping of names to values"),
        ({"id": "x"}, "id: a constant would make every row the same touchpoint"),
        ({"id": "{template: same}"}, "id.template: has no column in it"),
        ({"id": '{template: "{a!r}"}'}, "id.template: a template has columns as {name}"),
        ({"id": '{template: "{a"}'}, "id.template: expected '}'"),
        ({"id": "{column: a, template: b}"}, "id: needs either `column: NAME` or `template: TEXT`"),
        ({"properties": "{a: {column: b, as: money}}"}, "properties.a.as: is none of text, int, float, bool"),
        ({"properties": "{a: {column: b, as: [int]}}"}, "properties.a.as: is none of text, int, float, bool"),
        ({"properties": "{a: {column: b, decimal: ','}}"}, "properties.a.decimal"),
        ({"properties": "{a: 1997-01-01}"}, "quote a date"),
        ({"properties": "{? [a] : b}"}, "a key is no text"),
        ({"sentiment": "2"}, "sentiment: is no number from -1 to 1"),
        ({"owner": "theirs"}, "owner: 'theirs' is none of own, partner, third_party"),
        ({"size": "1"}, "size: is not known here"),
        ({"type": ""}, "type: is missing"),
    ],
)
def test_what_is_wrong_with_a_map_is_told_with_its_place(change: dict[str, str], problem: str) -> None:
    """A broken map is refused for the stated reason, never with a stack trace."""
    with pytest.raises(ConfigError) as caught:
        parse(smallest(**change), "a.yaml")

    assert problem in str(caught.value)
    assert all(line.startswith("a.yaml: ") for line in str(caught.value).splitlines())


def test_everything_that_is_wrong_with_a_map_is_told_at_once() -> None:
    """One try shows all errors."""
    with pytest.raises(ConfigError) as caught:
        parse(smallest(format="excel", type="A B", channel="fax", owner="theirs", sentiment="9"), "a.yaml")

    assert len(str(caught.value).splitlines()) == 5
