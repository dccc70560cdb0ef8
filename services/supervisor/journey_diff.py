"""What changed from one definition to another, in the words of the language that it is written in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from shared import strict_yaml
from shared.journey.definition import Definition

_LANGUAGES = {"en": "English", "da": "Danish", "sv": "Swedish"}
_KINDS = {
    "stages": "stage",
    "substages": "part",
    "exits": "exit",
    "overlays": "overlay",
    "signals": "signal",
    "tallies": "tally",
    "personas": "persona",
}
_MEMBERS = {
    "enter": "how it is entered",
    "from": "where it can be entered from",
    "pause": "the clock that pauses it",
    "return": "the ways back from it",
    "regress": "ways back to an earlier stage",
    "laps": "ways into a new lap",
    "starts": "journeys that it starts",
    "open": "what opens it",
    "close": "what closes it",
    "close_after": "the clock that closes it",
    "on": "what turns it on",
    "off": "what turns it off",
    "off_after": "the clock that turns it off",
    "of": "what it counts",
    "until": "what ends the counting",
    "when": "who belongs to it",
    "for": "whom it is for",
    "subject": "what a run is about",
    "inside": "what the customer needs, thinks, feels and does",
}
_NONE = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed, and what was said of it before and after; empty: nothing."""

    what: str
    before: str
    after: str


def changes(before: Definition, after: Definition) -> Sequence[Change]:
    """All that changed, in the order of the file, but for comments and how it is laid out."""
    return list(_mapping("", strict_yaml.load(before.source, []), strict_yaml.load(after.source, [])))


def _mapping(where: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in (*before, *(name for name in after if name not in before)):
        old, new = before.get(name), after.get(name)
        if _plain(old) == _plain(new):
            continue
        if name in _KINDS:
            yield from _keyed(where, _KINDS[name], _listed(old), _listed(new))
        elif name == "labels":
            yield from _labels(where, old or {}, new or {})
        else:
            yield Change(f"{where}{_MEMBERS.get(name, name)}", _told(old), _told(new))


def _keyed(
    where: str, kind: str, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> Iterator[Change]:
    olds, news = ({one["key"]: one for one in some} for some in (before, after))
    for key, old in olds.items():
        name = f"{where}{kind} {key}"
        if key not in news:
            yield Change(name, _without_key(old), "is gone")
        else:
            yield from _mapping(f"{name}: ", old, news[key])
    for key, new in news.items():
        if key not in olds:
            yield Change(f"{where}{kind} {key}", "is new", _without_key(new))
    kept = [[key for key in some if key in olds and key in news] for some in (olds, news)]
    if kept[0] != kept[1]:
        yield Change(f"{where}the order of each {kind}", ", ".join(olds), ", ".join(news))


def _labels(where: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for language, name in _LANGUAGES.items():
        old, new = before.get(language, _NONE), after.get(language, _NONE)
        if old != new:
            yield Change(f"{where}label in {name}", old, new)


def _without_key(one: Mapping[str, Any]) -> str:
    return _told({name: value for name, value in one.items() if name not in ("key", "labels")})


def _listed(value: Any) -> Sequence[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _plain(value: Any) -> Any:
    """The same for what means the same: one thing may stand without its list."""
    if isinstance(value, list):
        return _plain(value[0]) if len(value) == 1 else [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


def _told(value: Any) -> str:
    """As the file could have it in one line."""
    if value is None:
        return _NONE
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    # YAML 1.1 takes it for a truth value without its quotes; the language of journeys doesn't.
    return text.removesuffix("\n...\n").rstrip().replace("'on':", "on:")
