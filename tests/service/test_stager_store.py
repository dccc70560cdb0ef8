"""The batch transaction on a real PostgreSQL: all of it or nothing, whoever else writes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.stager import ids
from services.stager.backfill import Backfill
from services.stager.batch import read_batch
from services.stager.definitions import register
from services.stager.in_force import InForce
from services.stager.store import BatchStore, Claimed, Done
from services.stager.sweeper import SETTLE, Sweeper
from shared.clock import Clock
from shared.codec import encode
from shared.errors import ConfigError, Contended, FencedOut, Permanent
from shared.eventlog.port import Record
from shared.failpoints import Failpoints
from shared.ids import uuid7
from shared.journey.fold import Journey
from shared.journey.language import parse
from shared.store.engine import Pool, connection_of, open_pool
from shared.touchpoint import Touchpoint
from shared.touchpoint_types import UNKNOWN_TYPES_MAX
from tests.support.audit import differences
from tests.support.clock import ManualClock
from tests.support.journeys import EPOCH, all_journeys

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def touchpoint(
    id_: str, *identities: str, day: float = 0, type_: str = "order_completed", body: bytes = b"{}"
) -> Touchpoint:
    occurred_at = EPOCH + timedelta(days=day)
    return Touchpoint(
        id=id_,
        type=type_,
        channel="store",
        occurred_at=occurred_at,
        received_at=max(NOW, occurred_at),
        source="till",
        identities=identities or ("user_id:1",),
        properties=msgspec.Raw(body),
    )


@dataclass
class Writer:
    """One stager's hands: claims partition 0 and commits records at the offsets that follow."""

    store: BatchStore
    stands: Claimed = field(default_factory=lambda: Claimed(0, 0, None))
    partition: int = 0

    async def claim(self) -> None:
        self.stands = await self.store.claim(self.partition, 0)

    def records(self, values: Sequence[bytes]) -> list[Record]:
        begin = self.stands.next_offset
        return [Record(self.partition, begin + index, value) for index, value in enumerate(values)]

    async def commit(self, *touchpoints: Touchpoint) -> Done:
        return await self.commit_values([encode(one) for one in touchpoints])

    async def commit_values(self, values: Sequence[bytes]) -> Done:
        batch = read_batch(self.records(values))
        while True:
            try:
                done = await self.store.commit(batch, {self.partition: self.stands}, NOW)
            except Contended:
                continue
            self.stands = Claimed(self.stands.epoch, batch.advances[0].next_offset, None)
            return done


@dataclass
class World:
    """A store, the journeys on it, and as many writers as a test wants."""

    pool: Pool
    journeys: Sequence[Journey]
    in_force: InForce = field(init=False)

    def __post_init__(self) -> None:
        self.in_force = InForce(self.pool)

    async def register(self) -> None:
        """Ask for the journeys, as a stager does that begins."""
        async with connection_of(self.pool) as connection:
            await register(connection, [one.definition for one in self.journeys], NOW)

    async def writer(self, partition: int = 0, *, unseen_from: int = ids.UNSEEN_FROM) -> Writer:
        store = BatchStore(
            self.pool,
            self.in_force,
            log_id="log",
            owner=f"writer-{partition}",
            shard=partition,
            new_id=uuid7,
            failpoints=Failpoints(),
            unseen_from=unseen_from,
        )
        await self.register()
        writer = Writer(store, partition=partition)
        await writer.claim()
        return writer

    async def count(self, table: str) -> int:
        async with connection_of(self.pool) as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))

    async def unknown_types(self) -> dict[str, int]:
        async with connection_of(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT type, sum(count)::int AS count FROM unknown_types GROUP BY 1"
            )
        return {row["type"]: row["count"] for row in rows}

    async def differences(self, now: datetime | None = None) -> list[str]:
        async with connection_of(self.pool) as connection:
            return await differences(connection, self.journeys, now)

    async def backfill(self, clock: Clock) -> None:
        await self.in_force.follow()
        backfill = Backfill(self.pool, self.in_force, 5, clock, Failpoints())
        while await backfill.page():
            pass

    async def sweep(self, clock: Clock) -> None:
        sweeper = Sweeper(self.pool, self.in_force, 7, clock)
        while await sweeper.sweep():
            pass


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    pool = await open_pool(database_url, connections_max=6, service="test")
    yield World(pool, all_journeys())
    await pool.close()


