"""The README tells the truth: its tour is run block by block, and its table is the catalogue."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.docs.settings_table import README, table
from tests.support.eventually import eventually
from tests.support.installation import Installation
from tests.support.process import RejseProcess

_BLOCK = re.compile(r"^```(sh|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_table_of_settings_is_the_catalogue() -> None:
    """Every setting is there; `python -m tests.docs.settings_table` mends what differs."""
    assert table() in README.read_text()


def test_the_tour_works_as_it_is_written(tmp_path: Path) -> None:
    """Every block runs in order, as a user types it, and answers what the README shows."""
    blocks = [(match[1], match[2]) for match in _BLOCK.finditer(README.read_text())]
    setup, *rest = [text for language, text in blocks if language == "sh"]
    shown = next(json.loads(text) for language, text in blocks if language == "json")
    with Installation(tmp_path) as rejse:
        rejse.start("run")
        rejse.read_keys()
        post, customer, why, timeline, history, counts, ops = rest
        assert json.loads(block(rejse, setup, post)) == shown
        eventually(
            lambda: json.loads(block(rejse, setup, timeline))["items"],
            until=lambda items: len(items) >= 4,
            tolerate=(KeyError,),
        )
        # The api looks once a second for journeys that have come.
        found = eventually(
            lambda: json.loads(block(rejse, setup, customer)), until=lambda answer: answer["journeys"]
        )
        proof = json.loads(block(rejse, setup, why))
        now, then, flows = answers(rejse, setup, counts)
        true, known = answers(rejse, setup, history)
        seen = block(rejse, setup, ops)

    assert {one["kind"] for one in found["identities"]} == {"email", "anonymous_id", "phone"}
    assert found["journeys"][0]["stage"] in ("first", "dormant")
    assert proof["runs"][0]["transitions"][0]["cause"]["touchpoint"]["type"] == "order_completed"
    assert sum(stage["count"] for stage in now["stages"]) == 1
    assert {stage["stage"]: stage["count"] for stage in then["stages"]} == {
        "first": 1,
        "repeat": 0,
        "dormant": 0,
    }
    assert [(one["stage"], len(one["changes"])) for one in (true, known)] == [("first", 1), (None, 0)]
    assert flows["flows"][0] == {"from": None, "to": "first", "count": 1}
    assert 'rejse_stager_records_total{fate="stored"} 3.0' in seen
    assert '"status":"ready"' in seen


def answers(rejse: Installation, setup: str, text: str) -> list[Any]:
    """What each command of a block answers."""
    separated = "\n".join(f"{line}; echo" for line in text.strip().splitlines())
    return [json.loads(answer) for answer in block(rejse, setup, separated).split("\n") if answer]


def block(rejse: Installation, setup: str, text: str) -> str:
    """What a block prints in a shell where the first one was typed before it."""
    env = RejseProcess([], env=rejse.env, log_file=rejse.home / "tour.log").environment
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"{setup}\n{text}"],
        env=dict(env), cwd=rejse.home, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout
