"""Ticks of a database without days: all are carried over, and go when they are old."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from app import migrations
from app.embedded import Servers
from app.ledger import proof
from app.maintenance import tick_retention
from app.store.content import partitions
from app.store.db import OPERATOR_SESSION, open_pool
from tests import servers as real

SINCE = datetime(2026, 9, 5, tzinfo=UTC)
# A schedule that is due every six hours, decided up to ten days after the present; its next tick
# was superseded by an edit.
WRITTEN = """
INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,
                       evaluated_through, next_tick_at, due_at)
SELECT 'scrape', 'scrape', '{"every_seconds": 21600, "anchor": "2026-09-05T00:00:00+00:00",
       "jitter_seconds": 0}', '{}', '{}', 1, '2026-09-05T00:00:00Z', true, at, at, at
FROM date_bin('6 hours', now() + interval '10 days', '2026-09-05T00:00:00Z') AS at;
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM schedules;
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)
SELECT id, at, 1, 'skipped', 'paused', now()
FROM schedules,
     generate_series('2026-09-05T06:00:00Z', evaluated_through, interval '6 hours') AS at;
"""
INSERT = """
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)
SELECT schedule_id, $1, version, outcome, reason, decided_at FROM ticks LIMIT 1
"""


@pytest.fixture
def old(servers: Servers) -> Iterator[str]:
    """A database of the schema before there were days, with ticks of the past and the future."""
    name = f"days_{uuid4().hex}"
    dsn = asyncio.run(real.create_database(servers, name))
    migrations.upgrade(dsn, "0046")
    asyncio.run(executed(dsn, WRITTEN))
    yield dsn
    asyncio.run(real.drop_database(servers, name))


async def executed(dsn: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def stored(dsn: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        rows = await connection.fetch("SELECT * FROM ticks ORDER BY scheduled_for")
        return [tuple(row) for row in rows]
    finally:
        await connection.close()


async def parts(dsn: str) -> dict[str, int]:
    """The number of ticks in each partition that has some."""
    connection = await asyncpg.connect(dsn, server_settings=OPERATOR_SESSION)
    try:
        rows = await connection.fetch(
            "SELECT tableoid::regclass::text, count(*) FROM ticks GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows}
    finally:
        await connection.close()


def test_every_tick_is_carried_over_and_back(old: str) -> None:
    before = asyncio.run(stored(old))

    migrations.upgrade(old, "0047")

    days = asyncio.run(parts(old))
    assert asyncio.run(stored(old)) == before
    assert days["ticks_before"] > 4 * 9
    assert {name for name, count in days.items() if count == 4} >= {*days} - {
        "ticks_before",
        "ticks_rest",
    }
    assert days["ticks_rest"] > 4 * 5
    migrations.downgrade(old, "0046")
    assert asyncio.run(stored(old)) == before
    migrations.upgrade(old, "0047")
    assert asyncio.run(stored(old)) == before


def test_a_tick_is_still_decided_once_in_every_partition(old: str) -> None:
    migrations.upgrade(old)
    for at in (SINCE + timedelta(hours=6), *[row[1] for row in asyncio.run(stored(old))[-45::9]]):
        with pytest.raises(asyncpg.UniqueViolationError):
            asyncio.run(executed(old, INSERT, at))


def test_the_ticks_of_before_go_singly_and_their_table_with_its_last_day(old: str) -> None:
    async def prune() -> tuple[list[bool], list[set[str]]]:
        pool = await open_pool(old, size=2)
        try:
            now: datetime = await pool.fetchval("SELECT now()")
            created = await partitions.create_upcoming(pool, now, partitions.TICKS)
            assert len(created) <= 1  # the day after those of the migration, if midnight has passed
            sound: list[bool] = []
            left: list[set[str]] = []
            for before in (SINCE + timedelta(days=9), now + timedelta(days=2)):
                await tick_retention.prune(pool, before)
                (account,) = await proof.verify(pool, now)
                sound.append(account.consistent and account.pruned > 0)
                left.append(await partitions.existing_partitions(pool, partitions.TICKS))
            return sound, left
        finally:
            await pool.close()

    migrations.upgrade(old)

    sound, (first, then) = asyncio.run(prune())

    assert sound == [True, True]
    assert "ticks_before" in first
    assert "ticks_before" not in then
    assert len(asyncio.run(stored(old))) < 4 * 10
