"""What changed in items and runs is kept, and a reader of the feed misses and repeats nothing."""

import asyncio
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.core.errors import Gone
from app.core.records import Item
from app.orgs import tokens
from app.store import tenancy
from app.store.content import changes, items, partitions
from app.store.content.changes import Change, FeedPosition
from app.store.db import Pool
from tests.clock import NOON
from tests.horizon import settled

RUN = uuid4()
WRITERS, WRITES = 8, 25
QUEUED = ("queued", "running")
TOGGLE = """
UPDATE runs SET status = CASE status WHEN 'queued' THEN 'running' ELSE 'queued' END
WHERE execution_id = $1
"""
ADD_RUN = """
INSERT INTO runs (execution_id, job, org_id, trigger, status, attempt, losses, max_attempts,
                  timeout_seconds, lease_epoch, queued_at)
VALUES ($1, 'collection', $2, 'manual', 'queued', 1, 0, 3, 60, 0, now())
"""


@pytest.fixture
async def org(pool: Pool) -> UUID:
    return await tokens.create_org(pool, "Acme", NOON)


async def write(
    pool: Pool, org: UUID | None, at: datetime = NOON, key: str = "k", **data: Any
) -> None:
    async with tenancy.transaction(pool, org) as connection:
        await items.write(connection, org, "shop", [Item("shop", key, data)], at, RUN)


async def with_runs(pool: Pool, org: UUID, count: int) -> list[UUID]:
    runs = [uuid4() for _ in range(count)]
    await pool.executemany(ADD_RUN, [(run, org) for run in runs])
    return runs


async def feed(
    pool: Pool, org: UUID, after: FeedPosition | None = None, limit: int = 100
) -> tuple[list[Change], FeedPosition]:
    """What a reader gets when nobody else's transaction is open."""
    await settled(pool)
    return await read(pool, org, after, limit)


async def read(
    pool: Pool, org: UUID, after: FeedPosition | None = None, limit: int = 100
) -> tuple[list[Change], FeedPosition]:
    async with tenancy.org_transaction(pool, org) as connection:
        return await changes.feed(connection, org, after or FeedPosition(), limit)


def kinds(found: Sequence[Change]) -> list[str]:
    return [one.kind for one in found]


async def test_a_change_is_the_fields_that_moved_with_both_sides(pool: Pool, org: UUID) -> None:
    later = NOON + timedelta(minutes=5)
    await write(pool, org, name="book", price=1, old=None)
    await write(pool, org, name="book", price=1, old=None)
    await write(pool, org, later, name="book", price=2, new="x")

    found, _ = await feed(pool, org)

    assert kinds(found) == ["new", "changed"]
    assert found[1].fields == {
        "price": {"from": 1, "to": 2},
        "old": {"from": None},
        "new": {"to": "x"},
    }
    assert (found[1].source, found[1].key, found[1].at) == ("shop", "k", later)
    assert found[1].run_id == RUN


async def test_values_too_long_for_the_history_leave_their_names(pool: Pool, org: UUID) -> None:
    await write(pool, org, text="a" * 20_000, n=1)
    await write(pool, org, NOON + timedelta(minutes=1), text="b" * 20_000, n=2)

    found, _ = await feed(pool, org)

    assert found[1].fields == {"text": {}, "n": {}}


async def test_an_item_that_goes_and_comes_back_is_told(pool: Pool, org: UUID) -> None:
    await write(pool, org, n=1)
    for minutes in (1, 2):
        at = NOON + timedelta(minutes=minutes)
        await pool.execute("UPDATE items SET absent_since = $1, missing_since = $1", at)
    await write(pool, org, NOON + timedelta(minutes=3), n=2)

    found, _ = await feed(pool, org)

    assert kinds(found) == ["new", "missing", "returned"]
    assert found[2].fields == {"n": {"from": 1, "to": 2}}


async def test_seeing_an_unchanged_item_again_writes_nothing(pool: Pool, org: UUID) -> None:
    await write(pool, org, n=1)
    await write(pool, org, NOON + timedelta(hours=3), n=1)
    await items.touch(pool, org, "shop", ["k"], NOON + timedelta(hours=6))

    found, _ = await feed(pool, org)

    assert kinds(found) == ["new"]


async def test_the_status_of_a_run_is_in_the_feed(pool: Pool, org: UUID) -> None:
    (run,) = await with_runs(pool, org, 1)
    await pool.execute(TOGGLE, run)

    found, _ = await feed(pool, org)

    assert [(one.kind, one.run_id, one.fields) for one in found] == [
        ("run", run, {"status": {"from": "queued", "to": "running"}})
    ]


async def test_history_is_of_one_key_newest_first(pool: Pool, org: UUID) -> None:
    for n in range(4):
        await write(pool, org, NOON + timedelta(minutes=n), n=n)

    async with tenancy.org_transaction(pool, org) as connection:
        first = await changes.history(connection, org, "k", 2)
        rest = await changes.history(connection, org, "k", 9, before=first[-1].id)
        other = await changes.history(connection, org, "another", 9)

    assert [one.fields and one.fields["n"]["to"] for one in (*first, *rest)] == [3, 2, 1, None]
    assert other == []


