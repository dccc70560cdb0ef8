"""Phone numbers in one form: ITU-T E.164, such as `+4533123456`.

What a number looks like in each country is known to Google's libphonenumber, here in its Python edition.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

NUMBERS_REMEMBERED = 10_000
"""Reading one anew takes several times as long as all else of an event."""
DIGITS_MAX = 24
"""E.164 has 15; before them there may be a prefix for calls abroad and a carrier's code."""

_DECORATION = re.compile(r"[\s().\-/\u2010-\u2015\u2212]")
_NUMBER = re.compile(r"(?:tel:)?([+\uff0b]?)(\d+)(?:(?:;ext=|extension|ext|x|#)(\d{1,7}))?", re.IGNORECASE)
_Read = tuple[str, str]
"""The number, or an empty text and why it is none."""


def normalise_phone(text: str, region: str | None = None) -> str:
    """The canonical form of a phone number; one without a country code is of the region (ISO 3166-1 alpha-2).

    Without a region `00` begins an international number, as it does in most of the world (ITU-T E.164). In a
    region a number is what it is when dialled there (`011` goes abroad from the United States), and `00` goes
    abroad where that gives no number.

    A number is taken if its country has numbers of that length. Whether this one was ever given out isn't
    asked: a numbering plan grows before a library knows, and a customer's real number must not be refused. An
    extension stays, as RFC 3966 writes it (`+4533123456;ext=12`): without it everybody behind a switchboard
    would be one customer.

    Raises:
        ValueError: it is no number. The text never repeats it.
    """
    number, why_not = _read(text, region)
    if why_not:
        raise ValueError(why_not)
    return number


@lru_cache(maxsize=1)
def regions() -> frozenset[str]:
    """The regions whose numbers are known."""
    from phonenumbers import SUPPORTED_REGIONS

    return frozenset(SUPPORTED_REGIONS)


@lru_cache(maxsize=NUMBERS_REMEMBERED)
def _read(text: str, region: str | None) -> _Read:
    # Without its decoration: on a long one the library's patterns take milliseconds.
    match = _NUMBER.fullmatch(_DECORATION.sub("", text))
    if match is None:
        return "", "is no phone number"
    plus, digits, extension = match.groups()
    if len(digits) > DIGITS_MAX:
        return "", "is longer than any phone number"
    if not text.isascii():
        digits = "".join(str(unicodedata.decimal(digit)) for digit in digits)
    abroad = "+" + digits if plus else "+" + digits[2:] if digits.startswith("00") else None
    if plus or region is None:
        if abroad is None:
            return "", "is a phone number without its country code, and there is no default region"
        return _parsed(abroad, None, extension)
    found = _parsed(digits, region, extension)
    return found if found[0] or abroad is None else _parsed(abroad, None, extension)


def _parsed(number: str, region: str | None, extension: str | None) -> _Read:
    # Imported late: 30 ms and some MiB that a service without phone numbers has no use for.
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return "", "is a phone number of no country"
    length = phonenumbers.is_possible_number_with_reason(parsed)
    if length != phonenumbers.ValidationResult.IS_POSSIBLE:
        too_long = length == phonenumbers.ValidationResult.TOO_LONG
        return "", f"is too {'long' if too_long else 'short'} for a phone number of its country"
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    # A trunk prefix is dropped once; where another one shows then, the number is no way to dial anybody.
    if e164 != number and _parsed(e164, None, None)[0] != e164:
        return "", "is a phone number of no country"
    return (f"{e164};ext={int(extension)}" if extension else e164), ""