async def test_a_batch_stores_stages_and_counts(world: World) -> None:
    """One commit files the touchpoints, moves the stages and keeps the counters equal to them."""
    writer = await world.writer()
    done = await writer.commit(touchpoint("a"), touchpoint("b", day=1), touchpoint("c", "user_id:2"))

    assert (done.stored, done.duplicates, done.conflicts, done.dead) == (3, 0, 0, 0)
    assert await world.count("customers") == 2
    assert await world.differences() == []


async def test_the_same_touchpoint_again_changes_nothing(world: World) -> None:
    """A touchpoint's id is unique per source for ever, within a batch and across batches."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"), touchpoint("a"))
    done = await writer.commit(touchpoint("a"), touchpoint("a"))

    assert (done.stored, done.duplicates) == (0, 2)
    assert await world.count("touchpoints") == 1
    assert await world.differences() == []


async def test_the_same_id_with_another_body_is_a_conflict_and_the_first_wins(world: World) -> None:
    """A conflict is counted, stored nowhere, and teaches no identity."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"))
    other = touchpoint("a", "user_id:9", body=b'{"total":1}')
    done = await writer.commit(other, touchpoint("b"), touchpoint("b", body=b'{"total":2}'))

    assert (done.stored, done.duplicates, done.conflicts) == (1, 0, 2)
    assert await world.count("customers") == 1
    assert await world.count("touchpoints") == 2


async def test_touchpoints_of_unknown_types_are_kept_and_each_counted_once(world: World) -> None:
    """A duplicate, a conflict and a known type count nothing; the sums hold over batches and shards."""
    first, other = await world.writer(), await world.writer(1)
    done = await first.commit(
        touchpoint("a", type_="gym_visited"),
        touchpoint("a", type_="gym_visited"),
        touchpoint("b", type_="prodcut_viewed"),
        touchpoint("c"),
    )
    again = await other.commit(
        touchpoint("a", type_="gym_visited"),
        touchpoint("b", type_="gym_left"),
        touchpoint("d", type_="gym_visited"),
    )

    assert (done.stored, done.unknown_types) == (3, 2)
    assert (again.stored, again.unknown_types) == (1, 1)
    assert await world.unknown_types() == {"gym_visited": 2, "prodcut_viewed": 1}
    assert await world.differences() == []
    async with connection_of(world.pool) as connection:
        await connection.execute("UPDATE unknown_types SET count = count + 1 WHERE type = 'gym_visited'")
    assert await world.differences() == ["touchpoints of the unknown type gym_visited is 4, it must be 2"]


async def test_unknown_types_beyond_the_room_are_counted_together(world: World) -> None:
    """However many names come, a shard keeps so many, and every touchpoint is in the sum; a name that is
    kept goes on being counted by itself."""
    writer = await world.writer()
    for batch in range(3):
        number = UNKNOWN_TYPES_MAX - 10 if batch == 0 else 20
        names = [f"made_up_{batch}_{one}" for one in range(number)]
        await writer.commit(*(touchpoint(name, type_=name) for name in names))
    await writer.commit(touchpoint("again", type_="made_up_0_7"))

    found = await world.unknown_types()
    assert len(found) == UNKNOWN_TYPES_MAX + 1
    assert (found[""], found["made_up_0_7"], sum(found.values())) == (30, 2, UNKNOWN_TYPES_MAX + 31)
    assert await world.differences() == []


async def test_a_retry_that_ingest_gave_another_time_is_a_duplicate(world: World) -> None:
    """A time that ingest filled in is no part of the body."""
    writer = await world.writer()
    first = msgspec.structs.replace(touchpoint("a"), occurred_at=NOW, received_at=NOW)
    later = NOW + timedelta(minutes=5)
    again = msgspec.structs.replace(first, occurred_at=later, received_at=later)
    await writer.commit(first)

    assert (await writer.commit(again)).duplicates == 1


async def test_records_that_are_no_touchpoints_are_set_aside_with_their_bytes(world: World) -> None:
    """A dead letter keeps the bytes and the reason, and its neighbours are stored."""
    writer = await world.writer()
    nobody = encode(msgspec.structs.replace(touchpoint("n"), identities=("account_id:acme",)))
    done = await writer.commit_values([b"\xff\xfe", encode(touchpoint("a")), b'{"id":7}', nobody])

    assert (done.stored, done.dead) == (1, 3)
    async with connection_of(world.pool) as connection:
        rows = await connection.fetch('SELECT "offset", value FROM dead_letters ORDER BY 1')
    assert [(row["offset"], row["value"]) for row in rows] == [
        (0, b"\xff\xfe"),
        (2, b'{"id":7}'),
        (3, nobody),
    ]


async def test_a_log_made_anew_can_have_a_dead_letter_at_the_same_place(world: World) -> None:
    """The bytes tell them apart; and read again, each is still one."""
    writer = await world.writer()
    for value in (b"old", b"new", b"new"):
        await writer.commit_values([value])
        async with connection_of(world.pool) as connection:
            await connection.execute("UPDATE stager_offsets SET next_offset = 0")
        await writer.claim()
    async with connection_of(world.pool) as connection:
        rows = await connection.fetch('SELECT "offset", value FROM dead_letters ORDER BY value')

    assert [tuple(row) for row in rows] == [(0, b"new"), (0, b"old")]


async def test_what_the_store_refuses_leaves_nothing_behind(world: World) -> None:
    """A record that PostgreSQL can't hold fails its whole batch, offsets included."""
    writer = await world.writer()
    batch = read_batch(writer.records([encode(touchpoint("a")), encode(touchpoint("b", "user_id:2"))]))
    unseen = msgspec.structs.replace(batch.incoming[1].touchpoint, identities=("user_id:\0",))
    incoming = [batch.incoming[0], msgspec.structs.replace(batch.incoming[1], touchpoint=unseen)]
    with pytest.raises(Permanent):
        await writer.store.commit(dataclasses.replace(batch, incoming=incoming), {0: writer.stands}, NOW)

    assert await world.count("touchpoints") == 0
    assert (await writer.commit(touchpoint("a"))).stored == 1


async def test_a_stager_that_lost_its_partition_writes_nothing(world: World) -> None:
    """After another claim the old owner's batch is fenced out, however late it comes."""
    zombie = await world.writer()
    await zombie.commit(touchpoint("a"))
    heir = await world.writer()

    with pytest.raises(FencedOut):
        await zombie.commit(touchpoint("lost"))
    assert heir.stands.next_offset == 1
    await heir.commit(touchpoint("b"))
    with pytest.raises(FencedOut):
        await zombie.commit(touchpoint("lost"))
    assert await world.count("touchpoints") == 2


async def test_a_batch_can_not_be_committed_twice(world: World) -> None:
    """The fence knows the offset too: a repeated commit of the same batch is refused."""
    writer = await world.writer()
    batch = read_batch(writer.records([encode(touchpoint("a"))]))
    await writer.store.commit(batch, {0: writer.stands}, NOW)

    with pytest.raises(FencedOut):
        await writer.store.commit(batch, {0: writer.stands}, NOW)


async def test_a_claim_waits_for_the_open_batch_of_the_old_owner(world: World) -> None:
    """Claim and batch are ordered by the fence's row: the heir stands behind the batch or fences it."""
    old = await world.writer()
    committed, claimed = await asyncio.gather(
        old.commit(*(touchpoint(str(number)) for number in range(500))),
        world.writer(),
        return_exceptions=True,
    )

    assert isinstance(claimed, Writer)
    assert claimed.stands.next_offset == (0 if isinstance(committed, FencedOut) else 500)


async def test_two_stagers_that_meet_one_new_identity_make_one_customer(world: World) -> None:
    """Whoever comes second runs again and finds the customer that the first one made."""
    writers = [await world.writer(partition) for partition in range(4)]
    for turn in range(10):
        await asyncio.gather(
            *(
                writer.commit(touchpoint(f"{turn}-{writer.partition}", f"user_id:{turn}", day=turn))
                for writer in writers
            )
        )

    assert await world.count("customers") == 10
    assert await world.differences() == []


async def test_two_stagers_that_meet_one_new_id_store_it_once(world: World) -> None:
    """Whoever comes second runs again and finds it there, under whatever customer the first one filed it."""
    writers = [await world.writer(partition) for partition in range(4)]
    for turn in range(10):
        done = await asyncio.gather(
            *(
                writer.commit(
                    touchpoint(f"own-{turn}-{writer.partition}", f"user_id:{writer.partition}", day=turn),
                    *(
                        touchpoint(f"{turn}-{number}", f"user_id:{writer.partition}", day=turn)
                        for number in range(50)
                    ),
                )
                for writer in writers
            )
        )

        assert sum(one.stored for one in done) == 4 + 50
        assert sum(one.duplicates + one.conflicts for one in done) == 3 * 50
    assert await world.differences() == []


