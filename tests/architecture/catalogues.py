"""All metrics of the three services, and how they are told of in docs/operations.md.

`python -m tests.architecture.catalogues` writes the table there anew.
"""

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.metrics import Metric
from tests.architecture.tree import ROOT, SERVICES

OPERATIONS = ROOT / "docs/operations.md"

_TABLE = re.compile(r"(?<=<!-- metrics: begin -->\n).*?(?=<!-- metrics: end -->)", re.DOTALL)


def catalogues() -> Mapping[str, Sequence[Metric]]:
    """Each service's catalogue."""
    return {name: importlib.import_module(f"services.{name}.metrics").CATALOGUE for name in SERVICES}


def with_table(text: str) -> str:
    """A document with the table of all metrics between its marks."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {_labels(metric)} | {metric.meaning} |" for metric in _all()
    ]
    table = "\n".join(["| metric | kind | labels | meaning |", "|---|---|---|---|", *rows])
    return _TABLE.sub(lambda _: f"{table}\n", text)


def series() -> set[str]:
    """The names of all series that Prometheus makes of the catalogues."""
    parts = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {f"{metric.name}{part}" for metric in _all() for part in parts[metric.kind]}


def names_in(path: Path) -> set[str]:
    """The names of ours in a file that could be series: exact ones, and patterns spelt out."""
    text = path.read_text()
    patterns = set(re.findall(r'__name__=~"([^"]+)"', text))
    spelt_out = {name for pattern in patterns for name in _spelt_out(pattern)}
    services = "|".join(SERVICES)
    bare = re.sub(r'__name__=~"[^"]+"', "", text)
    return spelt_out | set(re.findall(rf"\brejse_(?:{services})_[a-z_]*[a-z]", bare))


def _all() -> list[Metric]:
    return [metric for catalogue in catalogues().values() for metric in catalogue]


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.labels) or "–"


def _spelt_out(pattern: str) -> list[str]:
    """`a_(b|c)_d` as `a_b_d` and `a_c_d`."""
    found = re.search(r"\(([^()]*)\)", pattern)
    if found is None:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [name for choice in found[1].split("|") for name in _spelt_out(f"{head}{choice}{tail}")]


if __name__ == "__main__":
    OPERATIONS.write_text(with_table(OPERATIONS.read_text()))
