"""The guide *Write your own journey* works as it is written: its commands are run, block by block."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from tests.docs.test_readme import block
from tests.support.eventually import eventually
from tests.support.installation import Installation

_ROOT = Path(__file__).parents[2]
_GUIDE = _ROOT / "docs/writing-journeys.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETUP = """
export PATH="{scripts}:$PATH" COLUMNS=120
. $REJSE_DATA_DIR/keys.env
ingest=http://127.0.0.1:$REJSE_INGEST_PORT
api=http://127.0.0.1:$REJSE_API_PORT
"""


def test_a_journey_owner_gets_from_the_guide_to_the_counts(tmp_path: Path) -> None:
    """Import, validate, what-if, activate, change, compare, go back: each says what the guide promises, and
    the what-if's counts are those that the API answers afterwards."""
    history, trying, activating, changing, back = _BLOCK.findall(_GUIDE.read_text())
    setup = _SETUP.format(scripts=Path(sys.executable).parent)
    with Installation(tmp_path) as rejse:
        rejse.start("run")
        rejse.read_keys()
        shutil.copytree(_ROOT / "docs/examples", rejse.home / "docs/examples")
        block(rejse, setup, history)
        rejse.await_staged(251, 60)
        tried = block(rejse, setup, trying)
        said = block(rejse, setup, activating).split("\n")[0]
        first = eventually(lambda: rejse.counts("gym", at="2026-03-01T00:00:00Z"), tolerate=(AssertionError,))
        changed = block(rejse, setup, changing)
        second = eventually(
            lambda: rejse.counts("gym", at="2026-03-01T00:00:00Z"), until=lambda found: found != first
        )
        block(rejse, setup, back)
        eventually(lambda: rejse.counts("gym", at="2026-03-01T00:00:00Z"), until=first.__eq__)

    assert "gym version 1 is valid." in tried
    assert "40 customers" in tried
    assert said == "gym version 1 is active."
    assert sum(first.values()) == sum(second.values()) == 40
    assert second["regular"] > first["regular"] > 0
    for stage, count in first.items():
        assert re.search(rf"│ {stage} +│ +– │ +{count}\b", tried), tried
        assert re.search(rf"│ {stage} +│ +{count}\b.*│ +{second[stage]}\b", changed), changed
    assert "stage regular: how it is entered" in changed
    assert "gym version 2 is active." in changed
    assert re.search(r"│ gym +│ 2 +│ yes", changed)