async def test_a_large_batch_that_meets_a_known_id_is_run_again_with_a_look(world: World) -> None:
    """Its ids are kept unseen as long as no duplicate is about; then the batches after it look first."""
    writer = await world.writer()
    await writer.commit(touchpoint("known"))
    many = [touchpoint(str(number), f"user_id:{number}") for number in range(2 * ids.UNSEEN_FROM)]
    with_known = read_batch(
        writer.records([encode(one) for one in (*many[: ids.UNSEEN_FROM], touchpoint("known"))])
    )
    with pytest.raises(Contended):
        await writer.store.commit(with_known, {0: writer.stands}, NOW)
    assert await world.count("touchpoints") == 1

    again = await writer.store.commit(with_known, {0: writer.stands}, NOW)
    writer.stands = Claimed(writer.stands.epoch, with_known.advances[0].next_offset, None)
    next_ = read_batch(writer.records([encode(one) for one in many]))
    after = await writer.store.commit(next_, {0: writer.stands}, NOW)

    assert (again.stored, again.duplicates) == (ids.UNSEEN_FROM, 1)
    assert (after.stored, after.duplicates) == (ids.UNSEEN_FROM, ids.UNSEEN_FROM)
    assert await world.differences() == []


async def test_stagers_with_overlapping_customers_keep_the_counters_exact(world: World) -> None:
    """Concurrent batches over the same customers end in the fold of the timelines, without a deadlock."""
    writers = [await world.writer(partition) for partition in range(4)]

    async def work(writer: Writer) -> None:
        for turn in range(8):
            await writer.commit(
                *(
                    touchpoint(
                        f"{writer.partition}-{turn}-{number}",
                        f"user_id:{(number * 7 + writer.partition) % 20}",
                        day=(turn * 13 + number * 5) % 40,
                    )
                    for number in range(25)
                )
            )

    await asyncio.gather(*(work(writer) for writer in writers))

    assert await world.count("touchpoints") == 4 * 8 * 25
    assert await world.differences() == []


async def test_a_late_touchpoint_supersedes_instead_of_erasing(world: World) -> None:
    """A refold keeps the transitions that no longer stand, with the time at which that was learnt."""
    writer = await world.writer()
    await writer.commit(touchpoint("late-second", day=10))
    await writer.commit(touchpoint("first", day=0))

    async with connection_of(world.pool) as connection:
        rows = await connection.fetch(
            "SELECT seq, revision, to_stage, superseded_at FROM stage_transitions "
            "WHERE journey_key = 'purchase-lifecycle' ORDER BY revision, seq"
        )
    assert [tuple(row) for row in rows] == [
        (0, 0, "first", NOW),
        (0, 1, "first", None),
        (1, 1, "repeat", None),
    ]
    assert await world.differences() == []


async def test_the_sweeper_applies_what_is_due_and_nothing_else(world: World) -> None:
    """Time moves a state at its due time, once, and leaves the others."""
    writer = await world.writer()
    await writer.commit(touchpoint("a"), touchpoint("b", "user_id:2", day=100))
    clock = ManualClock(NOW + timedelta(days=60))
    await world.sweep(clock)

    async with connection_of(world.pool) as connection:
        rows = await connection.fetch(
            "SELECT at FROM stage_transitions WHERE to_stage = 'dormant' AND superseded_at IS NULL"
        )
    assert [row["at"] for row in rows] == [EPOCH + timedelta(days=180)]
    assert await world.differences(clock.now()) == []


async def test_the_sweeper_leaves_a_state_alone_that_has_just_been_written(world: World) -> None:
    """While history streams in, time waits for the next touchpoint."""
    writer = await world.writer()
    await writer.commit(touchpoint("a", day=-400))
    clock = ManualClock(NOW + SETTLE - timedelta(microseconds=1))
    await world.sweep(clock)
    before = await world.count("stage_transitions WHERE to_stage = 'dormant'")
    clock.advance(0.000001)
    await world.sweep(clock)

    assert (before, await world.count("stage_transitions WHERE to_stage = 'dormant'")) == (0, 1)


async def test_a_definition_that_comes_later_stages_those_who_were_there_before(world: World) -> None:
    """Whether a customer is met by the backfill or by a new touchpoint first, the whole timeline counts."""
    early = World(world.pool, [])
    writer = await early.writer()
    await writer.commit(*(touchpoint(str(n), f"user_id:{n % 7}", day=n) for n in range(30)))
    clock = ManualClock(NOW)
    heir = await world.writer()
    await heir.commit(touchpoint("new", "user_id:3", day=31), touchpoint("other", "user_id:99", day=31))
    await world.backfill(clock)

    assert await world.differences() == []
    assert await world.count("journey_states") == 8


