"""The SQL of which accounts touchpoints are about, and of their members. `sql` says in which order locks are
taken."""

from __future__ import annotations

# One that another transaction makes is waited for; no lock on one that was there before is held yet.
NEW_ACCOUNTS = """
INSERT INTO accounts (id, identity, created_at)
SELECT *, $3::timestamptz FROM unnest($1::uuid[], $2::text[]) ON CONFLICT DO NOTHING RETURNING id
"""

HAVE_ACCOUNTS = """
SELECT id FROM unnest($1::uuid[]) AS n (id)
WHERE EXISTS (SELECT FROM account_touchpoints WHERE customer_id = n.id)
    OR EXISTS (SELECT FROM account_members WHERE customer_id = n.id)
"""

# What names accounts around new touchpoints: from the last before them by which nobody leaves one, up to the
# first such one behind them.
_SAID = """
SELECT occurred_at, id FROM account_touchpoints WHERE customer_id = n.customer_id AND NOT leaves
"""

NAMINGS_AROUND = f"""
SELECT n.customer_id, a.occurred_at, a.id, a.leaves, array_agg(a.account_id) AS names
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[], $5::uuid[])
    AS n (customer_id, first_at, first_id, last_at, last_id)
LEFT JOIN LATERAL ({_SAID} AND (occurred_at, id) < (n.first_at, n.first_id)
    ORDER BY occurred_at DESC, id DESC LIMIT 1) AS b (at, id) ON true
LEFT JOIN LATERAL ({_SAID} AND (occurred_at, id) > (n.last_at, n.last_id)
    ORDER BY occurred_at, id LIMIT 1) AS e (at, id) ON true
CROSS JOIN LATERAL (
    SELECT occurred_at, id, leaves, account_id FROM account_touchpoints
    WHERE customer_id = n.customer_id AND leaves IN (false, true)
        AND (occurred_at, id) >= (coalesce(b.at, '-infinity'), coalesce(b.id, n.first_id))
        AND (occurred_at, id) <= (coalesce(e.at, 'infinity'), coalesce(e.id, n.last_id))
    OFFSET 0
) AS a GROUP BY 1, 2, 3, 4
"""

# So many of each timeline, between two positions, with the accounts that each is about so far.
ABOUT_ACCOUNTS = """
SELECT n.customer_id, t.occurred_at, t.id, a.leaves, a.account_ids
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::timestamptz[], $5::uuid[])
    AS n (customer_id, at, id, until_at, until_id)
CROSS JOIN LATERAL (
    SELECT occurred_at, id FROM touchpoints
    WHERE customer_id = n.customer_id AND (occurred_at, id) > (n.at, n.id)
        AND (occurred_at, id) < (n.until_at, n.until_id)
    ORDER BY occurred_at, id LIMIT $6
) AS t
CROSS JOIN LATERAL (
    SELECT bool_or(leaves) AS leaves, array_agg(account_id) AS account_ids FROM account_touchpoints
    WHERE customer_id = n.customer_id AND occurred_at = t.occurred_at AND id = t.id
        AND (leaves IN (false, true) OR leaves IS NULL)
) AS a ORDER BY n.customer_id, t.occurred_at, t.id
"""

# Whoever is in a batch is told anew there. The evidence of a membership stands for what asks for it.
LOCK_OUTDATED = """
SELECT id, (
    SELECT touchpoint_id FROM account_members WHERE customer_id = locked.id ORDER BY account_id LIMIT 1
) FROM (
    SELECT id FROM customers WHERE is_member IS NULL ORDER BY id LIMIT $1 FOR UPDATE
) AS locked
"""

DROP_ACCOUNT_TOUCHPOINTS = """
DELETE FROM account_touchpoints AS a
USING unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) AS n (account_id, occurred_at, id)
WHERE a.account_id = n.account_id AND a.occurred_at = n.occurred_at AND a.id = n.id
"""

# By the customer's part of the index, and never by all that an account has.
_NAMES_IT = """
SELECT occurred_at, id, leaves FROM account_touchpoints
WHERE customer_id = {whose}.customer_id AND leaves IN (false, true)
    AND account_id IS NOT DISTINCT FROM {whose}.account_id
"""
_NAMINGS = _NAMES_IT.format(whose="n")

DROP_MEMBERS = f"""
DELETE FROM account_members AS m
WHERE customer_id = ANY($1::uuid[]) AND NOT EXISTS ({_NAMES_IT.format(whose="m")} OFFSET 0)
"""

# A member from the first touchpoint on that names the account; until the last, if that is about leaving it.
MEMBERS_OF = f"""
INSERT INTO account_members AS m (customer_id, account_id, touchpoint_id, linked_at, since, until)
SELECT n.customer_id, n.account_id, f.id, $3::timestamptz, f.occurred_at,
    CASE WHEN l.leaves THEN l.occurred_at END
FROM unnest($1::uuid[], $2::uuid[]) AS n (customer_id, account_id)
CROSS JOIN LATERAL ({_NAMINGS} ORDER BY occurred_at, id LIMIT 1) AS f
CROSS JOIN LATERAL ({_NAMINGS} ORDER BY occurred_at DESC, id DESC LIMIT 1) AS l
ON CONFLICT (customer_id, account_id) DO UPDATE
SET touchpoint_id = EXCLUDED.touchpoint_id, since = EXCLUDED.since, until = EXCLUDED.until
WHERE (m.touchpoint_id, m.since, m.until)
    IS DISTINCT FROM (EXCLUDED.touchpoint_id, EXCLUDED.since, EXCLUDED.until)
"""

ARE_MEMBERS = "UPDATE customers SET is_member = true WHERE id = ANY($1::uuid[])"

ACCOUNT_TOUCHPOINT_COLUMNS = ("account_id", "occurred_at", "id", "customer_id", "leaves")
