"""Which runs of which journeys new touchpoints belong to.

A journey about customers has one run a customer, one about accounts one an account; a journey about things
has a run for each thing that a customer's touchpoints name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from services.stager.batch import Incoming
from shared.journey.fold import Journey, subject_of
from shared.journey.touch import Lens, Touch

Subject = tuple[UUID, str]
"""What runs are about: a customer or an account, or a customer's thing by its name; else that is empty."""

Filed = Mapping[UUID, Sequence[Incoming]]


class Portion(NamedTuple):
    """New touches of a run, in the fold's order, and the journeys that each of them concerns."""

    touches: Sequence[Touch]
    journeys: Sequence[Journey]


Touches = Mapping[Subject, Sequence[Portion]]
"""What concerns each run: a journey comes once, with all that concerns it."""


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
        found: dict[Subject, list[Portion]] = {}
        for filed, journeys in ((by_customer, self._of_customers), (by_account, self._of_accounts)):
            for owner_id, incoming in filed.items():
                self._sort(owner_id, incoming, journeys, found)
        return found

    def _sort(
        self,
        owner_id: UUID,
        incoming: Sequence[Incoming],
        journeys: _ByType,
        found: dict[Subject, list[Portion]],
    ) -> None:
        """Sort what is new of a customer or an account. Journeys that every type concerns share a portion."""
        if len(incoming) > 1:
            incoming = sorted(incoming, key=lambda one: (one.touchpoint.occurred_at, one.uid))
        of_all: list[Touch] = []
        of_some: dict[tuple[str, Journey], list[Touch]] = {}
        for one in incoming:
            owned, named = journeys.asking_for(one.touchpoint.type)
            if owned or named or journeys.of_every_type:
                touch = self._lens.touch(one.uid, one.touchpoint)
                of_all.append(touch)
                for journey in owned:
                    of_some.setdefault(("", journey), []).append(touch)
                # No thing is named by one that carries nothing.
                for journey in named if touch.content else ():
                    run = subject_of(journey.definition, touch)
                    if run is not None:
                        of_some.setdefault((run, journey), []).append(touch)
        if of_all and journeys.of_every_type:
            found[owner_id, ""] = [Portion(of_all, journeys.of_every_type)]
        for (run, journey), touches in of_some.items():
            found.setdefault((owner_id, run), []).append(Portion(touches, (journey,)))


class _ByType:
    """Journeys by the types of touchpoints that concern them."""

    def __init__(self, journeys: Sequence[Journey]) -> None:
        self.of_every_type = [one for one in journeys if one.types is None and not is_of_things(one)]
        """Those about the customer or the account that every touchpoint concerns."""
        others = [one for one in journeys if one not in self.of_every_type]
        types = {type_ for journey in others for type_ in journey.types or ()}
        self._known = {type_: _parted(one for one in others if one.concerns(type_)) for type_ in types}
        self._others = _parted(journey for journey in others if journey.types is None)

    def asking_for(self, type_: str) -> tuple[Sequence[Journey], Sequence[Journey]]:
        """The others that a type concerns, those about things apart."""
        return self._known.get(type_, self._others)


def _parted(journeys: Iterable[Journey]) -> tuple[Sequence[Journey], Sequence[Journey]]:
    found = list(journeys)
    return [one for one in found if not is_of_things(one)], [one for one in found if is_of_things(one)]
