"""Journeys and timelines for properties: small definitions that use the whole language, and touches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from hypothesis import strategies as st

from shared.journey.catalog import load_definitions
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.journey.state import Kept, State, decode_states, encode_states
from shared.journey.touch import Touch

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

EVERYTHING = """
key: everything
version: 1
labels: {en: Everything, da: Alt, sv: Allt}
stages:
  - key: aware
    labels: {en: Aware, da: Opmærksom, sv: Medveten}
    enter: {}
    pause: {after: 3d}
  - key: considering
    labels: {en: Considering, da: Overvejer, sv: Överväger}
    enter: {type: [product_viewed, call_ended], at_least: 3}
    pause: {after: 5d, since: {channel: store}}
  - key: buying
    labels: {en: Buying, da: Køber, sv: Köper}
    enter: {type: order_completed}
    pause: {after: 12h}
  - key: loyal
    labels: {en: Loyal, da: Loyal, sv: Lojal}
    enter: {type: order_completed, at_least: 3, distinct: days}
exits:
  - key: lost
    labels: {en: Lost, da: Tabt, sv: Förlorad}
    enter:
      - {from: aware, after: 10d}
      - {from: buying, after: 2d, since: {type: order_completed}}
    return: {to: considering, on: {channel: phone}}
  - key: refused
    labels: {en: Refused, da: Afslået, sv: Avböjt}
    enter: {on: {type: offer_declined}}
"""

WHOLE = (Path(__file__).parent / "definitions/whole.yaml").read_text()
"""Everything that the language can say, once."""


def all_journeys() -> list[Journey]:
    """The built-in journeys, and one that uses everything the language has."""
    definitions = [*load_definitions(None), parse(EVERYTHING, "everything.yaml")]
    return [Journey(definition) for definition in definitions]


def touches(size_max: int = 14) -> st.SearchStrategy[list[Touch]]:
    """Timelines in the fold's order, with equal times, equal days and long silences among them."""
    touch = st.builds(
        Touch,
        at=st.integers(0, 60 * 24).map(lambda hours: EPOCH + timedelta(hours=hours // 2 * 6)),
        id=st.integers(1, 1 << 64).map(lambda number: UUID(int=number)),
        type=st.sampled_from(
            ["order_completed", "product_viewed", "call_ended", "offer_declined", "page_viewed"]
        ),
        channel=st.sampled_from(["web", "store", "phone"]),
    )
    return st.lists(touch, max_size=size_max, unique_by=lambda one: one.id).map(
        lambda found: sorted(found, key=lambda one: (one.at, one.id))
    )


def stored(state: State) -> bytes:
    """A state as the store keeps it."""
    return encode_states([Kept("", 1, 0, None, state)])


def restored(stored: bytes) -> State:
    """The state in what the store keeps."""
    (kept,) = decode_states(stored)
    return kept.state
