"""The JSON Schema of journeys. `python -m tests.docs.journey_schema` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path

from shared.journey.language import schema

FILE = Path(__file__).parents[2] / "shared/journey/schema.json"


def text() -> str:
    """The file's text."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
