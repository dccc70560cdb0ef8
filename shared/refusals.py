"""Why a touchpoint is refused: the stable codes, all in this one place."""

from __future__ import annotations

import msgspec

CODES: dict[str, str] = {
    "malformed_json": "the line is not JSON",
    "not_an_object": "a touchpoint is a JSON object",
    "event_too_large": "the touchpoint is larger than 32 KiB",
    "too_deep": "objects and arrays nest deeper than 16",
    "invalid_utf8": "the text is not UTF-8",
    "nul_character": "the text holds U+0000",
    "lone_surrogate": "the text holds half of a surrogate pair",
    "control_character": "an id or an identity holds a control character",
    "number_out_of_range": "an integer beyond 64 bits, or a number beyond a double's range or 400 characters",
    "not_finite": "NaN and Infinity are no numbers of JSON",
    "name_too_long": "a member's name, a type or an id is longer than 200 characters",
    "unknown_member": "a touchpoint has no such member",
    "missing_member": "a required member is missing",
    "wrong_type": "the member has another type of value than it must have",
    "invalid_name": "a type is a snake_case name, such as order_placed",
    "invalid_id": "an id is a text of 1 to 200 characters",
    "unknown_value": "the member's value is none of those that it may have",
    "invalid_time": "a time is written as RFC 3339 says, with its offset",
    "time_out_of_bounds": "a time lies between 1990 and 24 hours ahead",
    "sentiment_out_of_range": "a sentiment lies between -1 and 1",
    "invalid_identity_kind": "a kind is a known one or a namespace of lower-case letters, digits and _",
    "invalid_identity": "an identity's value is not of its kind's form",
    "worthless_identity": "every identity that says who is a value that stands for nobody, such as null",
    "too_many_identities": "a touchpoint has more than 50 identities",
    "no_identity": "no identity says who the person is; an account alone does not",
    "log_refused": "the event log does not take a record of these bytes",
}
"""Every code with what it means."""


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """One refused touchpoint: its place in the request (from 0), why, and where in it (RFC 6901)."""

    index: int
    code: str
    message: str
    pointer: str


class Refused(Exception):
    """A touchpoint can't be accepted. `detail` never repeats a value that was sent."""

    def __init__(self, code: str, pointer: str = "", detail: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.pointer = pointer
        self.detail = detail or CODES[code]

    def at(self, index: int) -> Refusal:
        """The refusal of the touchpoint at that place of the request."""
        return Refusal(index, self.code, self.detail, self.pointer)


def pointer(*names: str | int) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{str(name).replace('~', '~0').replace('/', '~1')}" for name in names)
