"""Which runs of which journeys new touchpoints belong to.

A journey about customers has one run a customer, one about accounts one an account; a journey about things
has a run for each thing that a customer's touchpoints name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from uuid import UUID

from services.stager.batch import Incoming
from shared.journey.fold import Journey, subject_of
from shared.journey.touch import Lens, Touch

Run = tuple[UUID, Journey, str]
"""The customer or account whose it is, the journey, and the name of the thing; without one it is empty."""

Filed = Mapping[UUID, Sequence[Incoming]]


def is_of_accounts(journey: Journey) -> bool:
    """Whether accounts have its runs, and not customers."""
    return journey.definition.subject.kind == "account"


class Runs:
    """Sorts touchpoints by the runs of the journeys that they concern."""

    def __init__(self, journeys: Sequence[Journey]) -> None:
        self._lens = Lens(journey.asks for journey in journeys)
        self._of_accounts = [one for one in journeys if is_of_accounts(one)]
        self._of_customers = [one for one in journeys if not is_of_accounts(one)]
        self.named = frozenset(one for one in journeys if one.definition.subject.kind == "property")
        """The journeys about things."""

    def touches(self, by_customer: Filed, by_account: Filed) -> Mapping[Run, Sequence[Touch]]:
        """What concerns each run, in the fold's order."""
        found: dict[Run, list[Touch]] = defaultdict(list)
        self._sort(by_customer, self._of_customers, found)
        self._sort(by_account, self._of_accounts, found)
        for touches in found.values():
            touches.sort(key=lambda touch: (touch.at, touch.id))
        return found

    def _sort(self, filed: Filed, journeys: Sequence[Journey], found: dict[Run, list[Touch]]) -> None:
        for owner_id, incoming in filed.items():
            for one in incoming:
                concerned = [journey for journey in journeys if journey.concerns(one.touchpoint.type)]
                if concerned:
                    touch = self._lens.touch(one.uid, one.touchpoint)
                    for journey in concerned:
                        run = subject_of(journey.definition, touch) if journey in self.named else ""
                        if run is not None:
                            found[owner_id, journey, run].append(touch)
