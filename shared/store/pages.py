"""Going through all customers, or all accounts, in the order of their ids, by pages that take a short time,
whatever they are like."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from shared.journey.definition import Definition

BEFORE_ALL = UUID(int=0)
"""An id that is less than any of theirs."""
PAGE_S = 0.05
"""How long a page should take."""
CUSTOMERS_MAX = 500
CUSTOMERS_AT_FIRST = 20

# Counting many millions takes longer than a page may; and who shows how far it is needs no exact number.
_TOTAL = """
SELECT CASE WHEN reltuples > 1000000 THEN reltuples::bigint ELSE (SELECT count(*) FROM {table}) END
FROM pg_class WHERE oid = '{table}'::regclass
"""
_AFTER = "SELECT id, {identity} AS identity FROM {table} WHERE id > $1 ORDER BY id LIMIT $2"


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose the runs of a journey are, as queries: how many there are (`total`, or an estimate), and the next
    ones (`after` an id, at most so many), an account with its identity."""

    total: str
    after: str


CUSTOMERS, ACCOUNTS = (
    Owners(_TOTAL.format(table=table), _AFTER.format(table=table, identity=identity))
    for table, identity in (("customers", "NULL"), ("accounts", "identity"))
)


def owners_of(definition: Definition) -> Owners:
    """The accounts, if the journey is about them, or else the customers."""
    return ACCOUNTS if definition.subject.kind == "account" else CUSTOMERS


class PageSize:
    """The number of customers of the next page: larger or smaller than the last one by a factor of two."""

    def __init__(self, customers: int = CUSTOMERS_AT_FIRST) -> None:
        self.customers = customers

    def failed(self) -> None:
        """A page of this size could not be read."""
        self.customers = max(1, self.customers // 2)

    def took(self, customers: int, seconds: float) -> None:
        """A page of so many customers took so long."""
        if seconds > 2 * PAGE_S:
            self.failed()
        elif seconds < PAGE_S and customers == self.customers:
            self.customers = min(CUSTOMERS_MAX, self.customers * 2)
