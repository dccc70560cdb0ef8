"""The map: a YAML file that says how a row of somebody's table becomes a touchpoint.

    format: {kind: csv, delimiter: ";"}
    type: {column: kind, values: {P: order_completed, R: return_completed}}
    channel: store
    occurred_at: {column: date, format: "%d-%m-%Y", zone: Europe/Copenhagen}
    identities: {loyalty_id: {column: card}, email: {column: mail}}
    properties: {amount: {column: total, as: float, decimal: ","}}

A value is a constant, `{column: …}` or `{template: "{shop}-{receipt}"}`. `parse` reports every error of a
map at once, each with its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.importer import values
from services.importer.mapping import REQUIRED, Encoding, Format, Kind, Map
from services.importer.values import ROW_NUMBER, Read
from shared import strict_yaml
from shared.errors import ConfigError
from shared.touchpoint import CHANNELS, Owner, is_identity_kind

OPTIONAL = ("id", "properties", "traits", "context", "owner", "sentiment")
OBJECTS = ("identities", "properties", "traits", "context")
_TYPE = re.compile(r"[a-z][a-z0-9_]{0,199}")
_FORMAT_MEMBERS: Mapping[Kind, set[str]] = {
    "csv": {"delimiter", "quote", "header", "columns", "encoding"},
    "whitespace": {"header", "columns", "encoding"},
    "ndjson": set(),
}
_CONVERSIONS = {
    "text": values.to_text,
    "int": values.to_int,
    "float": values.to_float,
    "bool": values.to_bool,
}
_SAMPLE = datetime(2001, 2, 13, 4, 5, 6, tzinfo=UTC)


def parse(text: str, name: str) -> Map:
    """Read a map. `name` stands in the errors.

    Raises:
        ConfigError: lists every error of the text, each with its place.
    """
    problems: list[str] = []
    data = strict_yaml.load(text, problems)
    found = _Reader(problems).map(data) if not problems else None
    if problems or found is None:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))
    return found


class _Reader:
    """Turns plain data into a map and notes every problem with its place on the way."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems
        self._columns: set[str] = set()

    def map(self, data: Any) -> Map:
        fields = self._object(data, "", {"format", *REQUIRED}, set(OPTIONAL))
        format_ = self._format(fields.get("format"))
        scalars = {
            "type": self._value(fields.get("type"), "type"),
            "channel": self._value(fields.get("channel"), "channel"),
            "occurred_at": self._time(fields.get("occurred_at"), "occurred_at"),
        }
        for name in ("id", "owner", "sentiment"):
            if name in fields:
                scalars[name] = self._value(
                    fields[name], name, as_="float" if name == "sentiment" else "text"
                )
        objects = {name: self._members(fields[name], name) for name in OBJECTS if name in fields}
        if "id" in fields and not isinstance(fields["id"], dict):
            self._problems.append("id: a constant would make every row the same touchpoint")
        if format_.kind != "ndjson" and format_.columns:
            for column in sorted(self._columns - set(format_.columns) - {ROW_NUMBER}):
                self._problems.append(f"format.columns: there is no column {column!r}")
        return Map(format_, frozenset(self._columns - {ROW_NUMBER}), scalars, objects)

    def _format(self, data: Any) -> Format:
        fields = {"kind": data} if isinstance(data, str) else data
        given = fields.get("kind") if isinstance(fields, dict) else None
        kind: Kind = self._one_of(given, get_args(Kind), "format.kind")
        fields = self._object(fields, "format", {"kind"}, _FORMAT_MEMBERS[kind])
        return Format(
            kind,
            self._character(fields.get("delimiter", ","), "format.delimiter") or ",",
            self._character(fields.get("quote", '"'), "format.quote", may_be_none=True),
            self._names(fields),
            self._one_of(fields.get("encoding", "utf-8"), get_args(Encoding), "format.encoding"),
        )

    def _names(self, fields: Mapping[str, Any]) -> tuple[str, ...]:
        columns = fields.get("columns", [])
        if fields.get("header", True) is not (not columns):
            self._problems.append("format: name the `columns` of a file with `header: false`, and only then")
        if not isinstance(columns, list) or not all(isinstance(name, str) and name for name in columns):
            self._problems.append("format.columns: is no list of names")
            return ()
        for name in sorted({name for name in columns if columns.count(name) > 1}):
            self._problems.append(f"format.columns: {name!r} stands there twice")
        return tuple(columns)

    def _members(self, data: Any, at: str) -> Mapping[str, Read]:
        if not isinstance(data, dict) or not data:
            self._problems.append(f"{at}: is no mapping of names to values")
            return {}
        members = {}
        for name, spec in data.items():
            place = f"{at}.{name}"
            if not isinstance(name, str) or not name or len(name) > 200:
                self._problems.append(f"{place}: the name is no text of up to 200 characters")
            elif at == "identities" and not is_identity_kind(name):
                self._problems.append(f"{place}: is no kind of identity and no namespace")
            elif at == "identities" and not isinstance(spec, dict):
                self._problems.append(f"{place}: a constant makes all rows one customer's; name a column")
            else:
                members[name] = self._value(spec, place, as_="text" if at == "identities" else None)
        return members

    def _value(self, data: Any, at: str, *, as_: str | None = None) -> Read:
        """A constant, a column or a template, converted; `as_` is the conversion unless the map has one."""
        if data is None:
            if at not in REQUIRED:
                self._problems.append(f"{at}: is empty")
            return values.constant(None)
        if not isinstance(data, dict):
            return values.constant(self._checked(data, at))
        fields = self._object(data, at, set(), {"column", "template", "as", "decimal", "values"})
        read = self._source(fields, at)
        if "values" in fields:
            return values.then(read, values.lookup(self._table(fields["values"], at)))
        as_ = fields.get("as", as_)
        decimal = fields.get("decimal", ".")
        if decimal not in (".", ",") or (decimal != "." and as_ != "float"):
            self._problems.append(f'{at}.decimal: is "." or ",", and goes with `as: float`')
        if as_ is None:
            return read
        if not isinstance(as_, str) or as_ not in _CONVERSIONS:
            self._problems.append(f"{at}.as: is none of {', '.join(_CONVERSIONS)}")
            return read
        if decimal == ",":
            return values.then(read, lambda value: values.to_float(value, ","))
        return values.then(read, _CONVERSIONS[as_])

    def _source(self, fields: Mapping[str, Any], at: str) -> Read:
        column, template = fields.get("column"), fields.get("template")
        if isinstance(column, str) and column and template is None:
            self._columns.add(column)
            return values.column(column)
        if isinstance(template, str) and column is None:
            try:
                read, columns = values.template(template)
            except ValueError as error:
                self._problems.append(f"{at}.template: {error}")
                return values.constant(None)
            if not columns:
                self._problems.append(f"{at}.template: has no column in it")
            self._columns |= columns
            return read
        self._problems.append(f"{at}: needs either `column: NAME` or `template: TEXT`")
        return values.constant(None)

    def _table(self, data: Any, at: str) -> Mapping[str, Any]:
        if not isinstance(data, dict) or not data:
            self._problems.append(f"{at}.values: is no mapping")
            return {}
        table = {}
        for key, value in data.items():
            if isinstance(key, (str, int, float)):
                # YAML reads 1 and true as no texts; the file has nothing but texts.
                table[values.to_text(key)] = self._checked(value, at)
            else:
                self._problems.append(f"{at}.values: {key!r} is no text; quote it")
        return table

    def _checked(self, value: Any, at: str) -> Any:
        """A value that stands in the map itself."""
        if not isinstance(value, (str, int, float)):
            self._problems.append(f"{at}: {value!r} is no text, number or boolean; quote a date")
        elif at == "type" and not (isinstance(value, str) and _TYPE.fullmatch(value)):
            self._problems.append(f"type: {value!r} is no snake_case name, such as order_completed")
        elif at == "channel":
            self._one_of(value, CHANNELS, at)
        elif at == "owner":
            self._one_of(value, get_args(Owner), at)
        elif at == "sentiment" and (isinstance(value, (str, bool)) or not -1 <= value <= 1):
            self._problems.append("sentiment: is no number from -1 to 1")
        return value

    def _time(self, data: Any, at: str) -> Read:
        if data is None:
            return values.constant(None)
        fields = self._object(data, at, set(), {"column", "template", "format", "zone"})
        read = self._source(fields, at)
        format_, zone = fields.get("format"), self._zone(fields.get("zone"), f"{at}.zone")
        if format_ in (None, "unix_s", "unix_ms"):
            if format_ is not None and zone is not None:
                self._problems.append(f"{at}.zone: {format_} has none")
        elif not isinstance(format_, str) or not _tells_the_day(format_):
            self._problems.append(f"{at}.format: is no strptime format with a year, a month and a day in it")
        elif ("%z" in format_) == (zone is not None):
            self._problems.append(f"{at}.zone: name the times' zone, such as UTC, or read it with %z")
        return values.then(read, values.to_time(format_ if isinstance(format_, str) else None, zone))

    def _zone(self, data: Any, at: str) -> tzinfo | None:
        if data is None:
            return None
        try:
            return ZoneInfo(data)
        except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            self._problems.append(f"{at}: {data!r} is no time zone, such as UTC or Europe/Copenhagen")
            return UTC

    def _object(self, data: Any, at: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
        if not isinstance(data, dict):
            self._problems.append(f"{at or 'the file'}: is no mapping")
            return {}
        prefix = f"{at}." if at else ""
        for name in sorted(name for name in required if data.get(name) is None):
            self._problems.append(f"{prefix}{name}: is missing")
        for name in sorted(str(name) for name in data.keys() - required - optional):
            self._problems.append(f"{prefix}{name}: is not known here")
        return data

    def _one_of(self, data: Any, allowed: tuple[Any, ...], at: str) -> Any:
        if data not in allowed:
            self._problems.append(f"{at}: {data!r} is none of {', '.join(allowed)}")
            return allowed[0]
        return data

    def _character(self, data: Any, at: str, *, may_be_none: bool = False) -> str | None:
        if data is None and may_be_none:
            return None
        if not isinstance(data, str) or len(data) != 1 or data in "\r\n":
            self._problems.append(f"{at}: is no single character")
            return None
        return data


def _tells_the_day(format_: str) -> bool:
    try:
        return datetime.strptime(_SAMPLE.strftime(format_), format_).date() == _SAMPLE.date()  # noqa: DTZ007
    except ValueError:
        return False
