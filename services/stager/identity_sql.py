"""The SQL about who is who: identities, links between them, and customers that become one or several.

It takes its locks in the order that `sql` tells.
"""

from __future__ import annotations

from shared.store.withdrawals import OWNERS

SNAPSHOT = "SELECT pg_current_snapshot()::text"

KNOWN_IDENTITIES = """
SELECT identity, customer_id, handed_over FROM identities WHERE identity = ANY($1::text[])
"""

MEMBERS = """
SELECT customer_id, identity, touchpoint_id, since FROM identities WHERE customer_id = ANY($1::uuid[])
"""

WITHHELD_PAIRS = """
SELECT l.identity, l.other FROM unnest($1::text[], $2::text[]) AS n (identity, other)
JOIN identity_links AS l ON l.identity = n.identity AND l.other = n.other
WHERE l.withdrawn_at IS NOT NULL OR l.unsettled_at IS NOT NULL
"""

# Of each identity who has it from an instant on, and who had it then: nobody asks for what lies before.
HOLDERS = """
SELECT h.* FROM unnest($1::text[], $2::timestamptz[]) AS n (identity, at)
CROSS JOIN LATERAL (
    (SELECT identity, since, touchpoint_id, customer_id FROM identity_holders
    WHERE identity = n.identity AND since < n.at ORDER BY since DESC, touchpoint_id DESC LIMIT 1)
    UNION ALL
    (SELECT identity, since, touchpoint_id, customer_id FROM identity_holders
    WHERE identity = n.identity AND since >= n.at)
) AS h ORDER BY identity, since, touchpoint_id
"""

NEW_CUSTOMERS = """
INSERT INTO customers (id, created_at, is_member)
SELECT n.id, $2, n.id = ANY($3::uuid[]) FROM unnest($1::uuid[]) AS n (id)
"""

PARTED_CUSTOMER = "INSERT INTO customers (id, created_at) VALUES ($1, $2)"

NEW_IDENTITIES = """
INSERT INTO identities (identity, customer_id, touchpoint_id, since, linked_at)
SELECT *, $5::timestamptz FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::timestamptz[])
ON CONFLICT DO NOTHING
"""

NEW_LINKS = """
INSERT INTO identity_links (identity, other, touchpoint_id, occurred_at, linked_at)
SELECT *, $5::timestamptz FROM unnest($1::text[], $2::text[], $3::uuid[], $4::timestamptz[])
ON CONFLICT DO NOTHING
"""

# Counted, so that nothing is sent of those that are known anyway, but for members of accounts. One that was
# merged away is not there any more; `relinked` are those whose identities another transaction has altered
# behind a snapshot.
LOCK_CUSTOMERS = """
SELECT count(*), count(*) FILTER (
    WHERE NOT pg_visible_in_snapshot(relinked::text::xid8, $2::text::pg_snapshot)
) AS relinked, array_agg(id) FILTER (WHERE is_member) AS members,
    array_agg(id) FILTER (WHERE is_member IS NULL) AS outdated
FROM (SELECT id, relinked, is_member FROM customers WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE)
    AS locked
"""

RELINKED = """
UPDATE customers SET relinked = pg_current_xact_id()::text::bigint WHERE id = ANY($1::uuid[])
"""

NEW_NAMED_PAIRS = """
INSERT INTO named_pairs (identity, digest)
SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT DO NOTHING
"""

NEXT_UNSETTLED = """
SELECT identity, other, touchpoint_id, occurred_at, withdrawn_at FROM identity_links
WHERE unsettled_at IS NOT NULL ORDER BY unsettled_at, identity, other LIMIT 1 FOR UPDATE SKIP LOCKED
"""

SETTLED = "UPDATE identity_links SET unsettled_at = NULL WHERE identity = $1 AND other = $2"

PUT_OFF = """
UPDATE identity_links SET unsettled_at = $1 WHERE (identity, other) = (
    SELECT identity, other FROM identity_links
    WHERE unsettled_at IS NOT NULL ORDER BY unsettled_at, identity, other LIMIT 1 FOR UPDATE SKIP LOCKED
)
"""

NEW_ENDS = """
INSERT INTO parted_ends (identity, other, place, name, customer_id)
SELECT $1, $2, * FROM unnest($3::integer[], $4::text[], $5::uuid[])
"""

DROP_ENDS = "DELETE FROM parted_ends WHERE identity = $1 AND other = $2"

# Of both, at each parting, whether whoever they were then was erased, whether those have or had them by turns
# with others (then it is them, else who has them now), and whose they are.
ENDS = """
SELECT e.place, e.name, e.erased, h.customer_id IS NOT NULL AS by_turns,
    coalesce(h.customer_id, i.customer_id) AS customer_id
FROM (
    SELECT place, name, coalesce(a.customer_id, p.customer_id) AS customer_id, EXISTS (
        SELECT FROM erasures WHERE id = p.customer_id
        UNION ALL SELECT FROM erased_aliases WHERE id = p.customer_id
    ) AS erased
    FROM parted_ends AS p LEFT JOIN customer_aliases AS a ON a.alias_id = p.customer_id
    WHERE identity = $1 AND other = $2
) AS e
JOIN identities AS i ON i.identity = e.name
LEFT JOIN LATERAL (
    SELECT customer_id FROM identity_holders
    WHERE identity = e.name AND customer_id = e.customer_id LIMIT 1
) AS h ON true
ORDER BY e.place, e.name
"""

OWNERS_OF_BOTH = OWNERS.format(one="$1", other="$2", both_or_either="INTERSECT") + "ORDER BY 1"

OWNERS_OF_EITHER = OWNERS.format(one="$1", other="$2", both_or_either="UNION") + "ORDER BY 1"

IDENTITIES_EVER = """
SELECT identity, linked_at, since FROM identities
WHERE customer_id = $1 OR identity IN (SELECT identity FROM identity_holders WHERE customer_id = $1)
"""

LINKS_AMONG = """
SELECT identity, other, withdrawn_at IS NOT NULL AS withdrawn FROM identity_links
WHERE identity = ANY($1::text[]) AND other = ANY($1::text[])
"""

ALIASES = "SELECT alias_id, founded_by, created_at FROM customer_aliases WHERE customer_id = $1"

# Of what was $1's at a parting, names ($2) are others' now ($3). Its aliases may be as well, so what stays
# gets its own id.
MOVE_ENDS = """
UPDATE parted_ends AS e SET customer_id = coalesce(
    (SELECT n.taker_id FROM unnest($2::text[], $3::uuid[]) AS n (name, taker_id) WHERE n.name = e.name), $1
)
WHERE e.customer_id IN (SELECT $1 UNION ALL SELECT alias_id FROM customer_aliases WHERE customer_id = $1)
"""

# What a customer loses to another one: $1 loses, $2 gets.
PART = (
    "UPDATE identities SET customer_id = $2 WHERE customer_id = $1 AND identity = ANY($3::text[])",
    "UPDATE identity_holders SET customer_id = $2 WHERE customer_id = $1 AND identity = ANY($3::text[])",
)

PART_NAMES = "UPDATE customer_aliases SET customer_id = $1 WHERE alias_id = ANY($2::uuid[])"

REVIVED = "DELETE FROM customer_aliases WHERE alias_id = $1"

TOUCHPOINTS_AFTER = """
SELECT occurred_at, id, body FROM touchpoints
WHERE customer_id = $1 AND (occurred_at, id) > ($2, $3) ORDER BY occurred_at, id LIMIT $4
"""

CONFLICT_EVIDENCE = "SELECT touchpoint_id FROM identity_conflicts WHERE customer_id = $1"

MOVE_CONFLICTS = """
UPDATE identity_conflicts SET customer_id = $2 WHERE customer_id = $1 AND touchpoint_id = ANY($3::uuid[])
"""

_OF_CUSTOMERS = ("identities", "identity_holders", "customer_aliases")

# What becomes another customer's: $1 goes, $2 stays.
_MERGED = "unnest($1::uuid[], $2::uuid[]) AS m (goes, stays)"

MERGE = (
    *(
        f"UPDATE {table} AS t SET customer_id = m.stays FROM {_MERGED} WHERE t.customer_id = m.goes"
        for table in _OF_CUSTOMERS
    ),
    f"""
    INSERT INTO account_members (customer_id, account_id, touchpoint_id, linked_at, since, until)
    SELECT m.stays, t.account_id, t.touchpoint_id, t.linked_at, t.since, t.until
    FROM {_MERGED} JOIN account_members AS t ON t.customer_id = m.goes
    ORDER BY t.linked_at, t.touchpoint_id ON CONFLICT DO NOTHING
    """,
    f"""
    INSERT INTO identity_conflicts AS c
        (customer_id, identity, kind, other_id, touchpoint_id, count, first_at, last_at)
    SELECT m.stays, t.identity, t.kind, (array_agg(t.other_id ORDER BY t.last_at DESC))[1],
        (array_agg(t.touchpoint_id ORDER BY t.last_at DESC))[1], sum(t.count), min(t.first_at), max(t.last_at)
    FROM {_MERGED} JOIN identity_conflicts AS t ON t.customer_id = m.goes GROUP BY m.stays, t.identity, t.kind
    ON CONFLICT (customer_id, identity, kind) DO UPDATE SET count = c.count + EXCLUDED.count,
        first_at = least(c.first_at, EXCLUDED.first_at), last_at = greatest(c.last_at, EXCLUDED.last_at)
    """,
)

# So many of each timeline: no statement takes longer than it may, however long they are.
MERGE_TOUCHPOINTS = f"""
UPDATE touchpoints AS t SET customer_id = m.stays
FROM {_MERGED} CROSS JOIN LATERAL (
    SELECT occurred_at, id FROM touchpoints WHERE customer_id = m.goes ORDER BY occurred_at, id LIMIT $3
) AS n
WHERE t.customer_id = m.goes AND t.occurred_at = n.occurred_at AND t.id = n.id
"""

MERGE_ACCOUNT_TOUCHPOINTS = f"""
UPDATE account_touchpoints AS t SET customer_id = m.stays
FROM {_MERGED} CROSS JOIN LATERAL (
    SELECT account_id, occurred_at, id FROM account_touchpoints WHERE customer_id = m.goes LIMIT $3
) AS n
WHERE t.account_id = n.account_id AND t.occurred_at = n.occurred_at AND t.id = n.id
"""

MERGED_AWAY = tuple(
    f"DELETE FROM {table} WHERE {column} = ANY($1::uuid[])"
    for table, column in (
        ("account_members", "customer_id"),
        ("identity_conflicts", "customer_id"),
        ("checkpoints", "customer_id"),
        ("customers", "id"),
    )
)

# With the identity that each had begun with: what `parting` finds.
NEW_ALIASES = """
INSERT INTO customer_aliases (alias_id, customer_id, touchpoint_id, merged_at, founded_by, created_at)
SELECT m.goes, m.stays, m.touchpoint_id, $4::timestamptz, f.identity, c.created_at
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS m (goes, stays, touchpoint_id)
JOIN customers AS c ON c.id = m.goes
LEFT JOIN LATERAL (
    SELECT identity FROM identities WHERE customer_id = m.goes
    ORDER BY linked_at,
        identity IN (SELECT founded_by FROM customer_aliases WHERE customer_id = m.goes), since, identity
    LIMIT 1
) AS f ON true
"""

NEW_HOLDERS = """
INSERT INTO identity_holders (identity, since, touchpoint_id, customer_id)
SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::uuid[]) ON CONFLICT DO NOTHING
"""

HAND_OVER = """
UPDATE identities AS i SET customer_id = coalesce(n.customer_id, i.customer_id), handed_over = true
FROM unnest($1::text[], $2::uuid[]) AS n (identity, customer_id) WHERE i.identity = n.identity
"""

TOUCHPOINTS_OF = """
SELECT occurred_at, id, body FROM touchpoints
WHERE customer_id = $1 AND (occurred_at, id) >= ($2, $3) AND (occurred_at, id) < ($4, $5)
"""

MOVE_TOUCHPOINTS = """
UPDATE touchpoints AS t SET customer_id = $2
FROM unnest($3::timestamptz[], $4::uuid[]) AS n (occurred_at, id)
WHERE t.customer_id = $1 AND t.occurred_at = n.occurred_at AND t.id = n.id
"""

NEW_CONFLICTS = """
INSERT INTO identity_conflicts AS c
    (customer_id, identity, kind, other_id, touchpoint_id, count, first_at, last_at)
SELECT n.*, $7::timestamptz, $7::timestamptz
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::uuid[], $6::bigint[]) AS n
ON CONFLICT (customer_id, identity, kind) DO UPDATE SET other_id = EXCLUDED.other_id,
    touchpoint_id = EXCLUDED.touchpoint_id, count = c.count + EXCLUDED.count,
    last_at = greatest(c.last_at, EXCLUDED.last_at)
"""
