"""A fresh event, by which the oracle sees whether everything works again."""

from __future__ import annotations

import contextlib

import httpx
import msgspec

from tests.faults.ledger import Ledger
from tests.faults.places import Places
from tests.faults.traffic import probe_event
from tests.support import plain_http
from tests.support.eventually import eventually

_PATIENCE_S = 60.0


def send_and_see(places: Places, number: int) -> None:
    """Send a fresh event until it is taken, and ask for it until it is seen.

    Raises:
        AssertionError: it wasn't within a minute each.
    """
    with contextlib.closing(Ledger(places.ledger_path)) as book:
        book.enter("probe", number, "sent")
        eventually(lambda: _taken(places, number, book), _PATIENCE_S, tolerate=(httpx.HTTPError,))
    eventually(lambda: _seen(places, number), _PATIENCE_S, tolerate=(httpx.HTTPError,))


def _taken(places: Places, number: int, book: Ledger) -> bool:
    answer = plain_http.post(
        f"{places.ingest_url}/v1/touchpoints",
        content=msgspec.json.encode([probe_event(number).json]),
        headers=places.probe_headers,
        timeout=10,
    )
    book.enter("probe", number, answer.status_code)
    return answer.is_success


def _seen(places: Places, number: int) -> bool:
    url = f"{places.api_url}/v1/customers/user_id:probe-{number}/timeline"
    return plain_http.get(url, headers=places.read_headers, timeout=5).status_code == 200
