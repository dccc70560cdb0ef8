"""Which runs of which journeys new touchpoints belong to.

A journey about customers has one run a customer, one about accounts one an account; a journey about things
has a run for each thing that a customer's touchpoints name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from services.stager.batch import Incoming
from shared.journey.fold import Journey, subject_of
from shared.journey.touch import Lens, Touch

Subject = tuple[UUID, str]
"""What runs are about: a customer or an account, or a customer's thing by its name; else that is empty."""

Filed = Mapping[UUID, Sequence[Incoming]]
Touches = Mapping[Subject, Mapping[Journey, Sequence[Touch]]]
"""What concerns each run, in the fold's order."""


def is_of_accounts(journey: Journey) -> bool:
    """Whether accounts have its runs, and not customers."""
    return journey.definition.subject.kind == "account"


def is_of_things(journey: Journey) -> bool:
    """Whether things of customers have its runs."""
    return journey.definition.subject.kind == "property"


class Runs:
    """Sorts touchpoints by the runs of the journeys that they concern."""

    def __init__(self, journeys: Sequence[Journey]) -> None:
        self._lens = Lens(journey.asks for journey in journeys)
        self._of_accounts = _ByType([one for one in journeys if is_of_accounts(one)])
        self._of_customers = _ByType([one for one in journeys if not is_of_accounts(one)])
        self.named = frozenset(one for one in journeys if is_of_things(one))
        """The journeys about things."""

    def touches(self, by_customer: Filed, by_account: Filed) -> Touches:
        """What concerns each run."""
        found: dict[Subject, Mapping[Journey, Sequence[Touch]]] = {}
        for filed, journeys in ((by_customer, self._of_customers), (by_account, self._of_accounts)):
            for owner_id, incoming in filed.items():
                for run, touches in self._of_owner(incoming, journeys).items():
                    found[owner_id, run] = touches
        return found

    def _of_owner(
        self, incoming: Sequence[Incoming], journeys: _ByType
    ) -> Mapping[str, Mapping[Journey, Sequence[Touch]]]:
        found: dict[str, dict[Journey, list[Touch]]] = {}
        if len(incoming) > 1:
            incoming = sorted(incoming, key=lambda one: (one.touchpoint.occurred_at, one.uid))
        for one in incoming:
            owned, named = journeys.concerned(one.touchpoint.type)
            if owned or named:
                touch = self._lens.touch(one.uid, one.touchpoint)
                if len(incoming) == 1 and owned:
                    the_only_one = [touch]
                    found[""] = dict.fromkeys(owned, the_only_one)
                else:
                    _add(found, "", owned, touch)
                for journey in named:
                    run = subject_of(journey.definition, touch)
                    if run is not None:
                        _add(found, run, (journey,), touch)
        return found


def _add(
    found: dict[str, dict[Journey, list[Touch]]], run: str, journeys: Sequence[Journey], touch: Touch
) -> None:
    if journeys:
        of_run = found.setdefault(run, {})
        for journey in journeys:
            of_run.setdefault(journey, []).append(touch)


class _ByType:
    """Journeys by the types of touchpoints that concern them, those about things apart."""

    def __init__(self, journeys: Sequence[Journey]) -> None:
        types = {type_ for journey in journeys for type_ in journey.types or ()}
        self._known = {type_: _parted(one for one in journeys if one.concerns(type_)) for type_ in types}
        self._others = _parted(journey for journey in journeys if journey.types is None)

    def concerned(self, type_: str) -> tuple[Sequence[Journey], Sequence[Journey]]:
        return self._known.get(type_, self._others)


def _parted(journeys: Iterable[Journey]) -> tuple[Sequence[Journey], Sequence[Journey]]:
    found = list(journeys)
    return [one for one in found if not is_of_things(one)], [one for one in found if is_of_things(one)]
