"""Migrations keep what is in the store, in its new shape."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import msgspec
from alembic.script import ScriptDirectory

import shared.store.migrations
from shared.codec import encode
from shared.journey.state import NOWHERE, Kept, State, decode_states
from shared.store.ids import account_uid, touchpoint_uid
from shared.store.migrate import newest, upgrade_async
from shared.tombstones import digest_of
from tests.service.api_store import touchpoint
from tests.support.journeys import EPOCH
from tests.support.postgres import Postgres

_HOURS = """
INSERT INTO stage_flows
    (journey_key, version, hour, from_stage, from_paused, to_stage, to_paused, shard, count)
VALUES ('j', 1, '2026-01-31T23:00Z', '', false, 'a', false, 0, 2),
    ('j', 1, '2026-02-01T00:00Z', '', false, 'a', false, 0, 3),
    ('j', 1, '2026-02-01T05:00Z', '', false, 'a', false, 0, 4)
"""
_OF_BEFORE = """
INSERT INTO journey_states VALUES
    ('00000000-0000-0000-0000-000000000001', 'j', 1, 'a', false, now(), 'a', NULL, 0, '', now());
INSERT INTO stage_transitions VALUES
    ('00000000-0000-0000-0000-000000000001', 'j', 1, 0, 0, now(), 'enter', NULL, false, 'a', false, NULL, 'r',
        now())
"""
_SUMS = "SELECT span, since::text, count FROM stage_flows WHERE span <> 'hour' ORDER BY span, since"


async def test_what_is_at_the_newest_revision_is_left_as_it_is(database_url: str) -> None:
    """What would migrate it is not even loaded. What is newer than this program is refused."""
    program = (
        "import sys; from shared.store.migrate import upgrade; "
        f"upgrade({database_url!r}); print('alembic' in sys.modules)"
    )
    connection = await asyncpg.connect(database_url)

    async def migrated() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, error = await process.communicate()
        return (out or error.splitlines()[-1]).decode().strip()

    try:
        at_newest = await migrated()
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
        newer = await migrated()
        noted = await connection.fetchval("SELECT version_num FROM alembic_version")
    finally:
        await connection.close()

    assert at_newest == "False"
    assert newer.endswith("ConfigError: the database is at revision 9999, which is newer than this program")
    assert noted == "9999"


async def test_whatever_the_url_says_the_driver_reads_it(postgres: Postgres) -> None:
    """One in which the server stands behind the name, as for a socket's folder, is migrated too."""
    url = urlsplit(await asyncio.to_thread(postgres.create_database))
    name = url.path.removeprefix("/")
    try:
        await upgrade_async(f"postgresql:///{name}?host={url.hostname}&port={url.port}&user={url.username}")
        connection = await asyncpg.connect(url.geturl())
        revision = await connection.fetchval("SELECT version_num FROM alembic_version")
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url.geturl())

    assert revision == newest()


def test_the_newest_revision_is_the_one_that_no_other_follows() -> None:
    """It is read off the names of the files."""
    folder = Path(shared.store.migrations.__file__).parent

    assert newest() == ScriptDirectory(str(folder)).get_current_head()


