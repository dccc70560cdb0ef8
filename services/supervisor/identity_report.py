"""Why some identities are one customer, as tables on a console."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Column, Table

from shared.store.identities import Evidence, IdentityProof, ProvedIdentity, RefusedLink


def report(found: IdentityProof, console: Console) -> None:
    """Print what is not empty: identities, handovers, links, merges, refused and withdrawn links, the newest
    first."""
    console.print(f"Customer {found.customer}", highlight=False)
    _print(
        console,
        "Identities",
        ("identity", "since", "linked", "by the touchpoint"),
        [
            (_name(one), _time(one.since), _time(one.linked_at), _touchpoint(one.evidence))
            for one in found.identities
        ],
    )
    _print(
        console,
        "Handed over",
        ("identity", "since", "to customer", "by the touchpoint"),
        [
            (_name(one), _time(held.since), str(held.customer), _touchpoint(held.evidence))
            for one in (*found.identities, *found.former)
            for held in one.holders
        ],
    )
    _print(
        console,
        "Came together",
        ("identity", "other", "happened", "linked", "in the touchpoint"),
        [
            (
                *(one.identity, one.other, _time(one.evidence.at), _time(one.linked_at)),
                _touchpoint(one.evidence),
            )
            for one in found.links
        ],
    )
    _print(
        console,
        "Merged into this customer",
        ("customer", "merged", "by the touchpoint"),
        [(str(one.id), _time(one.merged_at), _touchpoint(one.evidence)) for one in found.aliases],
    )
    _print(
        console,
        "Refused",
        ("identity", "why", "whose it is", "times", "first", "last", "latest touchpoint"),
        [_refused(one) for one in found.refused],
    )
    _print(
        console,
        "Withdrawn",
        ("identity", "other", "withdrawn", "", "told by the touchpoint"),
        [
            (
                *(one.identity, one.other, _time(one.withdrawn_at)),
                "carried out" if one.carried_out else "not carried out yet",
                _touchpoint(one.evidence),
            )
            for one in found.withdrawn
        ],
    )
    if found.cut:
        console.print(f"There are more, older ones of: {', '.join(found.cut)}.", highlight=False)


def _print(console: Console, title: str, columns: Iterable[str], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    folded = (Column(name, overflow="fold") for name in columns)
    table = Table(*folded, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _refused(one: RefusedLink) -> tuple[str, ...]:
    return (
        one.identity,
        f"too many of {one.too_many}",
        "nobody's" if one.other is None else str(one.other),
        f"{one.count:,}",
        _time(one.first_at),
        _time(one.last_at),
        str(one.touchpoint),
    )


def _name(one: ProvedIdentity) -> str:
    return f"{one.kind}:{one.value}"


def _time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _touchpoint(evidence: Evidence) -> str:
    told = f"{evidence.type}, {evidence.channel}: " if evidence.type else ""
    return f"{told}{evidence.id}"
