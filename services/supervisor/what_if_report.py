"""A what-if as tables on a console."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

from shared.journey.proof import ProofRun
from shared.store.what_if import Sample, WhatIf

NOWHERE = "(not begun)"


def report(found: WhatIf, console: Console) -> None:
    """Print the counts before and after, who would move from where to where, and the samples."""
    against = "nothing active" if found.active_version is None else f"version {found.active_version}"
    console.print(
        f"{found.journey} version {found.version} against {against}, as of {found.at:%Y-%m-%d %H:%M} UTC: "
        f"{found.customers:,} customers, {found.touchpoints:,} touchpoints that concern it; "
        f"{found.moved:,} customers would be elsewhere.",
        highlight=False,
    )
    console.print(_stages(found), _moves(found))
    for number, sample in enumerate(found.samples, 1):
        console.print(_sample(number, sample))


def _stages(found: WhatIf) -> Table:
    table = Table("stage", *(Column(name, justify="right") for name in ("before", "after", "difference")))
    for one in found.stages:
        difference = (one.after or 0) - (one.before or 0)
        table.add_row(
            one.stage,
            _count(one.before, one.before_paused),
            _count(one.after, one.after_paused),
            f"{difference:+,}" if difference else "",
        )
    return table


def _count(count: int | None, paused: int | None) -> str:
    if count is None:
        return "–"
    return f"{count:,} ({paused:,} paused)" if paused else f"{count:,}"


def _moves(found: WhatIf) -> Table:
    """The matrix: a row for each place of before, a column for each of after."""
    counts = {(one.from_, one.to): one.count for one in found.moves}
    places: list[str | None] = [None, *(one.stage for one in found.stages)]
    rows = [place for place in places if any(origin == place for origin, _ in counts)]
    columns = [place for place in places if any(target == place for _, target in counts)]
    table = Table("from \\ to", *(Column(place or NOWHERE, justify="right") for place in columns))
    for origin in rows:
        row = [counts.get((origin, target), 0) for target in columns]
        table.add_row(origin or NOWHERE, *(f"{count:,}" if count else "" for count in row))
    return table


def _sample(number: int, sample: Sample) -> Table:
    table = Table("before", "after", title=f"{number}. {sample.customer}", title_justify="left")
    for part in (_where, _history, _near):
        table.add_row(*("" if run is None else part(run) for run in (sample.before, sample.after)))
    return table


def _where(run: ProofRun) -> str:
    since = f" since {run.entered_at:%Y-%m-%d %H:%M}" if run.entered_at else ""
    lap = f", lap {run.lap}" if run.lap > 1 else ""
    return f"{run.stage or NOWHERE}{' (paused)' if run.paused else ''}{since}{lap}"


def _history(run: ProofRun) -> str:
    """How they came there, each change with its cause."""
    return "\n".join(
        f"{one.at:%Y-%m-%d %H:%M} {one.change} {one.to}: {one.cause.says}"
        + (f" ({one.cause.touchpoint.type}, {one.cause.touchpoint.channel})" if one.cause.touchpoint else "")
        for one in run.transitions
    )


def _near(run: ProofRun) -> str:
    """The rule that came closest, and what it lacks."""
    nearest = next((one for one in run.near if one.reasons), None)
    if nearest is None:
        return ""
    return f"nearest: {nearest.rule}, but {'; '.join(reason.says for reason in nearest.reasons)}"
