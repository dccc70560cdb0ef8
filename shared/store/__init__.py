"""The store: PostgreSQL. `tables` describes it, `migrations` makes it, `engine` opens it.

One dialect, PostgreSQL's. Per-customer tables carry `customer_id` first in their keys.
"""
