"""The docs: decisions in one form, links that lead somewhere, files that are named there are there."""

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

_DECISIONS = ROOT / "docs/decisions"
_PAGES = [path.relative_to(ROOT) for path in sorted(ROOT.glob("docs/**/*.md"))]
_FOLDERS = "deploy|docs|requirements|services|shared|tests"


@pytest.mark.parametrize("path", sorted(_DECISIONS.glob("*-*.md")), ids=lambda path: path.stem)
def test_a_decision_says_what_else_there_was_and_what_would_change_it(path: Path) -> None:
    """Each has its date, four parts in this order, several alternatives, and fits on a page."""
    text = path.read_text()
    parts = ["Context", "Decision", "Alternatives", "What would change our mind"]
    alternatives = text.split("## Alternatives")[1].split("\n## ")[0]

    assert re.match(r"# .+\n\n\d{4}-\d{2}\n", text)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == parts
    assert len(re.findall(r"^- \*", alternatives, re.MULTILINE)) >= 2
    assert len(text.splitlines()) <= 60


def test_every_decision_is_listed() -> None:
    """The list leads to each page by its title, and to nothing else."""
    listed = dict(re.findall(r"^- \[(.+)\]\((.+)\)$", (_DECISIONS / "README.md").read_text(), re.MULTILINE))
    pages = {
        path.read_text().splitlines()[0].removeprefix("# "): path.name for path in _DECISIONS.glob("*-*.md")
    }
    assert listed == pages


@pytest.mark.parametrize("path", _PAGES, ids=str)
def test_links_and_paths_in_the_docs_lead_to_something(path: Path) -> None:
    """No page sends its reader to a file that is not there."""
    text = (ROOT / path).read_text()
    links = [(ROOT / path).parent / link for link in re.findall(r"\]\(([^)#:]+)\)", text)]
    named = [ROOT / name for name in re.findall(rf"`((?:{_FOLDERS})/[\w./-]+)`", text)]
    assert not [str(target) for target in [*links, *named] if not target.exists()]