async def test_a_commit_that_comes_late_is_not_skipped(pool: Pool, org: UUID) -> None:
    (slow_run,) = await with_runs(pool, org, 1)
    async with pool.acquire() as slow:
        late = slow.transaction()
        await late.start()
        await slow.execute(TOGGLE, slow_run)
        await write(pool, org, n=1)  # begins later and commits first
        before, place = await read(pool, org)
        await late.commit()

    after, _ = await feed(pool, org, place)

    assert before == []
    assert kinds(after) == ["run", "new"]


async def test_a_reader_beside_eight_writers_gets_every_change_once_and_in_order(
    pool: Pool, org: UUID
) -> None:
    runs = await with_runs(pool, org, WRITERS)
    writing = asyncio.gather(*(_writes(pool, org, run) for run in runs))
    seen: list[Change] = []
    place = FeedPosition()
    async with asyncio.timeout(60):
        while len(seen) < WRITERS * WRITES:
            found, place = await read(pool, org, place, limit=7)
            seen += found
    await writing
    seen += (await feed(pool, org, place))[0]

    result = {run: [one.fields for one in seen if one.run_id == run] for run in runs}
    steps = [{"status": {"from": a, "to": b}} for a, b in (QUEUED, QUEUED[::-1])]
    assert result == dict.fromkeys(runs, (steps * WRITES)[:WRITES])
    assert [one.place for one in seen] == sorted(one.place for one in seen)


async def _writes(pool: Pool, org: UUID, run: UUID) -> None:
    chance = random.Random(run.int)  # noqa: S311 - only to vary the order
    for _ in range(WRITES):
        async with tenancy.org_transaction(pool, org) as connection:
            await connection.execute(TOGGLE, run)
            await asyncio.sleep(chance.random() / 50)  # commits come in another order


async def test_one_organisations_feed_has_nothing_of_anothers(pool: Pool, org: UUID) -> None:
    other = await tokens.create_org(pool, "Other", NOON)
    await write(pool, other, n=1)
    await write(pool, None, n=1)

    async with tenancy.org_transaction(pool, org) as connection:
        found, _ = await changes.feed(connection, other, FeedPosition(), 100)
        rows = await connection.fetchval("SELECT count(*) FROM changes")

    assert (found, rows) == ([], 0)


async def test_positions_go_on_when_a_dump_is_restored_where_transactions_are_fewer(
    pool: Pool, org: UUID
) -> None:
    await changes.continue_clock(pool)
    await write(pool, org, n=1)
    _, place = await feed(pool, org)
    # As if the transactions of another server began anew.
    await pool.execute("UPDATE change_clock SET base = base - 1000000, system = system + 1")

    await changes.continue_clock(pool)
    await write(pool, org, NOON + timedelta(minutes=1), n=2)
    await changes.continue_clock(pool)

    assert kinds((await feed(pool, org, place))[0]) == ["changed"]


async def test_a_reader_is_told_when_what_it_has_not_read_was_dropped(
    pool: Pool, org: UUID
) -> None:
    await partitions.create_upcoming(pool, NOON, partitions.CHANGES)
    await write(pool, org, n=1)
    (first,), _ = await feed(pool, org, limit=1)
    await write(pool, org, NOON + timedelta(minutes=1), n=2)

    following = partitions.next_month(partitions.month_start(NOON))
    dropped = await partitions.drop_ended(pool, following, partitions.CHANGES)

    with pytest.raises(Gone):
        await feed(pool, org, first.place)
    again, place = await feed(pool, org)
    assert dropped == [f"changes_{NOON:%Y_%m}"]
    assert again == []
    assert (await feed(pool, org, place))[0] == []


async def test_what_is_kept_from_before_the_dropped_is_not_read_again_and_again(
    pool: Pool, org: UUID
) -> None:
    await partitions.create_upcoming(pool, NOON, partitions.CHANGES)
    following = partitions.next_month(partitions.month_start(NOON))
    await write(pool, org, following, "ahead")  # the clock of its worker is
    await write(pool, org, NOON, "dropped")
    await write(pool, org, following, "kept")
    await partitions.drop_ended(pool, following, partitions.CHANGES)

    (first,), place = await feed(pool, org, limit=1)

    assert first.key == "kept"
    assert (await feed(pool, org, place))[0] == []


async def test_partitions_are_reached_through_their_table_only(pool: Pool, org: UUID) -> None:
    await partitions.create_upcoming(pool, NOON, partitions.CHANGES)
    await write(pool, org, n=1)
    month = f"changes_{NOON:%Y_%m}"

    async with tenancy.org_transaction(pool, org) as connection:
        whole = await connection.fetchval("SELECT count(*) FROM changes")
        parts = [
            await connection.fetchval(f"SELECT count(*) FROM {part}")  # noqa: S608 - our own
            for part in (month, "changes_rest")
        ]

    assert (whole, parts) == (1, [0, 0])


async def test_old_changes_of_no_month_are_deleted_and_noted(pool: Pool, org: UUID) -> None:
    await write(pool, org, n=1)
    (first,), _ = await feed(pool, org, limit=1)

    await partitions.drop_ended(pool, NOON + timedelta(hours=1), partitions.CHANGES)

    with pytest.raises(Gone):
        await feed(pool, org, first.place)
    assert await pool.fetchval("SELECT count(*) FROM changes") == 0
