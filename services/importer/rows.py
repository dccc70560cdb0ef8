"""The file as rows, each with the place where it ends, so that reading can go on there another time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from services.importer.mapping import Format
from services.importer.values import ROW_NUMBER, Row, Unreadable
from shared.errors import ConfigError

LINE_BYTES_MAX = 1 << 20

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Place:
    """How far a file was read: the bytes, the rows of data and the lines before this place."""

    offset: int = 0
    row: int = 0
    line: int = 0


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row: its number (from 1, without the header), the line it begins in, its text or cells, and where
    it ends. `unreadable` says why there are no `columns`."""

    number: int
    line: int
    raw: Any
    end: Place
    columns: Row
    unreadable: Unreadable | None = None


class Rows:
    """The rows of a file from a place on. Blank lines are no rows.

    Raises (when made):
        ConfigError: the header is missing, or lacks a column of `needed`.
    """

    def __init__(self, file: BinaryIO, format_: Format, needed: frozenset[str], start: Place) -> None:
        self._format = format_
        self._lines = _Lines(file, format_.encoding)
        self._names: Sequence[str] = format_.columns
        if format_.kind != "ndjson" and not self._names:
            self._names = self._header(needed)
        if start.offset:
            self._lines.go_to(start)
        self._row = start.row

    def __iter__(self) -> Iterator[FileRow]:
        records = self._records()
        while True:
            line = self._lines.line + 1
            try:
                raw = next(records)
                unreadable = self._lines.unreadable
            except StopIteration:
                return
            except csv.Error as error:
                raw, unreadable = None, Unreadable("malformed_row", f"is no row: {error}")
            self._lines.unreadable = None
            if raw in ("", []):
                continue
            self._row += 1
            yield self._made(raw, unreadable, line)

    def _made(self, raw: Any, unreadable: Unreadable | None, line: int) -> FileRow:
        end = Place(self._lines.offset, self._row, self._lines.line)
        columns: Mapping[str, Any] = {}
        if unreadable is None:
            try:
                columns = {**self._columns(raw), ROW_NUMBER: self._row}
            except Unreadable as error:
                unreadable = error
        return FileRow(self._row, line, raw, end, columns, unreadable)

    def _columns(self, raw: Any) -> Mapping[str, Any]:
        if self._format.kind != "ndjson":
            if len(raw) != len(self._names):
                raise Unreadable("wrong_columns", f"has {len(raw)} columns, not {len(self._names)}")
            return dict(zip(self._names, raw, strict=True))
        try:
            row = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError):
            raise Unreadable("malformed_json", "is no JSON") from None
        if not isinstance(row, dict):
            raise Unreadable("not_an_object", "is no JSON object")
        return row

    def _records(self) -> Iterator[Any]:
        if self._format.kind == "csv":
            quote = self._format.quote
            return csv.reader(
                self._lines,
                delimiter=self._format.delimiter,
                quotechar=quote,
                quoting=csv.QUOTE_NONE if quote is None else csv.QUOTE_MINIMAL,
                strict=True,
            )
        if self._format.kind == "whitespace":
            return (line.split() for line in self._lines)
        return (line.strip() for line in self._lines)

    def _header(self, needed: frozenset[str]) -> Sequence[str]:
        try:
            names = [name.strip() for name in next(self._records(), [])]
        except csv.Error as error:
            raise ConfigError(f"the file's header is no row: {error}") from None
        problems = [f"the header has no column {name!r}" for name in sorted(needed - set(names))]
        twice = {name for name in names if names.count(name) > 1}
        problems += [f"the header has the column {name!r} twice" for name in sorted(twice)]
        if problems:
            raise ConfigError("\n".join(problems))
        return names


class _Lines:
    """The lines of a file as texts, counting their bytes."""

    def __init__(self, file: BinaryIO, encoding: str) -> None:
        self.offset = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
        self.line = 0
        self.unreadable: Unreadable | None = None
        """What was wrong with a line since this was last set to None."""
        self._file = file
        self._encoding = encoding
        file.seek(self.offset)

    def go_to(self, place: Place) -> None:
        """Go on at a place."""
        self._file.seek(place.offset)
        self.offset, self.line = place.offset, place.line

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LINE_BYTES_MAX)
        if not line:
            raise StopIteration
        self.offset += len(line)
        self.line += 1
        if len(line) == LINE_BYTES_MAX and not line.endswith(b"\n"):
            self._skip_rest()
        try:
            return line.decode(self._encoding)
        except UnicodeDecodeError:
            self.unreadable = Unreadable("invalid_text", f"is not in {self._encoding}")
            return line.decode(self._encoding, "replace")

    def _skip_rest(self) -> None:
        self.unreadable = Unreadable("too_long", f"is a line of more than {LINE_BYTES_MAX} bytes")
        while part := self._file.readline(LINE_BYTES_MAX):
            self.offset += len(part)
            if part.endswith(b"\n"):
                return
