"""The README's table of settings. `python -m tests.docs.settings_table` makes it from the catalogue."""

from __future__ import annotations

import re
from pathlib import Path

from shared.config import VARIABLES

README = Path(__file__).parents[2] / "README.md"
_TABLE = re.compile(r"SETTINGS\n|\| variable \|.*?\n\n", re.DOTALL)


def table() -> str:
    """The table's lines."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    lines += [
        f"| `{one.env}` | {f'`{one.default}`' if one.default else ''} | {one.meaning} |" for one in VARIABLES
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Put the table where the old one stands."""
    README.write_text(_TABLE.sub(lambda _: table() + "\n", README.read_text(), count=1))


if __name__ == "__main__":
    main()
