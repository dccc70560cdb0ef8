"""Quix Streams, exactly once: a stage per customer in its own store, and no timeline.

Run by the Python of an environment of its own, which has Quix Streams and nothing of ours. All is left at
Quix's defaults (JSON, RocksDB, a changelog topic) but for the guarantee and when it commits.
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application

from tests.bench.plain_fold import moved

COMMIT_RECORDS = 100_000
_COMMIT_INTERVAL_S = 60.0
_STATE = "stage"


def fold(event: dict[str, Any], state: Any) -> None:
    """Let one event move its customer's stage; the record's key is the customer."""
    state.set(_STATE, moved(state.get(_STATE), event["type"], event["occurred_at"]))


def stage(bootstrap: str, topic: str, group: str, state_dir: str) -> None:
    """Stage a topic from its beginning, until killed."""
    app = Application(
        bootstrap,
        consumer_group=group,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=COMMIT_RECORDS,
        commit_interval=_COMMIT_INTERVAL_S,
        state_dir=state_dir,
        loglevel="WARNING",
    )
    app.dataframe(app.topic(topic)).update(fold, stateful=True)
    app.run()


if __name__ == "__main__":
    stage(*sys.argv[1:])
