"""What a map says: how a file is cut into rows, and how a row becomes a touchpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from services.importer.values import Read, Row, Unreadable

Kind = Literal["csv", "whitespace", "ndjson"]
Encoding = Literal["utf-8", "latin-1", "cp1252"]

REQUIRED = ("type", "channel", "occurred_at", "identities")
"""What a touchpoint can't be without."""


@dataclass(frozen=True, slots=True)
class Format:
    """How the file is cut into rows and columns. No `columns`: the first line names them."""

    kind: Kind
    delimiter: str = ","
    quote: str | None = '"'
    columns: tuple[str, ...] = ()
    encoding: Encoding = "utf-8"


@dataclass(frozen=True, slots=True)
class Map:
    """A map that was read. `columns` are those that it needs."""

    format: Format
    columns: frozenset[str]
    scalars: Mapping[str, Read]
    objects: Mapping[str, Mapping[str, Read]]

    def touchpoint(self, row: Row) -> Mapping[str, Any]:
        """The touchpoint of a row, as ingest takes it; what is empty is left out.

        Raises:
            Unreadable: a value is not what the map says, or one that a touchpoint must have is empty.
        """
        event = {name: _read(read, row, f"/{name}") for name, read in self.scalars.items()}
        for name in (*REQUIRED, "id"):
            # An id that the map asks for and the row lacks would silently become another touchpoint's.
            if name in event and event[name] is None:
                raise Unreadable("missing_member", "is empty", f"/{name}")
        for name, members in self.objects.items():
            event[name] = {
                member: value
                for member, read in members.items()
                if (value := _read(read, row, f"/{name}/{member}")) is not None
            }
        return {name: value for name, value in event.items() if value not in (None, {})}


def _read(read: Read, row: Row, pointer: str) -> Any:
    try:
        return read(row)
    except Unreadable as error:
        raise Unreadable(error.code, error.message, error.pointer or pointer) from None
