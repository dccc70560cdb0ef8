"""Re-derives what a proof says of near misses from what the API says alone, as `proof_checker` does the rest.

Which rules could do something from here is told by where the customer is. What stands in their way, how many
touchpoints they have counted and which values missed are held to the timeline; sentences are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.support import proof_checker as checker
from tests.support.proof_checker import Derived, Json


def check_near(run: Json, derived: Derived, now: datetime) -> None:
    """Fail unless every rule that could move the customer, or change what stands beside the stage, is named
    with what really keeps it from doing so."""
    could = {rule: (to, on) for _, to, rule, on, _ in derived.ways()}
    refused = derived.place is None and not derived.is_for_them(now)
    for one in run["near"]:
        codes = [reason["code"] for reason in one["reasons"]]
        assert ("from" in codes) == (one["rule"] not in could)
        assert ("audience" in codes) == refused
        blocking = {
            overlay["key"]: derived.open[overlay["key"]]
            for overlay in derived.part("overlays")
            if overlay["key"] in derived.open and one["to"] in checker.many(overlay.get("blocks", []))
        }
        blocked = [reason for reason in one["reasons"] if reason["code"] == "blocked"]
        assert {reason["overlay"]: _since(reason) for reason in blocked} == blocking
        if one["rule"] in could:
            to, on = could.pop(one["rule"])
            assert one["to"] == to
            _check_reasons(one, on, derived, now)
    assert not could

    beside = dict(_beside(derived))
    for one in run["near_beside"]:
        change, about, on, since, is_here = beside.pop(one["rule"])
        assert (one["change"], one["about"]) == (change, about)
        stands = [_since(reason) for reason in one["reasons"] if reason["code"] == "stands"]
        assert stands == ([since] if since is not None else [])
        assert any(reason["code"] == "from" for reason in one["reasons"]) != is_here
        _check_reasons(one, on, derived, now)
    assert not beside


def _beside(derived: Derived) -> Iterator[tuple[str, tuple[str, str, Json, datetime | None, bool]]]:
    """By its name, each rule that could change what stands beside the stage: what and which it changes, what
    it says, since when what it would bring is there, and whether it works where the customer is."""
    stage = derived.stage()
    if stage is not None:
        substages = stage.get("substages", [])
        keys = [one["key"] for one in substages]
        for one in substages[keys.index(derived.substage) + 1 if derived.substage else 0 :]:
            if "enter" in one:
                yield (
                    f"{stage['key']}.{one['key']}.enter",
                    ("substage", one["key"], one["enter"], None, True),
                )
    for one in derived.part("overlays"):
        key, since = one["key"], derived.open.get(one["key"])
        yield f"{key}.open", ("open", key, one["open"], since, stage is not None and derived.starts_here(one))
        if since is not None:
            yield f"{key}.close", ("close", key, one["close"], None, True)
    for one in derived.part("signals"):
        key, since = one["key"], derived.on.get(one["key"])
        is_here = derived.place is not None and derived.starts_here(one)
        yield f"{key}.on", ("signal_on", key, one["on"], since, is_here)
        if since is not None and "off" in one:
            yield f"{key}.off", ("signal_off", key, one["off"], None, True)


def _check_reasons(one: Json, on: Json, derived: Derived, now: datetime) -> None:
    did = {(rule, cause) for *_, cause, rule in derived.told}
    leaves = list(_leaves(on))
    for reason in _all(one["reasons"]):
        if reason["code"] == "count":
            assert any(_is_of(reason, leaf, derived, now) for leaf in leaves), (reason, leaves)
        elif reason["code"] == "value":
            _check_value(reason, derived)
        elif reason["code"] == "passed":
            touchpoint, known = _seen(reason["touchpoint"], derived)
            assert any(checker.matches(leaf, touchpoint, known) for leaf in leaves)
            assert (one["rule"], touchpoint["id"]) not in did


def _all(reasons: Any) -> Iterator[Json]:
    """The reasons, and those of each way; whom a journey is for is another rule."""
    for reason in reasons:
        yield reason
        for way in reason.get("ways", ()):
            yield from _all(way["reasons"])


def _leaves(rule: Json) -> Iterator[Json]:
    for name, said in checker.parts(rule):
        if name == "count":
            yield said
        else:
            for part in said:
                yield from _leaves(part)


def _is_of(reason: Json, leaf: Json, derived: Derived, now: datetime) -> bool:
    """Whether the reason counts what the leaf counts. What one alone is enough for is not counted."""
    need = leaf.get("at_least", 1)
    unit = "days" if "distinct" in leaf else "touchpoints"
    if "ago" in leaf or (reason["need"], reason["unit"]) != (need, unit):
        return False
    if reason["in_stage"] != leaf.get("in_stage", False) or bool(reason["within"]) != ("within" in leaf):
        return False
    if reason["more"] != max(1, need - reason["have"]):
        return False
    times = derived.counted(leaf, now)
    number = len({time.date() for time in times} if unit == "days" else times)
    return reason["have"] in ({0, min(number, 1)} if need == 1 else {min(number, need)})


def _check_value(reason: Json, derived: Derived) -> None:
    """What is said to have missed is carried by that touchpoint, or known of the customer, and misses."""
    source, name = reason["source"], reason["name"]
    if source == "trait":
        found = checker.value(derived.known, name)
    else:
        touchpoint, _ = _seen(reason["touchpoint"], derived)
        found = touchpoint[source] if not name else checker.value(_carried(touchpoint, source), name)
    operands = reason["operands"]
    wanted = operands if reason["operator"] == "is" else {reason["operator"]: operands[0]}
    assert reason["value"] == found
    assert not checker.passes(wanted, found)


def _carried(touchpoint: Json, source: str) -> Any:
    return touchpoint["properties" if source == "property" else source]


def _seen(ref: Json, derived: Derived) -> tuple[Json, Json]:
    """The touchpoint that a proof names, as the timeline has it, and what was known of the customer then."""
    ((touchpoint, known),) = [one for one in derived.met_so_far if one[0]["id"] == ref["id"]]
    assert ref == {name: touchpoint[name] for name in ref}
    return touchpoint, known


def _since(said: Json) -> datetime:
    return datetime.fromisoformat(said["since"])