KEEN = """
key: keen
version: 1
labels: {en: Keen, da: Ivrig, sv: Ivrig}
stages:
  - key: keen
    labels: {en: Keen, da: Ivrig, sv: Ivrig}
    enter: {type: product_viewed, at_least: 2}
"""


async def test_who_has_no_state_after_the_backfill_is_at_the_beginning(world: World) -> None:
    """The backfill keeps what is half-way to a stage too; so a customer without a state can be carried on
    from nothing, without reading the timeline."""
    writer = await World(world.pool, []).writer()
    await writer.commit(
        touchpoint("half", "user_id:half", type_="product_viewed"),
        touchpoint("none", "user_id:none", type_="call_ended"),
    )
    late = World(world.pool, [Journey(parse(KEEN, "keen.yaml"))])
    heir = await late.writer()
    await late.backfill(ManualClock(NOW))
    views = [
        touchpoint(f"more-{who}", f"user_id:{who}", day=1, type_="product_viewed") for who in ("half", "none")
    ]
    await heir.commit(*views)

    assert await late.differences() == []
    assert await world.count("stage_transitions WHERE to_stage = 'keen'") == 1


RICH = """
key: rich
version: 1
labels: {en: Rich, da: Rig, sv: Rik}
stages:
  - key: small
    labels: {en: Small, da: Lille, sv: Liten}
    enter: {type: order_completed}
  - key: large
    labels: {en: Large, da: Stor, sv: Stor}
    enter: {type: order_completed, property: {total: {at_least: 100}}, at_least: 2}
"""


async def test_rules_on_what_touchpoints_carry_hold_for_late_ones_too(world: World) -> None:
    """A refold reads of the stored bodies what the definition asks for, and gives what the fold gives."""
    rich = World(world.pool, [Journey(parse(RICH, "rich.yaml"))])
    writer = await rich.writer()
    large = [touchpoint(f"large-{day}", day=day, body=b'{"total": 150}') for day in (5, 1)]
    await writer.commit(touchpoint("small", day=3, body=b'{"total": 20}'), large[0])
    late = await writer.commit(large[1], touchpoint("view", day=2, type_="page_viewed"))

    assert len(late.changes[0].superseded) == 1
    assert await rich.differences() == []
    assert await world.count("stage_transitions WHERE to_stage = 'large'") == 1


async def test_a_definition_that_is_there_before_any_customer_needs_no_backfill(world: World) -> None:
    """In a new store nobody can have a timeline from before."""
    await world.register()

    assert await Backfill(world.pool, world.in_force, 5, ManualClock(NOW), Failpoints()).page() is None
    assert (await world.in_force.follow()).journeys


async def test_a_definition_can_not_change_under_its_version(world: World) -> None:
    """States of two texts would mix: a changed text needs a higher version."""
    definition = world.journeys[0].definition
    changed = dataclasses.replace(definition, hash="another")
    async with connection_of(world.pool) as connection:
        await register(connection, [definition], NOW)
        with pytest.raises(ConfigError, match="raise it"):
            await register(connection, [changed], NOW)


_events = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 60),
        st.sampled_from(["order_completed", "product_viewed", "offer_declined", "call_ended", "gym_left"]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.parametrize("unseen_from", [1, ids.UNSEEN_FROM])
@given(events=_events, data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_order_duplication_batching_and_sweeping_ends_in_the_fold(
    world: World,
    unseen_from: int,
    events: list[tuple[int, int, str]],
    data: st.DataObject,
) -> None:
    """Through the real store too: whatever came when, states, histories and counters are the fold's."""
    async with connection_of(world.pool) as connection:
        await connection.execute(
            "TRUNCATE customers, identities, touchpoints, touchpoint_ids, journey_states, "
            "stage_transitions, stage_counts, stage_flows, stager_offsets, unknown_types"
        )
    sent = [
        touchpoint(str(number), f"user_id:{who}", day=day * 5, type_=type_)
        for number, (who, day, type_) in enumerate(events)
    ]
    arriving = data.draw(st.permutations(sent + data.draw(st.lists(st.sampled_from(sent), max_size=5))))
    writer = await world.writer(unseen_from=unseen_from)
    clock = ManualClock(NOW + SETTLE)
    while arriving:
        size = data.draw(st.integers(1, 10))
        await writer.commit(*arriving[:size])
        arriving = arriving[size:]
        if data.draw(st.booleans()):
            await world.sweep(clock)
    clock.advance(86_400 * 300)
    await world.sweep(clock)

    assert await world.count("touchpoints") == len(sent)
    assert await world.differences(clock.now()) == []
