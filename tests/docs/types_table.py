"""The tables of docs/touchpoint-types.md. `python -m tests.docs.types_table` writes them there anew."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from shared.touchpoint_types import TouchpointType, catalogue

PAGE = Path(__file__).parents[2] / "docs/touchpoint-types.md"
_TABLES = re.compile(r"(?<=<!-- types: begin -->\n).*?(?=<!-- types: end -->)", re.DOTALL)
_HEAD = (
    "| type | what happened | channels | sentiment | content | Segment | GA4 | Shopify |",
    "|---|---|---|---|---|---|---|---|",
)


def with_tables(text: str) -> str:
    """A document with a table for each part of the catalogue between its marks."""
    lines: list[str] = []
    for about, types in catalogue().items():
        rows = [_row(name, type_) for name, type_ in types.items()]
        lines += [f"### {about.capitalize()}", "", *_HEAD, *rows, ""]
    tables = "\n".join(lines)
    return _TABLES.sub(lambda _: f"{tables}\n", text)


def _row(name: str, type_: TouchpointType) -> str:
    cells = (
        f"`{name}`",
        type_.meaning,
        ", ".join(type_.channels),
        "" if type_.sentiment is None else f"{type_.sentiment:+g}",
        type_.content or "",
        *(_names(names) for names in (type_.segment, type_.ga4, type_.shopify)),
    )
    return f"| {' | '.join(cells)} |"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
