"""The catalogue of touchpoint types: what each means, where it usually happens, and what others call it.

The file touchpoint_types.yaml is the catalogue. It orders and explains, and forbids nothing: a touchpoint of
any other type is kept too, and the stager counts it as one of an unknown type.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

import msgspec

from shared import strict_yaml
from shared.touchpoint import Channel

UNKNOWN_TYPES_MAX = 500
"""How many unknown types are counted by name, in a shard of the counters and in an answer."""


class TouchpointType(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A type of touchpoint. `sentiment` is the usual one, null where it depends; `content` is soft where it
    helps to choose, hard where it is about buying, null where it is no content. `segment`, `ga4` and
    `shopify` are the events of Segment's e-commerce spec, of Google Analytics 4 and of Shopify (web pixels,
    and webhooks with a slash) that are of this type."""

    meaning: Annotated[str, msgspec.Meta(min_length=1)]
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1)]
    sentiment: Annotated[float, msgspec.Meta(ge=-1, le=1)] | None = None
    content: Literal["soft", "hard"] | None = None
    segment: tuple[str, ...] = ()
    ga4: tuple[str, ...] = ()
    shopify: tuple[str, ...] = ()


@cache
def catalogue() -> Mapping[str, Mapping[str, TouchpointType]]:
    """The types by name, by what they are about, in the file's order."""
    problems: list[str] = []
    data = strict_yaml.load(files("shared").joinpath("touchpoint_types.yaml").read_text("utf-8"), problems)
    assert not problems, problems
    return msgspec.convert(data, dict[str, dict[str, TouchpointType]])


@cache
def known_types() -> frozenset[str]:
    """The names of all types of the catalogue."""
    return frozenset(name for types in catalogue().values() for name in types)
