"""What a request says before its body: who sends, what it is and how long."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import parse_qs

import msgspec

from services.ingest.body import too_large
from services.ingest.event import WIRE_BYTES_MAX
from shared.keys import bearer
from shared.problem import Problem

MEDIA_TYPES = frozenset(("application/json", "application/x-ndjson", "text/plain"))
REQUEST_KEY_BYTES_MAX = 255
_FIELDS_MAX = 100


class Head:
    """The headers that matter here, read in one pass."""

    __slots__ = (
        *("_authorization", "_content_type", "_encoding", "_idempotency_key", "_query"),
        *("is_gzip", "length", "media_type"),
    )

    media_type: str
    is_gzip: bool

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], query: bytes) -> None:
        """Read headers, whose names are in lower case, and a query."""
        self._authorization = self._content_type = self._encoding = b""
        self._query = query
        self._idempotency_key: bytes | None = None
        self.length = 0
        self._read(headers)

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
            elif name == b"idempotency-key":
                self._idempotency_key = value

    @property
    def credentials(self) -> bytes:
        """The bytes that the key is read from."""
        return self._authorization or self._query

    def key(self) -> str | None:
        """The key, from the header, or from `?key=` where a sender can't set one."""
        if self._authorization:
            return bearer(self._authorization.decode("latin-1"))
        return self._asked("key")

    def sent_at(self) -> datetime | None:
        """When the request was sent by the sender's clock, of `?sent_at=`.

        Raises:
            Problem: 400, it is no time with an offset.
        """
        text = self._asked("sent_at")
        if text is None:
            return None
        try:
            moment = msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise Problem(400, "invalid_time", "sent_at in the query is no time as RFC 3339 writes it")
        return moment

    def request_key(self) -> bytes | None:
        """What a retry of the request has in common with it: the header `Idempotency-Key`, with or without
        quotation marks.
        https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-idempotency-key-header

        Raises:
            Problem: 400, it is empty or too long.
        """
        if self._idempotency_key is None:
            return None
        key = self._idempotency_key.strip()
        if len(key) > 1 and key.startswith(b'"') and key.endswith(b'"'):
            key = key[1:-1]
        if not 0 < len(key) <= REQUEST_KEY_BYTES_MAX:
            detail = f"Idempotency-Key must have 1 to {REQUEST_KEY_BYTES_MAX} bytes"
            raise Problem(400, "invalid_idempotency_key", detail)
        return key

    def _asked(self, name: str) -> str | None:
        """A field of the query."""
        if not self._query or f"{name}=".encode() not in self._query:
            return None
        try:
            fields = parse_qs(self._query.decode("latin-1"), max_num_fields=_FIELDS_MAX)
        except ValueError:
            return None
        return fields.get(name, [None])[0]

    def check_media(self) -> None:
        """Read the body's media type, without its parameters, and whether it is compressed.

        Raises:
            Problem: 415, it is of a type that isn't taken, or encoded in another way.
        """
        self.media_type = self._content_type.partition(b";")[0].strip().lower().decode("latin-1")
        if self.media_type not in MEDIA_TYPES:
            raise Problem(
                415, "unsupported_media_type", f"the body must be one of {', '.join(sorted(MEDIA_TYPES))}"
            )
        encoding = self._encoding.strip().lower()
        if encoding not in (b"", b"identity", b"gzip"):
            raise Problem(415, "unsupported_encoding", "the body must be gzip or not encoded")
        self.is_gzip = encoding == b"gzip"

    def check_length(self) -> None:
        """Refuse a body that is announced as too large.

        Raises:
            Problem: 413.
        """
        if self.length > WIRE_BYTES_MAX:
            raise too_large()
