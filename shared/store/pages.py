"""Going through all customers in the order of their ids, by pages that take a short time, whatever they are
like."""

from __future__ import annotations

from uuid import UUID

BEFORE_ALL = UUID(int=0)
"""An id that is less than any customer's."""
PAGE_S = 0.05
"""How long a page should take."""
CUSTOMERS_MAX = 500
CUSTOMERS_AT_FIRST = 20

# Counting many millions takes longer than a page may; and who shows how far it is needs no exact number.
CUSTOMERS_TOTAL = """
SELECT CASE WHEN reltuples > 1000000 THEN reltuples::bigint ELSE (SELECT count(*) FROM customers) END
FROM pg_class WHERE oid = 'customers'::regclass
"""
"""How many customers there are, or an estimate."""


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