async def test_flows_by_the_hour_get_their_sums_by_day_and_month(postgres: Postgres) -> None:
    """In UTC, whatever the session's time zone is."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0001")
        connection = await asyncpg.connect(url, server_settings={"timezone": "Asia/Tokyo"})
        await connection.execute(_HOURS)
        await upgrade_async(url)
        await connection.execute("SET timezone TO 'UTC'")
        sums = [tuple(row) for row in await connection.fetch(_SUMS)]
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert sums == [
        ("day", "2026-01-31 00:00:00+00", 2),
        ("day", "2026-02-01 00:00:00+00", 7),
        ("month", "2026-01-01 00:00:00+00", 2),
        ("month", "2026-02-01 00:00:00+00", 7),
    ]


async def test_what_is_there_is_about_customers_and_old_touchpoints_have_their_accounts(
    postgres: Postgres,
) -> None:
    """States and histories keep their place, without a thing's name; an account that touchpoints of before
    name has its people and its timeline, under the id that the stager will give it."""
    named = (["user_id:1"], ["user_id:1", "account_id:æ"], ["user_id:2", "account_id:æ", "account_id:b"])
    said = [touchpoint(str(number), more={"identities": names}) for number, names in enumerate(named)]
    said.append(touchpoint("3", more={"properties": {"note": "account_id:c"}}))
    customers = [account_uid(one.identities[0]) for one in said]
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0005")
        connection = await asyncpg.connect(url)
        await connection.execute(_OF_BEFORE)
        for one, customer in zip(said, customers, strict=True):
            uid = touchpoint_uid(one.source, one.id)
            await connection.execute(
                "INSERT INTO touchpoints VALUES ($1, $2, $3, $4, $5, $6)",
                *(customer, EPOCH, uid, one.type, one.channel, encode(one)),
            )
        await upgrade_async(url)
        runs = [
            await connection.fetchval(f"SELECT run FROM {table}")
            for table in ("journey_states", "stage_transitions")
        ]
        accounts = {tuple(row) for row in await connection.fetch("SELECT id, identity FROM accounts")}
        members = await connection.fetch("SELECT customer_id, account_id FROM account_members")
        timelines = await connection.fetch("SELECT account_id, id, customer_id FROM account_touchpoints")
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    ae, b = account_uid("account_id:æ"), account_uid("account_id:b")
    uids = [touchpoint_uid(one.source, one.id) for one in said]
    assert runs == ["", ""]
    assert accounts == {(ae, "account_id:æ"), (b, "account_id:b")}
    assert {tuple(row) for row in members} == {(customers[1], ae), (customers[2], ae), (customers[2], b)}
    assert {tuple(row) for row in timelines} == {
        (ae, uids[1], customers[1]),
        (ae, uids[2], customers[2]),
        (b, uids[2], customers[2]),
    }


_MEMBERS_OF_BEFORE = """
INSERT INTO customers (id, created_at) VALUES
    ('00000000-0000-0000-0000-000000000001', now()), ('00000000-0000-0000-0000-000000000002', now());
INSERT INTO account_touchpoints (account_id, occurred_at, id, customer_id) VALUES
    (md5('acme')::uuid, '2026-03-02', md5('later')::uuid, '00000000-0000-0000-0000-000000000001'),
    (md5('acme')::uuid, '2026-03-01', md5('earlier')::uuid, '00000000-0000-0000-0000-000000000001');
INSERT INTO account_members (customer_id, account_id, touchpoint_id, linked_at) VALUES
    ('00000000-0000-0000-0000-000000000001', md5('acme')::uuid, md5('later')::uuid, now())
"""


async def test_members_of_before_are_marked_and_have_the_first_that_names_their_account(
    postgres: Postgres,
) -> None:
    """Whoever has named an account is to be told anew, and nobody else; all touchpoints of accounts name
    them; a membership begins with the first."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0012")
        connection = await asyncpg.connect(url)
        await connection.execute(_MEMBERS_OF_BEFORE)
        await upgrade_async(url)
        marked = await connection.fetch("SELECT is_member FROM customers ORDER BY id")
        left = await connection.fetchval("SELECT bool_or(leaves) FROM account_touchpoints")
        members = await connection.fetch(
            "SELECT touchpoint_id = md5('earlier')::uuid, since, until FROM account_members"
        )
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert [row["is_member"] for row in marked] == [None, False]
    assert left is False
    assert [tuple(row) for row in members] == [(True, datetime(2026, 3, 1, tzinfo=UTC), None)]


_REFUSED_BEFORE = """
INSERT INTO identities (identity, customer_id, touchpoint_id, linked_at)
SELECT name, '00000000-0000-0000-0000-000000000001', md5(name)::uuid, now()
FROM (VALUES ('user_id:bo'), ('loyalty_id:bo')) AS n (name);
INSERT INTO identity_conflicts (customer_id, identity, kind, touchpoint_id, count, first_at, last_at)
VALUES ('00000000-0000-0000-0000-000000000001', 'email:ann@b.dk', 'user_id', md5('t')::uuid, 1, now(), now())
"""


