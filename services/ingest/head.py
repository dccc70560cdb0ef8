"""What a request says before its body: who sends, what it is and how long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from services.ingest.body import too_large
from services.ingest.event import WIRE_BYTES_MAX
from shared.keys import bearer
from shared.problem import Problem

MEDIA_TYPES = frozenset(("application/json", "application/x-ndjson", "text/plain"))
_FIELDS_MAX = 100


class Head:
    """The headers that matter here, read in one pass."""

    __slots__ = ("_authorization", "_content_type", "_encoding", "_query", "length")

    def __init__(self, scope: Any) -> None:
        self._authorization = self._content_type = self._encoding = b""
        self._query: bytes = scope["query_string"]
        self.length = 0
        self._read(scope["headers"])

    def _read(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name == b"content-type":
                self._content_type = value
            elif name == b"content-length":
                self.length = int(value)
            elif name == b"authorization":
                self._authorization = value
            elif name == b"content-encoding":
                self._encoding = value

    def key(self) -> str | None:
        """The key, from the header, or from `?key=` where a sender can't set one."""
        if self._authorization:
            return bearer(self._authorization.decode("latin-1"))
        if b"key=" not in self._query:
            return None
        try:
            fields = parse_qs(self._query.decode("latin-1"), max_num_fields=_FIELDS_MAX)
        except ValueError:
            return None
        return fields.get("key", [None])[0]

    def media_type(self) -> str:
        """The body's media type without its parameters.

        Raises:
            Problem: 415, it is none that is taken.
        """
        media_type = self._content_type.partition(b";")[0].strip().lower().decode("latin-1")
        if media_type not in MEDIA_TYPES:
            raise Problem(
                415, "unsupported_media_type", f"the body must be one of {', '.join(sorted(MEDIA_TYPES))}"
            )
        return media_type

    def is_gzip(self) -> bool:
        """Whether the body is compressed.

        Raises:
            Problem: 415, it is encoded in another way.
        """
        encoding = self._encoding.strip().lower()
        if encoding not in (b"", b"identity", b"gzip"):
            raise Problem(415, "unsupported_encoding", "the body must be gzip or not encoded")
        return encoding == b"gzip"

    def check_length(self) -> None:
        """Refuse a body that is announced as too large.

        Raises:
            Problem: 413.
        """
        if self.length > WIRE_BYTES_MAX:
            raise too_large()