async def test_what_was_refused_before_is_looked_for_by_any_identity(postgres: Postgres) -> None:
    """A refusal doesn't tell which of the customer's identities the touchpoint had."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0016")
        connection = await asyncpg.connect(url)
        await connection.execute(_REFUSED_BEFORE)
        await upgrade_async(url)
        pairs = await connection.fetch("SELECT identity, digest FROM named_pairs")
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    digest = digest_of("email:ann@b.dk")
    assert {tuple(row) for row in pairs} == {("user_id:bo", digest), ("loyalty_id:bo", digest)}


_PARTED_BEFORE = """
INSERT INTO identity_links (identity, other, touchpoint_id, occurred_at, linked_at, withdrawn_at, parted)
VALUES ('user_id:bo', 'phone:1', md5('t')::uuid, now(), now(), now(), ARRAY(
    SELECT ('00000000-0000-0000-0000-00000000000' || number)::uuid FROM generate_series(1, 4) AS number
)), ('user_id:bo', 'phone:2', md5('t')::uuid, now(), now(), NULL, NULL)
"""
_ENDS = "SELECT other, place, name, customer_id FROM parted_ends ORDER BY 1, 2, name DESC"


async def test_whose_both_were_when_they_were_parted_is_kept(postgres: Postgres) -> None:
    """In turns on the link, once; now a row each."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0017")
        connection = await asyncpg.connect(url)
        await connection.execute(_PARTED_BEFORE)
        await upgrade_async(url)
        ends = await connection.fetch(_ENDS)
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert [tuple(row) for row in ends] == [
        ("phone:1", 0, "user_id:bo", UUID(int=1)),
        ("phone:1", 0, "phone:1", UUID(int=2)),
        ("phone:1", 1, "user_id:bo", UUID(int=3)),
        ("phone:1", 1, "phone:1", UUID(int=4)),
    ]


_OLD_STATE = """
INSERT INTO journey_states
    (customer_id, journey_key, version, paused, due_at, revision, state, updated_at, run)
VALUES ($1, $2, $3, false, $4, $5, $6, $7, $8)
"""


async def test_the_states_of_a_customer_become_one_row(postgres: Postgres) -> None:
    """Each is there with its journey's version, its revision and due time; a thing has a row of its own."""
    customer_id, other_id = UUID(int=1), UUID(int=2)
    earlier, later = datetime(1969, 12, 31, 23, 59, 59, 250_000, UTC), datetime(2026, 5, 1, 0, 0, 0, 1, UTC)
    kept = {
        (customer_id, ""): [
            Kept("coffee-øl", 2, 300, later, State(earlier, UUID(int=7), "first", entered_at=later)),
            Kept("tea", 1, 0, None, NOWHERE),
            Kept("tea", 200, 3, earlier, State(later, UUID(int=8), "second", transitions=9)),
        ],
        (customer_id, "order-1"): [Kept("tea", 1, 0, None, State(later, UUID(int=9), "first"))],
        (other_id, ""): [Kept("tea", 1, 0, later, State(later, UUID(int=9), "first"))],
    }
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0006")
        connection = await asyncpg.connect(url)
        for (owner_id, run), states in kept.items():
            for one in states:
                state = msgspec.msgpack.Encoder(uuid_format="bytes").encode(one.state)
                values = (one.journey_key, one.version, one.due_at, one.revision, state, later, run)
                await connection.execute(_OLD_STATE, owner_id, *values)
        await upgrade_async(url)
        rows = await connection.fetch("SELECT customer_id, run, due_at, states FROM journey_states")
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert {(row["customer_id"], row["run"]): decode_states(row["states"]) for row in rows} == kept
    assert {(row["customer_id"], row["run"]): row["due_at"] for row in rows} == {
        (customer_id, ""): earlier,
        (customer_id, "order-1"): None,
        (other_id, ""): later,
    }


_VERSIONS = """
INSERT INTO journey_definitions (key, version, hash, source, recorded_at, backfilled_at)
VALUES ('a', 1, '', '', now(), now()), ('a', 2, '', '', now(), now()), ('b', 1, '', '', now(), now()),
    ('b', 3, '', '', now(), NULL)
"""
_STATUS = """
SELECT key, version, activated_at IS NOT NULL, wanted_at IS NOT NULL, retired_at IS NOT NULL
FROM journey_definitions ORDER BY key, version
"""


async def test_the_highest_version_is_the_active_one_or_on_its_way(postgres: Postgres) -> None:
    """It was what everybody read, if its customers were all staged; lower ones have been folded no more."""
    url = await asyncio.to_thread(postgres.create_database)
    try:
        await upgrade_async(url, "0005")
        connection = await asyncpg.connect(url)
        await connection.execute(_VERSIONS)
        await upgrade_async(url)
        status = [tuple(row) for row in await connection.fetch(_STATUS)]
        await connection.close()
    finally:
        await asyncio.to_thread(postgres.drop_database, url)

    assert status == [
        ("a", 1, False, False, True),
        ("a", 2, True, False, False),
        ("b", 1, False, False, True),
        ("b", 3, False, True, False),
    ]
